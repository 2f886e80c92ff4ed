"""docs/benchmarks.md's table and docs/peers.png."""


def write() -> None:
    """Renew both."""
