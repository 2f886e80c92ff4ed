"""The mean of a cohort's models that shows every chunk to a `Watch`."""

from __future__ import annotations

from torch import Tensor

from ... import kernels
from ...aggregation import Mean
from ...algorithms.hooks import TrainedLayout
from ...kernels import Column
from ...kernels.registry import capabilities
from ...mean_passes import Chunk, Ending, RecordedPasses, Squares
from ...running_sum import Place
from .watch import Watch


class _NotedPasses(RecordedPasses):
    """Passes whose latest squares can be read once more."""

    latest: list[Squares]

    def run(self, chunk: Chunk) -> list[Squares]:
        """See `RecordedPasses.run`."""
        self.latest = super().run(chunk)
        return self.latest


class WatchedMean(Mean):
    """A mean that shows every chunk to a `Watch`."""

    def __init__(self, like: Tensor, layout: TrainedLayout, backend: str, watch: Watch) -> None:
        super().__init__(like, layout, backend)
        self._watch = watch
        self._passes = self._noted = _NotedPasses(self._regions, capabilities(backend, like).plans)

    def add(
        self, models: Tensor, weights: Tensor, sent: Tensor, place: Place, ending: Ending | None
    ) -> Tensor:
        """See `Mean.add`."""
        bad = super().add(models, weights, sent, place, ending)
        self._watch.see(models, self._squares(models, sent), sent, place)
        return bad

    def _squares(self, models: Tensor, sent: Tensor) -> Tensor:
        """`|u_k|^2` [K] of the trained region; with buffers behind it a pass has other regions in
        the last chunk than in those before."""
        trained = self.layout.trained
        if models.shape[1] == trained:
            return self._noted.latest[0][0]
        sums = kernels.stats(models[:, :trained], x_ref=sent[:trained], backend=self.backend)
        return sums[:, 0, Column.XX]
