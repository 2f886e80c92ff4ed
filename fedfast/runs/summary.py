"""`summary.md` and `curves.png`: what is read of a run folder when it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..config import RunConfig
from ..files import atomic
from ..report import plots, run_table
from ..signals import undisturbed
from .folder import RunFolder

if TYPE_CHECKING:
    from ..cli.setting import Setting


def write(folder: RunFolder, setting: Setting, name: str, ending: str = "") -> None:
    """Writes both, and error.txt where there is a traceback. Raises OSError naming the file.

    name    of the run, for people
    ending  how it ended, where it ended early
    """
    histories = {label: history for label, history in folder.histories.items() if len(history)}
    with undisturbed():
        _write_traceback(folder)
        text = (
            f"{_heading(folder.config, setting, name, ending)}\n\n{run_table.markdown(histories)}"
        )
        remarks = [f"- **{label}**: {what}\n" for label, what in _remarks(folder)]
        text += "".join(["\n", *remarks] if remarks else [])
        if histories:
            atomic(folder.path / "curves.png", lambda to: plots.curves(histories, to))
            text += "\n![Accuracy and loss per round](curves.png)\n"
        to = folder.path / "summary.md"
        atomic(to, lambda to: to.write_text(text, encoding="utf-8"))


def _write_traceback(folder: RunFolder) -> None:
    path = folder.path / "error.txt"
    if folder.traceback:
        path.write_text(folder.traceback, encoding="utf-8")
    else:
        path.unlink(missing_ok=True)  # of an earlier part of the run, which has gone on


def _remarks(folder: RunFolder) -> Iterator[tuple[str, str]]:
    for label, about in folder.about.items():
        if about.memory:
            yield label, about.memory
        if about.ended:
            yield label, about.ended


def _heading(config: RunConfig, setting: Setting, name: str, ending: str) -> str:
    """What was run, and how it ended where it ended early."""
    part = config.partition.model_dump(exclude={"name", "clients", "seed"}, exclude_none=True)
    skew = ", ".join(f"{key} {value}" for key, value in part.items())
    lines = [
        f"# {name}",
        f"{setting}; {config.partition.name} partition{f' ({skew})' if skew else ''}, "
        f"model {config.model.name}, {config.rounds} rounds, participation "
        f"{config.participation:g}, {config.local_epochs} local epochs, lr {_rate(config.lr)}, "
        f"{f'augmented by {config.augment}, ' if config.augment else ''}"
        f"seed {config.seed}. Accuracy and loss are the global model's on the test set.",
    ]
    return "\n\n".join([*lines, f"**{ending}**"] if ending else lines)


def _rate(lr: object) -> str:
    """`0.1`, or `cosine (start 0.1, rounds 300)`."""
    if not isinstance(lr, dict):
        return f"{lr:g}"
    return f"{lr['name']} ({', '.join(f'{k} {v}' for k, v in lr.items() if k != 'name')})"
