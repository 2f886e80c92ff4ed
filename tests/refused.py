"""`refused`: a call that asks for too much, or is given another type, raises at once."""

import resource
import time

import pytest


def refused(call, message, error=(ValueError, TypeError)):
    """The call raises with this message, within three seconds and 200 MB."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(error, match=message):
        call()
    assert time.perf_counter() - begin < 3  # a second, and what a busy machine adds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
