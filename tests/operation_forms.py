"""Forms and sizes in which `test_operations.py` calls every operation; see `operation_inputs`."""

from __future__ import annotations

from typing import Any

from fedfast.kernels import PlacedRows, Segments, Server
from operation_images import IMAGES
from operation_inputs import Cases, Draw, Form
from operation_layers import LAYERS as LAYER_CASES
from torch import Tensor


def segments(draw: Draw) -> Segments:
    """Weights and others, an empty one, padding between and behind; a single one in a tiny row."""
    size = draw.sizes["S"]
    a, b = size // 3, size // 2
    table = Segments.whole(size)
    if size >= 16:
        starts, lengths = [0, a + 2, b, b + 1], [a, b - a - 2, 0, size - b - 3]
        table = Segments.of(starts, lengths, [True, False, True, True])
    draw.sizes["L"] = table.count
    return table


def terms(count: int) -> Any:
    """So many terms; the second has the coefficient -0.5, the others one per client."""

    def make(draw: Draw) -> list[tuple[Tensor, Any]]:
        shape = draw.shape("K S")
        return [(draw.operand(*shape), -0.5 if j == 1 else draw.vector()) for j in range(count)]

    return make


def placed(draw: Draw) -> PlacedRows:
    """A bank whose rows are a table's."""
    return draw.placed(draw.operand(*draw.shape("K S")))


def with_placed(draw: Draw) -> list[tuple[Any, Any]]:
    """A gradient and a placed correction."""
    return [*terms(1)(draw), (placed(draw), draw.vector())]


def radii(draw: Draw) -> Tensor:
    """One per client and layer."""
    return draw.numbers(draw.clients, segments(draw).count)


ROW_SIZES = dict(
    small=(dict(S=1), dict(S=33), dict(S=1023)),
    native=(dict(S=31), dict(S=4097), dict(S=12345)),
    large=((7, dict(S=40001)), (1, dict(S=300001))),
)
LAYERS = dict(segments=segments)
WHOLE = dict(segments=None, L=1)
PLAIN = dict(terms=terms(1), rho=0.5, alpha=0.0, without="norm segments")
SGD = dict(terms=terms(1), weight_decay=0.0, momentum=0.0, without="w_ref clip_norm m squares")
MOVING = dict(terms=terms(1), clip_norm=None, without="w_ref squares")


# A second moment away from zero, where its root and the division are well posed.
ADAM = dict(
    v=lambda draw: draw.vector(*draw.shape("K S")),
    t=lambda draw: 2.0 + 50 * draw.vector(),
    beta1=0.875,
    beta2=0.984375,
    eps=2.0**-20,
    decoupled=False,
)


def clip(share: float) -> Any:
    """A largest norm: below 1 it bites."""
    return lambda draw: draw.vector() * share * draw.sizes["S"] ** 0.5


def sums_of_squares(draw: Draw) -> Tensor:
    return draw.numbers(draw.clients, 3).double().square()


def served(rule: str) -> Form:
    """Moments drawn away from zero, where the division of the adaptive rules is well posed."""
    moment = dict(v=lambda d: d.vector(d.sizes["S"]) + 0.5)
    return ALONE | dict(server=Server(rule, lr=0.5), without="nodes") | moment


# All clients of a sum, and parts of a larger one that goes on: from its 5th client, and in a run of
# leaves of 4 that begins with the 9th.
ALONE = dict(first=True, at=0, of=0, begin=0)
PART = dict(server=None, first=True, at=4, of=40, begin=0, N=4, without="w m v out")
RUN = PART | dict(at=12, of=200, begin=8)


ROW_CASES: dict[str, Cases] = {
    "perturb": Cases(
        {
            "sam": PLAIN,
            "radius per client": PLAIN | dict(rho=Draw.vector),
            "segments": PLAIN | LAYERS | dict(without="norm"),
            "three terms": PLAIN | dict(terms=terms(3), alpha=Draw.vector),
            "four terms": PLAIN | dict(terms=terms(4), without="segments"),
            "placed": PLAIN | dict(terms=with_placed),
            "layers": PLAIN | LAYERS | dict(rho=radii, without="norm"),
            "layers, sagm": PLAIN | LAYERS | dict(rho=radii, alpha=Draw.vector, without=""),
            "asam": PLAIN | dict(adaptive=0.0625),
            "asam, layers": PLAIN
            | LAYERS
            | dict(adaptive=0.0625, rho=radii, terms=terms(2), without="norm"),
            "asam, weights only": PLAIN | LAYERS | dict(adaptive=0.5, without="norm"),
        },
        **ROW_SIZES,
    ),
    "step": Cases(
        {
            "sgd": SGD,
            "decay": SGD | dict(weight_decay=Draw.vector),
            "scaffold": SGD | dict(terms=terms(3), weight_decay=Draw.vector),
            "feddyn": SGD | dict(terms=terms(2), without="clip_norm m squares"),
            "four terms": SGD | dict(terms=terms(4), without="clip_norm m squares"),
            "clip bites": SGD | dict(clip_norm=clip(0.5), without="w_ref m squares"),
            "clip idle": SGD | dict(clip_norm=clip(50), terms=terms(2), without="w_ref m squares"),
            "clip, prox": SGD | dict(clip_norm=clip(0.5), terms=terms(2), without="m squares"),
            "clip, known": SGD
            | dict(clip_norm=Draw.vector, squares=sums_of_squares, without="w_ref m"),
            "placed": SGD | dict(w=placed, terms=with_placed, out=lambda draw: draw.placed()),
            "placed, clip": SGD
            | dict(terms=with_placed, clip_norm=clip(0.5), without="w_ref m squares"),
            "momentum": MOVING | dict(weight_decay=0.0),
            "nesterov": MOVING | dict(nesterov=True),
            "everything": dict(
                terms=terms(4), clip_norm=clip(0.5), nesterov=True, without="squares"
            ),
        },
        **ROW_SIZES,
    ),
    "stats": Cases(
        {
            "norms": WHOLE | dict(without="y x_ref y_ref"),
            "updates": WHOLE | dict(without="y y_ref"),
            "pairs": LAYERS | dict(without="x_ref y_ref"),
            "reference of y": WHOLE | dict(without="x_ref"),
            "both references": LAYERS,
        },
        **ROW_SIZES,
    ),
    "aggregate": Cases(
        {
            "sum": ALONE | dict(server=None, without="nodes w m v out"),
            "sum on": ALONE | dict(server=None, first=False, without="nodes w m v out"),
            "part": PART,
            "run": RUN,
            "average": served("average") | dict(without="nodes m v", v=None),
            "momentum": served("momentum") | dict(first=False, without="nodes v", v=None),
            "adam": served("adam"),
            "yogi": served("yogi"),
            "adagrad": served("adagrad") | dict(first=False),
        },
        **ROW_SIZES,
    ),
    "adam": Cases(
        {
            "adam": ADAM | dict(weight_decay=0.0),
            "decay": ADAM,
            "adamw": ADAM | dict(decoupled=True),
            "first step": ADAM | dict(t=1.0, eps=1e-3),
        },
        **ROW_SIZES,
    ),
    "mix": Cases({"numbers": dict(a=1.5, b=-0.5), "vectors": {}}, **ROW_SIZES),
    "gram": Cases(
        {
            "rows": dict(segments=None, out=None, without="base"),
            "updates": dict(segments=None, out=None),
            "layers": LAYERS,
        },
        **(ROW_SIZES | dict(large=(*ROW_SIZES["large"], (50, dict(S=50001))))),
    ),
    "sensitivity": Cases(
        {"plain": LAYERS | dict(normalize=False), "normalized": LAYERS | dict(normalize=True)},
        **ROW_SIZES,
    ),
}
CASES = ROW_CASES | LAYER_CASES | IMAGES
