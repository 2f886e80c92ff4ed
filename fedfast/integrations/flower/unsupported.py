"""Why an app's messages are answered by its own functions."""


class Unsupported(Exception):
    """What the adapter cannot compute; the text is the reason that users read."""
