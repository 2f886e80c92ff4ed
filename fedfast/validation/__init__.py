"""Checks of a user's arguments: each error names the argument, what was expected, what came."""
