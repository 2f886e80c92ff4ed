"""Whatever a public callable is given: it works, or says which argument is wrong, and how."""

from __future__ import annotations

from bad_calls import HOSTILE, Target, shown, targets, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@st.composite
def calls(draw: st.DrawFn) -> tuple[Target, dict[str, str]]:
    """A target, and hostile values for one or two of its arguments."""
    target = draw(st.sampled_from([t for t in targets() if t.valid()]))
    some = draw(st.lists(st.sampled_from(sorted(target.valid())), min_size=1, max_size=2))
    return target, {name: draw(st.sampled_from(sorted(HOSTILE))) for name in some}


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(calls())
def test_errors_name_the_argument(call: tuple[Target, dict[str, str]]) -> None:
    target, bad = call
    assert verdict(target, bad) == "", shown(target, bad)
