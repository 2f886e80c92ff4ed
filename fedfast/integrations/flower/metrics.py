"""A reply's metrics: which figure of a node each of them is, found by comparing values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from flwr.app import MetricRecord, RecordDict

from .unsupported import Unsupported

Figures = Mapping[str, float]
CLOSE = 1e-5


class Metrics:
    """For each metric of an app's reply the figures that it may be.

    It is narrowed by every reply of the app's own that it sees.
    """

    def __init__(self, key: str, values: MetricRecord, figures: Figures) -> None:
        self.key, self.whole = key, {n for n, v in values.items() if isinstance(v, int)}
        self.may: dict[str, list[str]] = {name: list(figures) for name in values}
        self.narrow(values, figures)

    def narrow(self, values: MetricRecord, figures: Figures, close: float = CLOSE) -> None:
        """Keep what equals the app's own values too. Raises Unsupported where nothing does."""
        if values.keys() != self.may.keys():
            raise Unsupported(f"metrics that vary: {sorted(values)} and {sorted(self.may)}")
        for name, value in values.items():
            left = [f for f in self.may[name] if _same(figures.get(f, math.nan), value, close)]
            if not left:
                raise Unsupported(f"the metric {name!r} = {value!r}: {_known(figures)}")
            self.may[name] = left

    def decided(
        self, figures: Figures, ask: Callable[[], tuple[MetricRecord, Figures]]
    ) -> MetricRecord:
        """A node's metrics from its figures.

        ask  (the app's own metrics of this node, the figures they are among): where two figures
             that a metric may be differ here, they decide
        """
        record = self._record(figures)
        if record is None:
            self.narrow(*ask())
            record = self._record(figures)
        if record is None:
            raise Unsupported(f"metrics that may be several figures: {self.may}")
        return record

    def _record(self, figures: Figures) -> MetricRecord | None:
        found = MetricRecord()
        for name, candidates in self.may.items():
            first, *others = (figures.get(f, math.nan) for f in candidates)
            if not all(_same(other, first, 1e-9) for other in others):
                return None
            found[name] = int(first) if name in self.whole else first
        return found


def _same(found: float, value: object, close: float = CLOSE) -> bool:
    if isinstance(value, list) or not isinstance(value, (int, float)):
        return False
    if isinstance(value, int):
        return found == value
    return math.isclose(found, value, rel_tol=close, abs_tol=close / 100) or (
        math.isnan(found) and math.isnan(value)
    )


def _known(figures: Figures) -> str:
    known = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
    return f"it is none of {known}"


def metric_record(content: RecordDict) -> tuple[str, MetricRecord]:
    """(key, record) of a reply's only MetricRecord."""
    found = [(k, r) for k, r in content.items() if isinstance(r, MetricRecord)]
    if len(found) != 1 or any(not hasattr(r, "keys") for r in content.values()):
        raise Unsupported(f"replies with {len(found)} MetricRecords; expected one")
    return found[0]
