"""A clipped step folded into the products: dense layers wait for the norm, nothing else changes."""

import pytest
import torch
from federation import federation, final, mlp, norm
from test_programs import CPU, autograd, case, in_company
from test_sam_passes import EPS, MODULES, RHO, perturbed_gradient, poisoned
from torch import nn

import fedfast
from fedfast.algorithms import FedAvg, FedSAM
from fedfast.executor import ClipBound, Fold, LocalStep, SamAscent, StepTensors
from fedfast.layout import FlatLayout
from fedfast.programs import bytes_per_client, clip, trace
from fedfast.programs.program import BufferSpec

LR, DECAY = 0.1, 0.01
FOLDED = [n for n in MODULES if n != "tied"]  # a tied weight is never folded
BACKENDS = [
    ("native", torch.float64, 1e-12),
    ("native", torch.float32, 1e-5),
    ("reference", torch.float64, 1e-12),
]


@pytest.fixture(params=["late", "at once"])
def rule(request, monkeypatch):
    """Every dense layer waits, or none."""
    monkeypatch.setattr(clip, "is_late", lambda *_: request.param == "late")
    return request.param


def stepped(executor, layout, w, batch, largest, sharpened=False, onto=None):
    """The models after the step, everything that should be written poisoned."""
    g, ahead, out = poisoned(layout, w)
    out, losses = out if onto is None else onto, torch.full((len(w),), torch.nan, dtype=w.dtype)
    fold = Fold(-LR, 1 - LR * DECAY, w, ClipBound(largest, g))
    ascent = SamAscent(RHO, EPS, g, ahead) if sharpened else None
    step = LocalStep(ascent=ascent, fold=fold)
    executor.gradients(step, StepTensors(w, w.clone(), out, losses), batch)
    return out


@pytest.mark.parametrize("sharpened", [False, True], ids=["sgd", "sam"])
@pytest.mark.parametrize(("backend", "dtype", "tolerance"), BACKENDS)
@pytest.mark.parametrize("name", [n for n in FOLDED if n != "batch norm"])
def test_the_step_is_torchs_clip_then_its_sgd(name, backend, dtype, tolerance, sharpened, rule):
    module, layout, executor, w, batch = case(name, dtype, backend, MODULES)
    gradient = perturbed_gradient if sharpened else autograd
    gradients = [gradient(module, layout, w[k], batch, k)[0] for k in range(3)]
    # Bites for some clients and not for others.
    largest = float(sorted(norm(list(g.values())) for g in gradients)[1])
    out = stepped(executor, layout, w, batch, largest, sharpened)
    for k in range(3):
        expected = torchs(layout.views(w[k], True), gradients[k], largest)
        for key, view in layout.views(out[k], True).items():
            allowed = 20 * tolerance * (1 + expected[key].norm())
            assert (view - expected[key]).norm() <= allowed, key


def torchs(weights, gradients, largest):
    """Weights by name after clip_grad_norm_ and SGD."""
    parameters = {key: nn.Parameter(weights[key].clone()) for key in gradients}
    for key, p in parameters.items():
        p.grad = gradients[key].clone()
    nn.utils.clip_grad_norm_(parameters.values(), largest)
    torch.optim.SGD(parameters.values(), lr=LR, weight_decay=DECAY).step()
    return {key: p.detach() for key, p in parameters.items()}


@pytest.mark.parametrize("name", FOLDED)
def test_a_norm_below_the_clip_changes_nothing(name, rule):
    _, layout, executor, w, batch = case(name, torch.float64, modules=MODULES)
    out, losses = torch.full_like(w, torch.nan), torch.zeros(3, dtype=torch.float64)
    step = LocalStep(fold=Fold(-LR, 1 - LR * DECAY, w))
    executor.gradients(step, StepTensors(w, w.clone(), out, losses), batch)
    clipped = stepped(executor, layout, w, batch, 1e6)
    for key, view in layout.views(clipped, True).items():
        # The same product on its way to the same weights; other layers move by `mix`.
        assert torch.allclose(view, layout.views(out)[key], rtol=0, atol=1e-15), key


@pytest.mark.parametrize("sharpened", [False, True], ids=["sgd", "sam"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "norms", "residual", "web"])
def test_a_client_alone_is_the_client_in_company_bitwise(name, sharpened, rule):
    _, layout, executor, w, batch = case(name, torch.float32, modules=MODULES)

    def last(executor, rows, part, _):
        return stepped(executor, layout, rows, part, 0.3, sharpened)[-1]

    in_company(executor, w, batch, last)


def test_in_place_is_the_same(rule):
    _, layout, executor, w, batch = case("web", torch.float32, modules=MODULES)
    apart = stepped(executor, layout, w, batch, 0.2)
    here = stepped(executor, layout, w, batch, 0.2, onto=w)
    for key, view in layout.views(here, True).items():
        assert torch.equal(view, layout.views(apart)[key]), key


def test_a_broken_client_breaks_no_other_and_is_seen(rule):
    _, layout, executor, w, batch = case("mlp", torch.float32, modules=MODULES)
    whole = stepped(executor, layout, w, batch, 0.2)
    w[1, 3] = torch.inf
    out = stepped(executor, layout, w, batch, 0.2)
    for key, view in layout.views(out, True).items():
        assert torch.equal(view[::2], layout.views(whole)[key][::2]), key
    assert not out[1].isfinite().all()


@pytest.mark.parametrize("algorithm", [FedAvg(), FedSAM(rho=0.2)], ids=lambda a: a.name)
def test_all_steps_in_one_go_are_step_after_step(algorithm, monkeypatch, rule):
    """Chunks, threads and plans are no business of a client's."""
    data, model = federation([9, 4, 13, 1, 6], shape=(2, 2, 2)), mlp()
    settings = dict(rounds=3, local_epochs=2, batch_size=4, lr=0.3, clip_norm=0.2)
    ends = []
    for chunk, threads, at_once in ((5, 1, True), (2, 2, True), (5, 1, False)):
        if not at_once:
            monkeypatch.setattr(fedfast.client_loop.LocalTrainer, "_at_once", lambda *_: False)
            monkeypatch.setattr(fedfast.steady_rounds, "repeats", lambda *_: False)
        ends.append(final(model, data, algorithm, chunk=chunk, threads=threads, **settings))
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("name", FOLDED)
def test_the_memory_estimate_counts_the_gram_matrix(name, rule):
    make, shape = MODULES[name]
    program, _ = trace(make(), torch.randn(2, *shape))
    made = clip.Clip(program, FlatLayout.of(make()), BufferSpec(3, 5, CPU))
    plain, more = (bytes_per_client(program, 5, 4, clips=clips) for clips in (False, True))
    assert more - plain == made.gram.numel() * 4 // 3


def test_the_rule_weighs_the_batch_against_the_layer():
    late = clip.is_late
    assert late(48, 1024, 1024) and late(50, 784, 200) and late(50, 3136, 512)
    assert not late(48, 1024, 10) and not late(500, 200, 200)


def test_the_loss_is_the_models_own(rule):
    module, layout, executor, w, batch = case("mlp", torch.float64, modules=MODULES)
    out, losses = torch.zeros_like(w), torch.zeros(3).double()
    step = LocalStep(fold=Fold(-LR, 1.0, w, ClipBound(0.1, torch.zeros_like(w))))
    executor.gradients(step, StepTensors(w, w.clone(), out, losses), batch)
    for k in range(3):
        assert abs(losses[k] - autograd(module, layout, w[k], batch, k)[1]) < 1e-12
