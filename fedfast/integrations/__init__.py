"""Adapters to other libraries, each of them an extra: they use public names of fedfast alone."""
