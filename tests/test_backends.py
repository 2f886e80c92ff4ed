"""Every operation in every voice against the reference in float64, and what all voices promise."""

from __future__ import annotations

import operation_cases
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfast import kernels

DTYPES = (torch.float32, torch.float64)
# A result's dtype says how it was rounded: sums and accumulators are float64 for float32 rows too.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}
ALL = [
    (operation, form)
    for operation in kernels.OPERATIONS
    for form in operation_cases.FORMS[operation]
]
VOICES = ("native", "triton")

every_form = pytest.mark.parametrize(("operation", "form"), ALL)
every_voice = pytest.mark.parametrize("voice", VOICES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))


def sizes(voice: str) -> tuple[int, ...]:
    """Row sizes; Triton's interpreter takes milliseconds per program, so it gets small ones."""
    return (1, 31, 33, 1023, 4097, 12345) if voice == "native" else (1, 33, 1023)


def check(case: operation_cases.Case, voice: str) -> None:
    """Every row of every result: error <= tolerance times the norm of its magnitude.

    What has no value in the reference (NaN) has none in the voice.
    """
    wide = operation_cases.Case(
        case.operation, lambda: operation_cases.widen(case.build()), case.written, case.magnitude
    )
    expected, magnitudes = wide.run("reference"), case.magnitude(wide.build())
    for name, value in case.run(voice).items():
        if name in case.written:
            none = expected[name].isnan()
            assert torch.equal(value.isnan(), none), f"{name}: NaN elsewhere"
            error = (value.double() - expected[name]).masked_fill(none, 0.0)
            error = error.reshape(magnitudes[name].shape).norm(dim=-1)
            tolerance = TOLERANCE[case.rounding or value.dtype]
            bound = tolerance * magnitudes[name].nan_to_num(0.0).norm(dim=-1)
            assert (error <= bound).all(), f"{name}: {(error / bound).max():.3g} of the tolerance"
    if case.operation == "aggregate":
        check_squares(case, case.run(voice)["returned"], expected["returned"])


def check_squares(case: operation_cases.Case, found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found[:-1], expected[:-1], rtol=1e-13, atol=0)
    torch.testing.assert_close(found[-1:], expected[-1:], rtol=1e-12, atol=0, equal_nan=True)


def same(a: Tensor, b: Tensor) -> None:
    """Bit for bit, NaN equal to NaN."""
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@every_voice
@every_dtype
@every_form
def test_against_the_reference(operation: str, form: str, dtype: torch.dtype, voice: str) -> None:
    for size in sizes(voice):
        for clients in (1, 3, 7) if voice == "native" else (2,):
            check(operation_cases.case(operation, form, clients, size, dtype), voice)


@every_voice
@every_form
def test_a_client_alone_equals_the_client_in_company(operation: str, form: str, voice: str) -> None:
    clients = 5
    for size in sizes(voice)[1:]:
        case = operation_cases.case(operation, form, clients, size, torch.float32)
        company = case.run(voice)
        for k in (0, clients - 1):
            alone = case.run(voice, lambda inputs, k=k: operation_cases.one_of(inputs, k, clients))
            if operation == "aggregate":
                same(alone["returned"][0], company["returned"][k])
            else:
                for name in case.written:
                    same(case.of_client(alone[name])[0], case.of_client(company[name])[k])


@pytest.mark.parametrize(("clients", "size"), [(1, 300001), (7, 40001)])
@every_form
def test_threads_change_no_bit(operation: str, form: str, clients: int, size: int) -> None:
    """Sizes that are worth several threads, for the whole bank and for a single client."""
    case = operation_cases.case(operation, form, clients, size, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(case.run("native"))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for name, value in results[0].items():
            same(value, other[name])


@pytest.mark.parametrize("voice", ["triton"])
@every_form
def test_repeats_are_equal(operation: str, form: str, voice: str) -> None:
    case = operation_cases.case(operation, form, 2, 33, torch.float32)
    first, second = case.run(voice), case.run(voice)
    for name, value in first.items():
        same(value, second[name])


def alias(inputs: operation_cases.Inputs, target: str) -> operation_cases.Inputs:
    """Let `out` be another operand."""
    chosen = inputs["terms"][0][0] if target == "term" else inputs[target]
    return inputs | {"out": chosen}


ALIASES = [
    ("perturb", "asam-layers", "term"),
    ("perturb", "sam", "w"),
    ("perturb", "three-terms", "w"),
    ("step", "sgd", "w"),
    ("step", "everything", "w"),
    ("step", "everything", "term"),
    ("step", "everything", "w_ref"),
    ("step", "momentum", "m"),
    ("step", "nesterov", "m"),
    ("mix", "banks", "x"),
    ("mix", "strided", "y"),
    ("aggregate", "average", "w"),
    ("aggregate", "adam", "w"),
]


@every_voice
@pytest.mark.parametrize(("operation", "form", "target"), ALIASES)
def test_out_may_be_an_operand(operation: str, form: str, target: str, voice: str) -> None:
    for size in sizes(voice):
        case = operation_cases.case(operation, form, 3, size, torch.float32)
        apart = case.run(voice)
        together = case.run(voice, lambda inputs: alias(inputs, target))
        same(together["out"], apart["out"])


# Triton's interpreter computes with numpy, which warns where infinity meets infinity.
quiet_numpy = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@quiet_numpy
@every_voice
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@every_form
def test_a_broken_client_breaks_no_other(operation: str, form: str, bad: float, voice: str) -> None:
    clients, broken = 3, 1
    case = operation_cases.case(operation, form, clients, 33, torch.float32)
    own = {
        "perturb": "terms",
        "step": "terms",
        "mix": "y",
        "stats": "x",
        "aggregate": "client_rows",
        "gram": "rows",
        "sensitivity": "x",
    }[operation]

    def spoil(inputs: operation_cases.Inputs) -> operation_cases.Inputs:
        operand = inputs[own][0][0] if own == "terms" else inputs[own]
        if own != "terms" and operand.ndim == 1:
            pytest.skip("the row is shared by all clients")
        operand[broken, 20] = bad
        return inputs

    names = ("returned",) if operation == "aggregate" else case.written
    whole, spoiled = case.run(voice), case.run(voice, spoil)
    for name in names:
        before, after = case.of_client(whole[name]), case.of_client(spoiled[name])
        for k in range(clients):
            if k != broken:
                same(after[k], before[k])
        assert not after[broken].isfinite().all()


@quiet_numpy
@every_voice
def test_stats_count_what_is_not_finite(voice: str) -> None:
    x, y = torch.ones(2, 100), torch.ones(2, 100)
    x[0, 3], x[0, 50], y[0, 50], y[0, 99] = torch.nan, torch.inf, -torch.inf, torch.nan
    table = kernels.Segments.of([0, 40], [40, 60])
    sums = kernels.stats(x, y, segments=table, backend=voice)
    assert sums[..., kernels.Column.NONFINITE].tolist() == [[1, 2], [0, 0]]
    huge = torch.full((1, 4), 1e200, dtype=torch.float64)  # its square overflows, it does not
    assert kernels.stats(huge, backend=voice)[0, 0, kernels.Column.NONFINITE] == 0


@every_voice
@pytest.mark.parametrize("base", ["shared", "bank"])
@pytest.mark.parametrize("rule", operation_cases.RULES)
def test_chunks_change_no_bit(rule: str, base: str, voice: str) -> None:
    clients, size = 5, sizes(voice)[-2]
    case = operation_cases.case("aggregate", "average", clients, size, torch.float32)
    server = kernels.Server(rule, lr=0.5)

    def chunked(inputs: operation_cases.Inputs, cuts: tuple[int, ...]) -> list[Tensor]:
        last = {n: inputs[n] for n in ("w", "m", "v", "out")} | {"server": server}
        start = inputs["base"] if base == "shared" else inputs["base"] + inputs["client_rows"] / 2
        squares = []
        for begin, end in zip((0, *cuts), (*cuts, clients), strict=True):
            squares.append(
                kernels.aggregate(
                    inputs["client_rows"][begin:end],
                    inputs["weights"][begin:end],
                    start if base == "shared" else start[begin:end],
                    acc=inputs["acc"],
                    first=begin == 0,
                    backend=voice,
                    **last if end == clients else {},
                )
            )
            assert end == clients or squares[-1][-1].isnan()
        norms = torch.cat([*(s[:-1] for s in squares), squares[-1][-1:]])
        return [norms, inputs["acc"], inputs["out"], inputs["m"], inputs["v"]]

    whole = chunked(case.build(), ())
    for cuts in ((1,), (2, 4), (1, 2, 3, 4)):
        for a, b in zip(whole, chunked(case.build(), cuts), strict=True):
            same(a, b)


KINDS = st.sampled_from(["bank", "strided", "shared"])
BANKS = st.sampled_from(["bank", "strided"])
TERMS = st.lists(KINDS, max_size=7).flatmap(lambda rest: BANKS.map(lambda d: (d, *rest)))
SPACE = {
    "perturb": st.fixed_dictionaries(
        {
            "terms": TERMS,
            "w": KINDS,
            "radius": st.sampled_from(["number", "client", "layer"]),
            "layered": st.booleans(),
            "adaptive": st.sampled_from([None, 0.0, 0.5]),
            "alpha": st.booleans(),
            "norm": st.booleans(),
        }
    ),
    "step": st.fixed_dictionaries(
        {
            "terms": TERMS,
            "w": KINDS,
            "w_ref": st.none() | KINDS,
            "decay": st.booleans(),
            "clip": st.sampled_from([None, 0.1, 50.0]),
            "momentum": st.just(True),
            "nesterov": st.booleans(),
        }
    ),
    "stats": st.fixed_dictionaries(
        {
            "x": BANKS,
            "y": KINDS,
            "x_ref": st.none() | KINDS,
            "y_ref": st.none() | KINDS,
            "layered": st.booleans(),
        }
    ),
    "aggregate": st.fixed_dictionaries(
        {
            "rows": BANKS,
            "base": KINDS,
            "rule": st.sampled_from([None, *operation_cases.RULES]),
            "first": st.booleans(),
        }
    ),
    "mix": st.fixed_dictionaries({"x": BANKS, "y": KINDS}),
    "gram": st.fixed_dictionaries(
        {"rows": BANKS, "base": st.none() | KINDS, "layered": st.booleans()}
    ),
    "sensitivity": st.fixed_dictionaries({"x": KINDS, "y": KINDS, "normalize": st.booleans()}),
}


@pytest.mark.parametrize("operation", kernels.OPERATIONS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_combination(operation: str, data: st.DataObject) -> None:
    seed, clients = data.draw(st.integers(0, 99)), data.draw(st.integers(1, 9))
    size, dtype = data.draw(st.integers(1, 1100)), data.draw(st.sampled_from(DTYPES))
    options = data.draw(SPACE[operation])
    check(operation_cases.BUILDERS[operation](seed, clients, size, dtype, **options), "native")


def test_terms_that_cancel_leave_a_shared_row_alone() -> None:
    """Eight equal and opposite terms: the direction is zero, and so is the move."""
    w, g = torch.randn(2, 65), torch.randn(2, 65)
    terms = [(g, (-1.0) ** j) for j in range(8)]
    same(kernels.perturb(w, terms, 0.5, backend="native"), w)
    same(kernels.step(w, terms, 0.5, out=torch.empty_like(w), backend="native"), w)
