"""Section `choices`: where cuDNN or cuBLAS beats Triton: rows of `kernels/choices.csv`.

For every product of W1 to W5 and each of its parts all candidates are timed beside Triton, with
operands from memory, for 10, then 5, then 100 clients; one that is not `MARGIN` times as fast for
some K is not timed any further. The fastest at the least of its K is tried (`trials.py`); what is
refused leaves its place to the next. Where Triton stays the fastest it gets a row too.

Products that have a row for this device, precision and these libraries, in the repository or beside
the rows of the campaign, are not timed again: a second call goes on where the first one ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from fedfast.kernels import choices_file, registry
from fedfast.kernels.choices import TRITON, Row, Shape, Table
from fedfast.kernels.library.candidates import CANDIDATES

from gpu_sections.campaign import Campaign, ratio
from gpu_sections.products import Layer, Operands, layers
from gpu_sections.trials import refused, several_tried

PRECISIONS = ("tf32x3", "tf32")  # what a run has by default, and the fastest
MARGIN = 1.05
Part = tuple[str, str]  # (precision, part)
Key = tuple[str, str, Shape]  # (precision, part, layer)


def run(campaign: Campaign) -> None:
    """All layers; a row is kept as soon as it is known."""
    table, known = _begun(campaign), _known(campaign)
    for layer in layers(campaign):
        with campaign.trying(layer.name):
            for row in _rows(campaign, layer, known):
                table = table.joined([row])
                text = choices_file.text(table)
                campaign.beside("choices.csv").write_text(text, encoding="utf-8")


def _begun(campaign: Campaign) -> Table:
    """What an earlier call has left beside the campaign's rows."""
    made = campaign.beside("choices.csv")
    return choices_file.read(made) if made.exists() else Table()


def _known(campaign: Campaign) -> set[Key]:
    """What has a row for this device and these libraries."""
    if not campaign.timed:
        return set()
    machine = registry.machine(campaign.device)
    table = choices_file.read(choices_file.PATH).joined(_begun(campaign))
    rows = (row for row in table if (row.device, row.libraries) == machine)
    return {(row.precision, row.part, row.shape) for row in rows}


def launches(campaign: Campaign) -> None:
    """What Triton launches here, for `compiling.py`."""
    for layer in layers(campaign):
        for clients in _several(campaign):
            operands = Operands(layer, clients, campaign.device)
            for precision in PRECISIONS:
                for part in dict.fromkeys(("forward", *layer.parts)):
                    with campaign.trying(layer.name):
                        operands.call(part, TRITON, precision)


def keep(campaign: Campaign) -> None:
    """The campaign's rows become the repository's."""
    made = campaign.beside("choices.csv")
    if made.exists():
        joined = choices_file.read(choices_file.PATH).joined(choices_file.read(made))
        choices_file.PATH.write_text(choices_file.text(joined), encoding="utf-8")


def _rows(campaign: Campaign, layer: Layer, known: Set[Key]) -> Iterator[Row]:
    """Of the parts that are not known."""
    able = [c.name for c in CANDIDATES.values() if layer.shape.operation in c.operations]
    precisions = PRECISIONS
    if campaign.rehearsal:
        able, precisions = [name for name in able if "-5" in name], PRECISIONS[:1]
    gains: dict[Part, dict[str, float | None]] = {
        (precision, part): dict.fromkeys(able)
        for precision in precisions
        for part in layer.parts
        if (precision, part, layer.shape) not in known
    }
    failed: set[Part] = set()  # whose table stays open: another campaign tries again
    for clients in _several(campaign) if gains else ():
        copies = campaign.copies(8.0 * clients * layer.numbers)
        banks = [Operands(layer, clients, campaign.device) for _ in range(copies)]
        for (precision, part), found in gains.items():
            if not _timed(campaign, banks, precision, part, found):
                failed.add((precision, part))
    for (precision, part), found in gains.items():
        row = _row(campaign, banks[0], precision, part, found)
        name = TRITON if row is None else row.candidate
        subject = f"{layer.name} {part}, {precision}"
        campaign.row(subject, "chosen", name if campaign.timed else None, headline=True)
        if row is not None or (campaign.timed and (precision, part) not in failed):
            machine = registry.machine(campaign.device)
            yield row or Row(*machine, precision, part, layer.shape, TRITON)


def _several(campaign: Campaign) -> tuple[int, ...]:
    """Numbers of clients; the last has all that trials need."""
    return (2,) if campaign.rehearsal else (10, 5, 100)


def _timed(
    campaign: Campaign,
    banks: list[Operands],
    precision: str,
    part: str,
    gains: dict[str, float | None],
) -> bool:
    """Candidates that are not faster for this K too are dropped; the others' least gain is kept.

    False where one could not run.
    """
    layer, clients = banks[0].layer, len(banks[0].x)
    for bank in banks:
        bank.call("forward", TRITON, precision)

    def seconds(backend: str) -> float | None:
        return campaign.seconds(lambda i: banks[i].call(part, backend, precision), len(banks))

    triton, all_ran = seconds(TRITON) if gains else None, True
    for name, before in list(gains.items()):
        subject = f"{layer.name} {part}, {precision}, K = {clients}"
        gain, failed = None, True
        with campaign.trying(f"{subject} {name}"):
            gain, failed = ratio(triton, seconds(name)), False
        if failed:
            del gains[name]
            all_ran = False
            continue
        campaign.row(subject, f"{name} beside triton", gain, "times")
        if gain is not None and gain < MARGIN:
            del gains[name]
        elif gain is not None:
            gains[name] = gain if before is None else min(gain, before)
    return all_ran


def _row(
    campaign: Campaign,
    operands: Operands,
    precision: str,
    part: str,
    gains: dict[str, float | None],
) -> Row | None:
    """The fastest that passes its trials; a rehearsal tries all, and has no row."""
    for name, gain in sorted(gains.items(), key=lambda pair: -(pair[1] or 0.0)):
        several = several_tried(len(operands.x), CANDIDATES[name].clients)
        why = refused(operands, precision, part, name, several)
        subject = f"{operands.layer.name} {part}, {precision}, {name}"
        campaign.row(subject, "refused" if why else "tried", why or "alike", headline=bool(why))
        if gain is not None and not why:
            machine = registry.machine(campaign.device)
            return Row(*machine, precision, part, operands.layer.shape, name, several, gain)
    return None
