"""The version, for modules that `fedfast` itself imports."""

__version__ = "0.1.0"
