"""Short runs of every algorithm and of the benchmark's models end in the bits they ended in before.

Where a digest differs, a result has changed, though perhaps in one bit; `digests.py` says what the
file holds and when it may be written anew.
"""

from __future__ import annotations

import pytest
from digests import PARTS, THREADS, kept, measured, parts, version


def test_every_run_ends_in_the_bits_of_before() -> None:
    """One test for all of them, since all are made in one process."""
    if not parts():
        pytest.skip(f"the file has digests for {', '.join(PARTS)}; this processor has none of them")
    expected, found = kept(), measured("some")
    assert expected[parts()[-1]].keys() <= found[parts()[-1]].keys()
    same_torch = expected["torch"] == version()
    changed = [
        f"{part}: {name}"
        for part, digests in found.items()
        for name in digests.keys() & expected[part].keys()  # what is new has no digest yet
        if digests[name] != expected[part][name] and (same_torch or not name.startswith("generic"))
    ]
    assert changed == []


@pytest.mark.parametrize("part", PARTS)
def test_two_threads_give_the_bits_of_one(part: str) -> None:
    """As the file has them; the test above holds the runs to the file."""
    expected = kept()[part]
    repeated = [name for name in expected if name.endswith(THREADS)]
    assert repeated
    assert all(expected[name] == expected[name.removesuffix(THREADS)] for name in repeated)
