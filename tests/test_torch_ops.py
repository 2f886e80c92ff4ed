"""`torch.ops.fedfast`: what `fedfast.kernels` computes, seen by torch as operations of its own.

Every form of `operation_forms.py` is called with the arguments of a schema. torch's own `opcheck`
holds schemas to what is written, and shapes without memory to real ones.
"""

import re
from dataclasses import asdict
from pathlib import Path

import operation_calls
import pytest
import torch
from fedfast.kernels import PlacedRows, Segments, Server
from fedfast.kernels.placed import dense
from operation_forms import ROW_CASES
from torch._subclasses import FakeTensorMode

from fedfast import kernels
from fedfast.torch_ops import schemas, table

OPS = torch.ops.fedfast
PAGE = Path(__file__).parent.parent / "docs/torch-ops.md"
FORMS = [(name, form) for name, cases in ROW_CASES.items() for form in cases.forms]
TORCH = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # its own
COEFFICIENTS = (
    "t",
    "rho",
    "alpha",
    "eta",
    "lam",
    "weight_decay",
    "clip_norm",
    "momentum",
    "a",
    "b",
)


def made(name, form, dtype=torch.float32):
    """(arguments of the public function, those of the schema); what is written is their own."""
    sizes = ROW_CASES[name].forms[form] | dict(S=33)
    return tuple(
        operation_calls.make(name, sizes, 3, dtype, torch.float32).arguments for _ in range(2)
    )


def flat(arguments):
    """As a schema takes them; numbers as tensors where an argument is one."""
    given = {k: v for k, v in arguments.items() if v is not None}
    if isinstance(terms := given.get("terms"), list):
        given["terms"] = [t for t, _ in terms]
        given["coefficients"] = [torch.as_tensor(c, dtype=t.dtype) for t, c in terms]
    for name in COEFFICIENTS:
        if isinstance(given.get(name), float):
            given[name] = torch.tensor(given[name])
    if given.get("m", given) is given:
        given.pop("momentum", None)  # 0 where there is none
    if isinstance(segments := given.pop("segments", None), Segments):
        given |= table(segments)
    if isinstance(server := given.pop("server", None), Server):
        fields = asdict(server)
        given["server"] = fields.pop("rule")
        given |= {f"server_{k}": v for k, v in fields.items()}
    return given


def gathered(value):
    """Placed rows as tensors: a schema has no other rows."""
    if isinstance(value, dict):
        return {k: gathered(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(gathered, value))
    return dense(value) if isinstance(value, PlacedRows) else value


def tensors_of(arguments):
    return [t for value in arguments.values() for t in operation_calls.tensors(value)]


@pytest.mark.parametrize("name, form", FORMS)
def test_equal_to_the_public_function(name, form):
    public, other = made(name, form)
    returned = getattr(kernels, name)(**public)
    other = gathered(other)
    found = getattr(OPS, name)(**flat(other))
    if name == "aggregate":  # a norm that is not known: NaN there, 0 here
        returned = returned if public.get("server") else returned.nan_to_num(0.0)
    assert found is None or operation_calls.equal(found, dense(returned))
    for ours, theirs in zip(tensors_of(gathered(public)), tensors_of(other), strict=True):
        assert operation_calls.equal(ours, theirs)


def bank(seed, clients=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(clients, 64, generator=generator)


PARTS = dict(offset=[8, 32], length=[20, 30])
EACH = torch.tensor([0.1, 0.2, 0.3])
MOMENTS = bank(0), bank(1), bank(2), bank(3) ** 2
CHECKED = [
    ("perturb", (bank(0), [bank(1)], 0.5), PARTS | dict(adaptive=0.2, is_weight=[True, False])),
    ("perturb", (bank(0)[0], [bank(1), bank(2)], 0.5), dict(coefficients=[1.0, -2.0], alpha=0.1)),
    ("perturb.out", (bank(0), [bank(1)], 0.5), dict(out=bank(2))),
    ("perturb.Tensor", (bank(0), [bank(1)], EACH), dict(norm=EACH, alpha=EACH)),
    ("perturb.Tensor", (bank(0), [bank(1)], bank(2)[:, :2]), PARTS),
    ("perturb.Tensor_out", (bank(0), [bank(1)], EACH), dict(out=bank(2))),
    ("step", (bank(0)[0], [bank(1), bank(2)], 0.5), dict(coefficients=[1.0, -2.0], clip_norm=1.0)),
    ("step", (bank(0), [bank(1)], 0.5), dict(w_ref=bank(3)[0], lam=0.1, momentum=0.9, m=bank(2))),
    ("step.out", (bank(0), [bank(1)], 0.5), dict(momentum=0.9, m=bank(2), out=bank(3))),
    ("step.Tensor", (bank(0)[0], [bank(1)], EACH), dict(coefficients=[EACH], clip_norm=EACH)),
    ("step.Tensor_out", (bank(0), [bank(1)], EACH), dict(weight_decay=EACH, out=bank(3))),
    ("step_", (bank(0), [bank(1)], 0.5), dict(momentum=0.9, nesterov=True, m=bank(2))),
    ("step_.Tensor", (bank(0), [bank(1)], EACH), {}),
    ("adam", (*MOMENTS, 3.0, 0.1), dict(decoupled=True)),
    ("adam.out", (*MOMENTS, 1.0, 0.1), dict(out=bank(4))),
    ("adam.Tensor", (*MOMENTS, EACH + 1, EACH), {}),
    (
        "adam.Tensor_out",
        (bank(0), bank(1), bank(2), bank(3) ** 2, EACH + 1, EACH),
        dict(out=bank(4)),
    ),
    ("stats", (bank(0),), {}),
    ("stats", (bank(0), bank(1)), PARTS | dict(x_ref=bank(2)[0], y_ref=bank(3))),
    ("stats.out", (bank(0),), PARTS | dict(out=torch.zeros(3, 2, 5).double())),
    ("aggregate", (bank(0), 0.25, bank(1)[0]), dict(acc=torch.zeros(64).double())),
    ("aggregate.Tensor", (bank(0), EACH, bank(1)), dict(acc=torch.zeros(64).double(), first=False)),
    (
        "aggregate.Tensor",
        (bank(0), EACH, bank(1)[0]),
        dict(acc=torch.zeros(64).double(), server="yogi", server_lr=0.1)
        | dict(m=bank(2)[0], v=bank(3)[0] ** 2, out=bank(4)[0]),
    ),
    (
        "aggregate",
        (bank(0), 0.25, bank(1)[0]),
        dict(acc=torch.zeros(64).double(), nodes=torch.zeros(4, 64).double(), at=4, of=40),
    ),
    ("mix", (bank(0), bank(1)[0]), dict(b=-1.0)),
    ("mix.out", (bank(0), bank(1), 2.0), dict(out=bank(2))),
    ("mix.Tensor", (bank(0), bank(1), EACH, EACH), {}),
    ("mix.Tensor_out", (bank(0), bank(1), EACH), dict(out=bank(2))),
    ("gram", (bank(0),), {}),
    ("gram", (bank(0), bank(1)[0]), PARTS),
    ("gram.out", (bank(0),), dict(out=torch.zeros(3, 3).double())),
    ("sensitivity", (bank(0), bank(1), [8, 32], [20, 30]), dict(normalize=True)),
    (
        "sensitivity.out",
        (bank(0), bank(1)[0], [8], [20]),
        dict(normalize=False, out=torch.zeros(3, 1).double()),
    ),
]


@pytest.mark.parametrize("overload, args, kwargs", CHECKED)
def test_opcheck(overload, args, kwargs):
    name, _, which = overload.partition(".")
    torch.library.opcheck(getattr(getattr(OPS, name), which or "default"), args, kwargs)


def test_every_overload_is_checked():
    assert {name for name, *_ in CHECKED} == {*schemas()}


def several(w, g, m, acc):
    ahead = OPS.perturb(w, [g], 0.05, adaptive=0.2, offset=[0, 32], length=[20, 32])
    moved = OPS.step(ahead, [g, w], 0.1, coefficients=[1.0, -0.5], momentum=0.9, m=m)
    OPS.step_(w, [moved], 0.1, weight_decay=0.01)
    OPS.perturb(g, [moved], 0.1, out=g)
    squares = OPS.aggregate(moved, 0.5, w[0], acc=acc, server="adam", m=m[0], v=m[1] ** 2)
    sums = OPS.stats(moved, w, offset=[0, 32], length=[20, 32])
    scores = OPS.sensitivity(moved, ahead, [0], [64], normalize=True)
    return OPS.mix(moved, ahead, 0.5) * 2, squares, sums, OPS.gram(moved), scores


def as_users_write(w, g, m, acc, backend):
    """The same with the public functions; the reference in float64."""
    k, parts = kernels, Segments.of([0, 32], [20, 32])
    kind = dict(backend=backend)
    ahead = k.perturb(w, g, 0.05, adaptive=0.2, segments=parts, **kind)
    moved = torch.empty_like(w)
    k.step(ahead, [g, (w, -0.5)], 0.1, momentum=0.9, m=m, out=moved, **kind)
    k.step(w, moved, 0.1, weight_decay=0.01, **kind)
    k.perturb(g, moved, 0.1, out=g, **kind)
    rule = dict(server=Server("adam"), m=m[0], v=m[1] ** 2)
    squares = k.aggregate(moved, 0.5, w[0], acc=acc, **rule, **kind)
    sums = k.stats(moved, w, segments=parts, **kind)
    scores = k.sensitivity(moved, ahead, Segments.whole(64), normalize=True, **kind)
    return k.mix(moved, ahead, 0.5, **kind) * 2, squares, sums, k.gram(moved, **kind), scores


def operands(clients, dtype=torch.float32):
    return *(bank(i, clients).to(dtype) for i in range(3)), torch.zeros(64).double()


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_without_a_graph_break(dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(several, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for clients in (3, 5):
        eager, traced, exact = operands(clients), operands(clients), operands(clients)
        double = tuple(t.double() for t in exact)
        found, same = several(*eager), compiled(*traced)
        wanted = as_users_write(*double, backend="reference")
        for a, b, c in zip((*found, *eager), (*same, *traced), (*wanted, *double), strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(a.double(), c.double(), rtol=2e-5, atol=2e-5)
    kernels.perturb(bank(0, 9), bank(1, 9), 0.05)  # no table of tracing is left behind


@TORCH
def test_compiled_by_inductor():
    torch._dynamo.reset()

    def descend(w, g):
        OPS.step_(w, [OPS.perturb(w, [g], 0.05)], 0.1)
        return OPS.stats(w)

    eager, traced = (bank(0), bank(1)), (bank(0), bank(1))
    assert torch.equal(descend(*eager), torch.compile(descend, fullgraph=True)(*traced))
    assert torch.equal(eager[0], traced[0])


def test_gradients_are_refused_not_wrong():
    w = bank(0).requires_grad_()
    with pytest.raises(RuntimeError, match=r"fedfast::mix is not differentiable.*no_grad"):
        OPS.mix(bank(1), w)
    with pytest.raises(RuntimeError, match=r"fedfast::perturb is not differentiable"):
        OPS.perturb(bank(1), [w], torch.tensor(0.1))
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="is not differentiable"):
        torch.compile(OPS.gram, fullgraph=True, backend="aot_eager")(w)
    with torch.no_grad():
        assert torch.equal(OPS.mix(w, w), 2 * w)


def test_a_wrong_argument_is_refused_with_its_name_while_torch_traces():
    with FakeTensorMode():
        with pytest.raises(ValueError, match=r"terms\[0\]: expected shape \[3, 64\] or \[64\]"):
            OPS.perturb(torch.empty(3, 64), [torch.empty(4, 64)], 0.1)
        with pytest.raises(ValueError, match="backend: expected one of auto, native"):
            OPS.mix(torch.empty(3, 64), torch.empty(3, 64), backend="cuda")
    with pytest.raises(ValueError, match="coefficients: expected one for each of 1 terms; got 2"):
        OPS.perturb(bank(0), [bank(1)], 0.1, coefficients=[1.0, 2.0])
    with pytest.raises(ValueError, match="length: expected one number for each of offset"):
        OPS.stats(bank(0), offset=[0])


def test_on_tensors_of_a_gpu_that_is_not_there():
    with FakeTensorMode():
        w, row = torch.empty(3, 64, device="cuda"), torch.empty(64, device="cuda")
        acc = torch.empty(64, device="cuda", dtype=torch.float64)
        found = OPS.step(w, [w], 0.1), OPS.gram(w), OPS.aggregate(w, 0.5, row, acc=acc)
        assert [(t.device.type, *t.shape) for t in found] == [
            ("cuda", 3, 64),
            ("cuda", 3, 3),
            ("cuda", 4),
        ]
        with pytest.raises(ValueError, match="y: expected device cuda:0; got cpu"):
            OPS.mix(w, torch.empty(3, 64))


def test_on_meta_tensors():
    w = torch.empty(3, 64, device="meta")
    assert OPS.stats(w, **table(Segments.of([0, 32], [20, 32]))).shape == (3, 2, 5)


def test_triton_serves_it_where_the_registry_says_so():
    pytest.importorskip("triton")
    from fedfast.kernels.triton.common import INTERPRETED

    if not INTERPRETED:
        pytest.skip("the kernels are not interpreted in this process")
    w, g = bank(0), bank(1)
    found = OPS.perturb(w, [g], 0.05, backend="triton")
    wanted = kernels.perturb(w.double(), g.double(), 0.05, backend="reference")
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


@TORCH
def test_the_page_runs():
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    exec(compile("\n".join(examples), PAGE, "exec"), {})


def test_the_page_shows_every_schema():
    shown = set(re.findall(r"^(fedfast::\S.*)$", PAGE.read_text(encoding="utf-8"), re.M))
    assert shown == {f"fedfast::{name}{schema}" for name, schema in schemas().items()}
