"""Adapters: fedfast under other frameworks, each an extra of its own."""
