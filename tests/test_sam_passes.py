"""SAM on layer programs: thin layers without perturbed weights, and all steps in one go."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from federation import federation, final, flat, norm, trained
from test_programs import CPU, MODULES, autograd, case, in_company
from torch import nn

from fedfast.algorithms import FedAvg, FedSAM, LayerRadii
from fedfast.executor import Fold, LocalStep, SamAscent, ScaledAscent, StepTensors
from fedfast.layout import FlatLayout
from fedfast.programs import ProgramExecutor, bytes_per_client, sam, trace
from fedfast.programs.program import BufferSpec

RHO, EPS = 0.3, 1e-7


class Views(nn.Module):
    """Views before and behind dense layers; one without bias, one without activation."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 5, bias=False), nn.Linear(5, 3)

    def forward(self, x):
        x = F.relu(self.a(x.view(x.size(0), 6))).view(x.size(0), 2, 4)
        return self.c(self.b(torch.flatten(torch.tanh(x), 1)))


MODULES = MODULES | {
    "logistic": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 3)), (2, 2, 2)),
    "views": (Views, (2, 3)),
}


every_backend = pytest.mark.parametrize(
    ("backend", "dtype", "tolerance"),
    [
        ("native", torch.float64, 1e-11),
        ("native", torch.float32, 3e-5),
        ("reference", torch.float64, 1e-11),
    ],
)


@pytest.fixture(params=["thin", "wide"])
def rule(request, monkeypatch):
    """Every dense layer as factors, or none."""
    monkeypatch.setattr(sam, "is_thin", lambda *_, samples: request.param == "thin")
    return request.param


def perturbed_gradient(module, layout, row, batch, k, radii=None):
    """(gradients by name at the perturbed model, loss and |g| at the model) by autograd.

    radii: one for each tensor, else RHO
    """
    g, loss = autograd(module, layout, row, batch, k)
    moved, length = row.clone(), norm(list(g.values()))
    radii = [RHO] * len(g) if radii is None else radii
    for (name, part), radius in zip(g.items(), radii, strict=True):
        layout.views(moved)[name].add_(part, alpha=float(radius / (length + EPS)))
    return autograd(module, layout, moved, batch, k)[0], loss, length


def poisoned(layout, w):
    """Rows g, ahead and out whose parameters must all be written before they are read."""
    inside = torch.zeros_like(w)
    for view in layout.views(inside).values():
        view.fill_(1)
    # Padding is zero and stays zero.
    return [torch.full_like(w, torch.nan).where(inside != 0, 0) for _ in range(3)]


def sam_gradients(executor, layout, w, batch, fold=None):
    """Ours: (out, losses), everything that should be written poisoned."""
    clients = len(w)
    g, ahead, out = poisoned(layout, w)
    losses = torch.full((clients,), torch.nan, dtype=w.dtype)
    step = LocalStep(ascent=SamAscent(RHO, EPS, g, ahead), fold=fold)
    executor.gradients(step, StepTensors(w, w.clone(), out, losses), batch)
    return out, losses


def scaled_gradients(executor, layout, w, batch, radii, fold=None):
    """Both passes with a radius for each tensor: (out, losses, |g|), all else poisoned.

    radii: a tensor [K, L], a function of |g| that gives the scales, or `LayerRadii`, which leave
    |g| unsaid
    """
    clients = len(w)
    g, ahead, out = poisoned(layout, w)
    losses = torch.full((clients,), torch.nan, dtype=w.dtype)
    known = radii if isinstance(radii, LayerRadii) else None
    length = executor.first_pass(StepTensors(w, w.clone(), g, losses), batch, known)
    scales = None
    if length is not None:
        scales = radii(length) if callable(radii) else radii / (length + EPS)[:, None]
    step, unread = LocalStep(ascent=ScaledAscent(scales, g, ahead), fold=fold), losses.clone()
    executor.gradients(step, StepTensors(w, w.clone(), out, unread), batch)
    return out, losses, length


@every_backend
@pytest.mark.parametrize("each", [False, True], ids=["one radius", "a radius for each tensor"])
@pytest.mark.parametrize("name", [n for n in MODULES if n != "batch norm"])
def test_gradients_at_the_perturbed_model_are_autograds(
    name, each, backend, dtype, tolerance, rule
):
    module, layout, executor, w, batch = case(name, dtype, backend, MODULES)
    radii, length = [None] * 3, None
    if each:
        radii = 0.1 + torch.rand(3, len(list(module.parameters())), dtype=torch.float64)
        out, losses, length = scaled_gradients(executor, layout, w, batch, radii)
    else:
        out, losses = sam_gradients(executor, layout, w, batch)
    for k in range(3):
        expected, loss, norm_of_g = perturbed_gradient(module, layout, w[k], batch, k, radii[k])
        assert abs(losses[k] - loss) <= tolerance * (1 + loss)
        assert not each or abs(length[k] - norm_of_g) <= 10 * tolerance * (1 + norm_of_g)
        for key, view in layout.views(out[k], True).items():
            assert (view - expected[key]).norm() <= tolerance * (1 + expected[key].norm()), key


@pytest.mark.parametrize("limit", [torch.inf, 0.01])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_radii_are_the_scales_that_follow_from_them_bitwise(name, dtype, limit, rule):
    """As torch computes them of the norm in float64; a limit clips the gradient."""
    module, layout, executor, w, batch = case(name, dtype)
    rho = (0.1 + torch.rand(3, len(list(module.parameters())))).to(dtype)

    def scales(length):
        shrink = (limit / (length + 1e-6)).clamp(max=1.0)
        assert (shrink < 1).tolist() == [limit < 1] * 3
        return rho * (shrink / (length * shrink + EPS))[:, None]

    found = scaled_gradients(executor, layout, w, batch, LayerRadii(rho, EPS, limit))
    wanted = scaled_gradients(executor, layout, w, batch, scales)
    assert found[2] is None and torch.equal(found[1], wanted[1])
    assert torch.equal(found[0], wanted[0])


@pytest.mark.parametrize("name", ["mlp", "cnn", "norms", "residual"])
def test_a_client_alone_is_the_client_in_company_bitwise(name, rule):
    """With one radius for the model, and with one for each tensor."""
    module, layout, executor, w, batch = case(name, torch.float32)
    radii = 0.1 + torch.rand(3, len(list(module.parameters()))).double()

    def last(executor, rows, part, chosen):
        scaled = scaled_gradients(executor, layout, rows, part, radii[chosen])[:2]
        return [found[-1] for found in (*scaled, *sam_gradients(executor, layout, rows, part))]

    in_company(executor, w, batch, last)


def test_a_folded_step_is_the_gradient_then_the_step(rule):
    _, layout, executor, w, batch = case("mlp", torch.float64)
    g, _ = sam_gradients(executor, layout, w, batch)
    stepped, _ = sam_gradients(executor, layout, w, batch, Fold(-0.1, 1 - 0.1 * 0.01, w))
    for key, view in layout.views(stepped, True).items():
        at, there = layout.views(w)[key], layout.views(g)[key]
        assert torch.allclose(view, at - 0.1 * (there + 0.01 * at), rtol=0, atol=1e-12)


class Shortcuts(nn.Module):
    """Two residual blocks, one of them with a layer beside it."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 4, 1)
        self.beside, self.c, self.head = nn.Conv2d(2, 4, 1), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        x = torch.relu(x + self.a(x))
        x = (torch.relu(self.b(x)) + self.beside(x)).flatten(1)
        return self.head(x + torch.tanh(self.c(x)))


MODELS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 4)),
    "cnn": lambda: nn.Sequential(
        # Maps of nine pixels: some batch has one sample.
        *(nn.Conv2d(2, 4, 2, padding=1), nn.ReLU(), nn.BatchNorm2d(4)),
        *(nn.Flatten(), nn.Linear(36, 4)),
    ),
    "residual": Shortcuts,
}


@pytest.mark.parametrize("algorithm", [FedAvg(), FedSAM(rho=0.2)], ids=lambda a: a.name)
@pytest.mark.parametrize("name", MODELS)
def test_all_steps_at_once_are_step_by_step_bitwise(name, algorithm, rule, monkeypatch):
    """Ragged clients with different numbers of steps, a learning rate that changes, chunks."""
    original, plannable = ProgramExecutor.__init__, []

    def init(self, *args):
        original(self, *args)
        plannable.append(self.capabilities.plans)
        if len(plannable) == 4:  # the last of four runs goes step by step
            self.capabilities = replace(self.capabilities, plans=False)

    monkeypatch.setattr(ProgramExecutor, "__init__", init)
    states, data = [], federation([9, 4, 13, 1, 6], shape=(2, 2, 2))
    # `verify` would make executors of its own.
    options = dict(rounds=4, participation=0.8, local_epochs=2, batch_size=4, verify=False)
    for chunk, threads in ((None, 1), (2, 2), (1, 1), (3, 2)):
        torch.manual_seed(0)
        how = options | dict(lr_decay=0.9, chunk=chunk, threads=threads)
        sim = trained(MODELS[name](), data, algorithm, **how)
        states.append((flat(sim.state_dict()), [row.train_loss for row in sim.history]))
    assert plannable == [True] * 4
    for state, losses in states[1:]:
        assert torch.equal(state, states[0][0])
        assert losses == pytest.approx(states[0][1], rel=1e-12)


def test_radius_zero_is_fedavg_bitwise(rule):
    finals = []
    for algorithm in (FedAvg(), FedSAM(rho=0.0)):
        torch.manual_seed(0)
        data = federation([9, 4, 13], shape=(2, 2, 2))
        finals.append(final(MODELS["mlp"](), data, algorithm, rounds=3, batch_size=4))
    assert torch.equal(*finals)


@pytest.mark.parametrize("name", [n for n in MODULES if n != "tied"])
def test_the_memory_estimate_counts_every_buffer(name, rule):
    make, shape = MODULES[name]
    program, _ = trace(make(), torch.randn(2, *shape))
    width, clients = 5, 3
    made = sam.SamBuffers(program, FlatLayout.of(make()), BufferSpec(clients, width, CPU))
    banks = [*made.values.values(), *made.gradients.values(), *made.gram.values()]
    banks += made.before.values()
    more = sum(t.numel() for t in banks) * 4 // clients
    plain, both = (bytes_per_client(program, width, 4, ascends) for ascends in (False, True))
    assert plain + more <= both <= plain + more + 4 * width * sum(s[0] for s in program.shapes)


def test_the_rule_weighs_the_batch_against_the_layer():
    thin = sam.is_thin
    assert thin(10, 784, 200, samples=True) and thin(50, 784, 200, samples=True)
    assert thin(48, 1024, 1024, samples=False) and not thin(500, 200, 10, samples=False)
    assert not thin(4096, 784, 200, samples=True)
