"""Samples per client and class of the partitions that runs had, dealt anew."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..cli.partition import title
from ..cli.setting import USER, deal

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..run_records import RunRecord

MOST = 6  # partitions that are drawn


def of(
    groups: Mapping[str, Sequence[RunRecord]],
) -> tuple[dict[str, np.ndarray], list[str]]:
    """(title -> counts int64 [N, classes] of each distinct partition, why others have none).

    Of each group the partition of its first seed. Nothing is downloaded: where the data are not at
    hand, or their targets are no classes, there is no chart, and a note says why.
    """
    configs = {_identity(runs[0].config): runs[0].config for runs in groups.values()}
    found: dict[str, np.ndarray] = {}
    notes = []
    for config in list(configs.values())[:MOST]:
        try:
            found[title(config)] = deal(config)[1].counts()
        except USER as error:
            notes.append(f"partition of {title(config)} not drawn: {' '.join(str(error).split())}")
    if len(configs) > MOST:
        notes.append(f"partitions: the first {MOST} of {len(configs)} are drawn")
    return found, notes


def _identity(config: RunConfig) -> str:
    """What the dealing depends on."""
    about = [config.data.model_dump(), config.partition_options(), config.partition.name]
    return json.dumps([*about, config.local_test, config.seed], sort_keys=True, default=repr)
