"""MLflow: a run of theirs for each label, in a folder unless another store is named."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...history import Row
from ...signals import undisturbed
from ..base import CALLBACKS, RunInfo
from . import kept
from .base import Logger
from .values import group, numbers, options, outcome, title

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from ..base import Sim

EVERY = 5.0  # seconds between two calls, each of which rewrites files or asks a server
ROOM = 900  # numbers at most in one call: MLflow takes 1000
TEXT = 6000  # characters of a parameter, at most


@CALLBACKS.register("mlflow")
class MLflow(Logger):
    """Numbers of each round as metrics, at step = round; the options as parameters; how it ended as
    tags.

    tracking_uri  a folder, sqlite:///FILE or the address of a server; null = what
                  MLFLOW_TRACKING_URI says, else the folder mlruns here
    experiment    of MLflow that the runs belong to; made where there is none

    Numbers are handed over every five seconds and whenever the simulation is saved. A run that goes
    on is the same run of MLflow; rounds that it holds already are not logged again. Options that
    have changed since are tags: MLflow's parameters are final.
    """

    name, package = "mlflow", "mlflow"

    def __init__(self, tracking_uri: str | None = None, experiment: str = "fedfast") -> None:
        super().__init__()
        self.tracking_uri, self.experiment = tracking_uri, experiment
        self._client: MlflowClient | None = None
        self._id, self._sent, self._info = "", 0.0, RunInfo("")
        self._pending: list[Metric] = []

    def begin(self, sim: Sim, run: RunInfo) -> int:
        """Begins or goes on with a run of MLflow."""
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
        self._client, self._info = _client(uri), run
        known = kept.read(run.folder, run.label, self.name).get("id") if sim.round else None
        self._id = self._existing(str(known)) if known else ""
        if self._id:
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._create(run)
        self._log_options(options(sim, run))
        self._pending, self._sent = [], time.monotonic()
        steps = (metric.step for metric in self._client.get_metric_history(self._id, "lr"))
        return max(steps, default=0)

    def write(self, row: Row) -> None:
        """Hands its numbers over, at once or a little later."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found = numbers(row).items()
        self._pending += [Metric(name, value, now, row.round) for name, value in found]
        if len(self._pending) > ROOM or time.monotonic() - self._sent > EVERY:
            self.flush()

    def flush(self) -> None:
        """Hands over what is left."""
        assert self._client is not None
        while self._pending:
            with undisturbed():  # each number once
                self._client.log_batch(self._id, metrics=self._pending[:ROOM])
                del self._pending[:ROOM]
        self._sent = time.monotonic()

    def finish(self, sim: Sim) -> None:
        """Tags the run with how it ended: FINISHED, FAILED after divergence, KILLED early."""
        assert self._client is not None
        self.flush()
        self._tag({f"outcome.{name}": value for name, value in outcome(sim.history).items()})
        complete = sim.round >= sim.rounds or bool(sim.stop_reason)
        status = "FAILED" if sim.stopped else "FINISHED" if complete else "KILLED"
        self._client.set_terminated(self._id, status)

    def discard(self) -> None:
        """Deletes the run."""
        assert self._client is not None
        self._client.delete_run(self._id)
        kept.remove(self._info.folder, self._info.label)

    def _existing(self, known: str) -> str:
        """The id again, if the store has such a run; else "": a new one is made."""
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        try:
            return str(self._client.get_run(known).info.run_id)
        except MlflowException:
            return ""

    def _create(self, run: RunInfo) -> None:
        from mlflow.exceptions import MlflowException

        assert self._client is not None
        found = self._client.get_experiment_by_name(self.experiment)
        if found is None:
            try:
                chosen = self._client.create_experiment(self.experiment)
            except MlflowException:  # another process was first
                found = self._client.get_experiment_by_name(self.experiment)
                if found is None:
                    raise
        chosen = chosen if found is None else found.experiment_id
        tags = {"label": run.label, "group": group(run)}
        self._id = self._client.create_run(chosen, tags=tags, run_name=title(run)).info.run_id
        kept.write(run.folder, run.label, self.name, {"id": self._id})

    def _log_options(self, found: dict[str, object]) -> None:
        """Parameters, as text; as tags those that another part of the run has set otherwise."""
        from mlflow.entities import Param

        assert self._client is not None
        there = self._client.get_run(self._id).data.params
        texts = {name: str(value)[:TEXT] for name, value in found.items()}
        new = [Param(name, text) for name, text in texts.items() if name not in there]
        for at in range(0, len(new), 100):  # as many as a call may have
            self._client.log_batch(self._id, params=new[at : at + 100])
        self._tag({n: text for n, text in texts.items() if there.get(n, text) != text})

    def _tag(self, values: Mapping[str, object]) -> None:
        assert self._client is not None
        for name, value in values.items():
            self._client.set_tag(self._id, name, value)


def _client(uri: str) -> MlflowClient:
    """Of the store; a folder's is made without a word to anybody."""
    scheme = uri.partition(":")[0] if ":" in uri else "file"
    if scheme == "file":
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # new versions ask for it
        uri = uri if uri.startswith("file:") else Path(uri).resolve().as_uri()
    if scheme in ("file", "sqlite"):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server that is gone would hold up the rounds for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)
