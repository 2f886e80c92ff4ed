"""Calls of an algorithm's hooks, held to what each of them may write."""

from __future__ import annotations

from torch import Tensor

from .algorithms import Algorithm
from .algorithms._hook_checks import foreign, overrides
from .algorithms._return_checks import number_rows
from .algorithms.hooks import Clients, Component, TrainedLayout
from .read_only import ReadOnly, class_names


class HookCalls:
    """The hooks that a chunk's clients are shown to after their local steps."""

    def __init__(
        self, algorithm: Algorithm, layout: TrainedLayout, row: Tensor, decay: float
    ) -> None:
        self.algorithm, self.decay = algorithm, decay
        self.foreign = any(foreign(part) for part in (algorithm, *algorithm.components))
        self.uploads, self.personal = algorithm.uploads, algorithm.personal
        parts = (algorithm, Algorithm), *((part, Component) for part in algorithm.components)
        self.finishes = any(overrides(part, "finish", kind) for part, kind in parts)
        self.padding = (~layout.real(row.device)).nonzero()[:, 0]

    def upload(self, at: Clients, models: Tensor) -> None:
        """What clients send, in the place of the models [K, S] they end with."""
        if not self.uploads:
            return
        self._keep_model(at, models)  # theirs is the model before
        w, held = at.w, self.guarded(at, {})
        self.algorithm.upload(at)
        self._check_bound(at, w, "upload", "change it in place: at.w.copy_(...)")
        at.w[:, self.padding] = 0.0
        held.check(self.algorithm, "upload", "What a client sends is at.w.")

    def finish(self, at: Clients, models: Tensor) -> dict[str, Tensor]:
        """The hook after the mean; it can change neither the models nor what was sent."""
        if not self.uploads:
            self._keep_model(at, models)
        if not self.finishes:
            self._count_epochs(at)
            return {}
        w, held = at.w, self.guarded(at, {"at.w": at.w})
        found = number_rows(self.algorithm, self.algorithm.finish(at), at)
        remedy = "The mean is taken already; `upload(at)` is called before it"
        self._check_bound(at, w, "finish", remedy)
        held.check(self.algorithm, "finish", f"{remedy}.")
        self._count_epochs(at)
        return dict(found)

    def guarded(self, at: Clients, more: dict[str, Tensor]) -> ReadOnly:
        """What a hook may not write to."""
        server = {f"at.server[{name!r}]": t for name, t in at.server.items()}
        return ReadOnly({"at.start": at.start} | server | more, self.foreign)

    def _count_epochs(self, at: Clients) -> None:
        if self.decay != 1.0:
            at.values["epochs"] += at.epochs

    def _keep_model(self, at: Clients, models: Tensor) -> None:
        if self.personal is not None:
            at.kept[self.personal].copy_(models)

    def _check_bound(self, at: Clients, w: Tensor, hook: str, remedy: str) -> None:
        if at.w is not w:
            who = class_names(self.algorithm)
            raise ValueError(f"at.w: {hook} of {who} bound it to another tensor; {remedy}")
