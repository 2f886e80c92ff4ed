"""Why something is left to pfl's own loop."""


class NotBatched(Exception):
    """A model, an algorithm or data that cannot train in a cohort; its text is the reason."""
