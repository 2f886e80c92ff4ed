"""`fedfast.optim` beside the papers' formulas in float64, written out here."""

import copy
import io
import pickle
import re

import pytest
import torch
from torch import nn
from torch.func import functional_call

from fedfast import optim
from fedfast.optim import parts

STEPS = 4


@pytest.fixture(params=[8, 1 << 15], ids=["large", "packed"])
def size(request, monkeypatch):
    """Whether tensors are rows of their own, or packed."""
    monkeypatch.setattr(parts, "LARGE", request.param)


def net(dtype=torch.float64):
    torch.manual_seed(1)
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Tanh()
    return nn.Sequential(*layers, nn.Linear(8, 3)).to(dtype)


def batches(count=STEPS, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    for _ in range(count):
        x = torch.randn(10, 6, generator=generator, dtype=torch.float64).to(dtype)
        yield x, torch.randint(3, (10,), generator=generator)


def loss_of(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def two_steps(model, optimizer, batch, between=None):
    loss_of(model, batch).backward()
    optimizer.first_step(zero_grad=True)
    loss_of(model, batch).backward()
    if between:
        between(model)
    optimizer.second_step(zero_grad=True)


def by_closure(model, optimizer, batch, between=None):
    def closure():
        loss = loss_of(model, batch)
        loss.backward()
        if between:
            between(model)
        return loss

    loss_of(model, batch).backward()
    optimizer.step(closure)
    optimizer.zero_grad()


# The papers: with T = diag(t), e = rho T^2 g / |T g| (SAM: t = 1), SAGM: e = (rho / |g| - alpha) g.


def ascent(kind, w, g, rho, extra):
    if kind == "asam":
        t = {n: w[n].abs() + extra if "weight" in n else torch.ones_like(w[n]) for n in w}
    elif kind == "adaptive":
        t = {n: w[n].abs() for n in w}
    else:
        t = {n: torch.ones_like(w[n]) for n in w}
    norm = sum((t[n] * g[n]).square().sum() for n in w).sqrt()
    if kind == "sagm":
        return {n: (rho[n] / norm - extra) * g[n] for n in w}
    return {n: rho[n] * t[n] ** 2 * g[n] / norm for n in w}


def gradients(model, w, batch):
    values = {n: v.detach().requires_grad_() for n, v in w.items()}
    loss = nn.functional.cross_entropy(functional_call(model, values, batch[:1]), batch[1])
    return dict(zip(values, torch.autograd.grad(loss, [*values.values()]), strict=True))


def reference(kind, rho, lr, decay, momentum=0.0, extra=0.0, clip=None):
    """The weights after all steps of SGD with that gradient; rho, lr, decay by name."""
    model = net()
    w = {n: p.detach().clone() for n, p in model.named_parameters()}
    m = {n: torch.zeros_like(p) for n, p in w.items()}
    for batch in batches():
        first = gradients(model, w, batch)
        e = ascent(kind, w, first, rho, extra)
        second = gradients(model, {n: w[n] + e[n] for n in w}, batch)
        if clip:
            norm = sum(v.square().sum() for v in second.values()).sqrt()
            second = {n: v * min(1.0, clip / float(norm)) for n, v in second.items()}
        for n in w:
            d = second[n] + (first[n] if kind == "sagm" else 0.0) + decay[n] * w[n]
            m[n] = momentum * m[n] + d
            w[n] = w[n] - lr[n] * m[n]
    return w


KINDS = {
    "sam": lambda p, **kw: optim.SAM(p, torch.optim.SGD, rho=0.3, **kw),
    "adaptive": lambda p, **kw: optim.SAM(p, torch.optim.SGD, 0.3, True, **kw),
    "asam": lambda p, **kw: optim.ASAM(p, torch.optim.SGD, rho=0.3, eta=0.02, **kw),
    "sagm": lambda p, **kw: optim.SAGM(p, torch.optim.SGD, rho=0.3, alpha=0.05, **kw),
}
EXTRA = {"asam": 0.02, "sagm": 0.05}


def close(model, wanted, tolerance):
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach().double(), wanted[name], rtol=0, atol=tolerance)


def everywhere(value):
    return {n: value for n, _ in net().named_parameters()}


@pytest.mark.parametrize("style", [two_steps, by_closure])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 2e-5)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_papers_formulas(size, kind, dtype, tolerance, style):
    model = net(dtype)
    options = dict(lr=0.2, momentum=0.9, weight_decay=0.01)
    optimizer = KINDS[kind](model.named_parameters(), **options)
    for batch in batches(dtype=dtype):
        style(model, optimizer, batch)
    values = everywhere(0.3), everywhere(0.2), everywhere(0.01)
    close(model, reference(kind, *values, momentum=0.9, extra=EXTRA.get(kind, 0)), tolerance)


def test_groups_have_their_own_options_and_one_norm(size):
    model = net()
    groups = [
        dict(params=model[0].parameters(), rho=0.1, lr=0.5),
        dict(params=[*model[1].parameters(), *model[3].parameters()], weight_decay=0.1),
    ]
    optimizer = optim.SAM(groups, torch.optim.SGD, rho=0.4, lr=0.05)
    for batch in batches():
        two_steps(model, optimizer, batch)
    first = {n: n.startswith("0.") for n, _ in model.named_parameters()}
    rho = {n: 0.1 if own else 0.4 for n, own in first.items()}
    lr = {n: 0.5 if own else 0.05 for n, own in first.items()}
    decay = {n: 0.0 if own else 0.1 for n, own in first.items()}
    close(model, reference("sam", rho, lr, decay), 1e-9)


def test_a_clip_between_the_steps(size):
    model = net()
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, rho=0.3, lr=0.2)
    for batch in batches():
        two_steps(model, optimizer, batch, lambda m: nn.utils.clip_grad_norm_(m.parameters(), 0.1))
    wanted = reference("sam", everywhere(0.3), everywhere(0.2), everywhere(0.0), clip=0.1)
    close(model, wanted, 1e-6)  # torch adds 1e-6 to the norm


def test_official_sagm_halves_the_sum():
    models = net(), net()
    one = optim.SAGM(models[0].parameters(), torch.optim.SGD, lr=0.1)
    half = optim.SAGM(models[1].parameters(), torch.optim.SGD, variant="official", lr=0.2)
    for batch in batches():
        two_steps(models[0], one, batch)
        two_steps(models[1], half, batch)
    close(models[0], dict(models[1].named_parameters()), 1e-12)


@pytest.mark.parametrize(
    "base, options",
    [
        (torch.optim.Adam, dict(lr=0.02, weight_decay=0.1)),
        (torch.optim.AdamW, dict(lr=0.02, foreach=True)),
        (torch.optim.SGD, dict(lr=0.1, momentum=0.9, dampening=0.5)),
        (torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
        (torch.optim.SGD, dict(lr=torch.tensor(0.1), maximize=True)),
        (torch.optim.RMSprop, dict(lr=0.01, alpha=0.9)),
    ],
)
def test_any_base_optimizer(size, base, options):
    """torch's own step with the gradient at w + e."""
    model, other = net(), net()
    optimizer = optim.SAM(model.parameters(), base, rho=0.3, **options)
    plain = base(other.parameters(), **options)
    for batch in batches():
        two_steps(model, optimizer, batch)
        w = dict(other.named_parameters())
        e = ascent("sam", w, gradients(other, w, batch), everywhere(0.3), 0.0)
        at = gradients(other, {n: w[n] + e[n] for n in w}, batch)
        for name, p in w.items():
            p.grad = at[name]
        plain.step()
    close(model, dict(other.named_parameters()), 1e-9)


def bits(model):
    return [t.clone() for t in model.state_dict().values()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam])
def test_state_dict_round_trip_goes_on_to_the_bit(size, kind, base):
    def made():
        model = net(torch.float32)
        kwargs = dict(momentum=0.9) if base is torch.optim.SGD else {}
        cls = {"asam": optim.ASAM, "sagm": optim.SAGM}.get(kind, optim.SAM)
        return model, cls(model.parameters(), base, rho=0.3, lr=0.05, **kwargs)

    (model, optimizer), (again, other) = made(), made()
    steps = list(batches(6, torch.float32))
    for batch in steps[:3]:
        two_steps(model, optimizer, batch)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file)
    again.load_state_dict(weights)
    other.load_state_dict(state)
    assert other.base_optimizer.state is other.state and len(state["state"]) == 6
    for batch in steps[3:]:
        two_steps(model, optimizer, batch)
        by_closure(again, other, batch)
    assert all(map(torch.equal, bits(model), bits(again)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_go_on_to_the_bit(copied):
    model = net(torch.float32)
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    steps = list(batches(2, torch.float32))
    two_steps(model, optimizer, steps[0])
    again, other = copied((model, optimizer))
    two_steps(model, optimizer, steps[1])
    two_steps(again, other, steps[1])
    assert all(map(torch.equal, bits(model), bits(again)))


@pytest.mark.parametrize("style", [two_steps, by_closure])
@pytest.mark.parametrize("on_base", [False, True])
def test_learning_rate_schedules(style, on_base):
    """pytest makes an error of torch's warning about the order of steps."""
    model = net()
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, rho=0.3, lr=0.2)
    stepped = optimizer.base_optimizer if on_base else optimizer
    schedule = torch.optim.lr_scheduler.LambdaLR(stepped, lambda t: 1.0 if t == 0 else 0.0)
    for i, batch in enumerate(batches()):
        style(model, optimizer, batch)
        schedule.step()
        if i == 0:
            after_one = bits(model)
    assert all(map(torch.equal, bits(model), after_one))
    assert not all(map(torch.equal, bits(model), bits(net())))


def test_parameters_without_a_gradient_stay(size):
    model = net()
    model[0].bias.requires_grad_(False)
    model.unused = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, lr=0.1, weight_decay=0.5)
    bias = model[0].bias.clone()
    for batch in batches():
        two_steps(model, optimizer, batch)
    assert torch.equal(model[0].bias, bias) and model.unused.tolist() == [1.0] * 3
    model[0].bias.requires_grad_(True)  # thawed: it takes part from now on
    two_steps(model, optimizer, next(batches()))
    assert not torch.equal(model[0].bias, bias)


def test_several_dtypes_have_one_norm():
    values = [torch.randn(5, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    kinds = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    ps = [nn.Parameter(v.to(d)) for v, d in zip(values, kinds, strict=True)]
    before = [p.detach().clone() for p in ps]
    optimizer = optim.SAM(ps, torch.optim.SGD, rho=2.0, adaptive=True, lr=0.5)
    for p in ps:
        p.grad = torch.full_like(p, 0.5)
    optimizer.first_step()
    exact = [b.double() for b in before]
    norm = sum((0.5 * w).square().sum() for w in exact).sqrt()
    for p, w, d in zip(ps, exact, kinds, strict=True):
        wanted = w + 2.0 * w**2 * 0.5 / norm
        torch.testing.assert_close(
            p.detach().double(), wanted, rtol=4 * torch.finfo(d).eps, atol=1e-11
        )
    optimizer.restore()
    assert all(map(torch.equal, ps, before))
    for p in ps:
        p.grad = torch.ones_like(p)
    optimizer.base_optimizer.step()
    assert all(torch.equal(p, b - 0.5) for p, b in zip(ps, before, strict=True))


def test_channels_last_weights():
    torch.manual_seed(0)
    models = [nn.Conv2d(4, 6, 3).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    models[1].to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    for model in models:
        optimizer = optim.ASAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
        for _ in range(3):
            model(x).square().mean().backward()
            optimizer.first_step(zero_grad=True)
            model(x).square().mean().backward()
            optimizer.second_step(zero_grad=True)
    assert models[1].weight.is_contiguous(memory_format=torch.channels_last)
    close(models[1], dict(models[0].named_parameters()), 1e-12)


def test_gradient_scaling_of_mixed_precision(size):
    """docs/torch-ops.md: the ascent needs no unscaled gradient; a step with an inf is skipped."""
    model, plain = net(torch.float32), net(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer, other = (
        optim.SAM(m.parameters(), torch.optim.SGD, rho=0.3, lr=0.1) for m in (model, plain)
    )
    for i, batch in enumerate(batches(3, torch.float32)):
        before = bits(model)
        scaler.scale(loss_of(model, batch)).backward()
        optimizer.first_step(zero_grad=True)
        scaler.scale(loss_of(model, batch) * (torch.inf if i == 2 else 1.0)).backward()
        optimizer.restore()
        scaler.step(optimizer.base_optimizer)
        scaler.update()
        optimizer.zero_grad()
        if i < 2:
            two_steps(plain, other, batch)
    assert all(map(torch.equal, bits(model), before))  # of the last one
    close(model, {n: p.double() for n, p in plain.named_parameters()}, 1e-6)


def test_a_closure_is_called_for_the_first_gradient_where_there_is_none():
    model, calls = net(), []
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, rho=0.3, lr=0.1)
    batch = next(batches())

    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        calls.append(loss.item())
        return loss

    returned = optimizer.step(closure)
    assert len(calls) == 2 and returned.item() == calls[0] < calls[1]


def test_a_closure_that_fails_leaves_the_model_as_it_was(size):
    model = net()
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    loss_of(model, next(batches())).backward()
    before = bits(model)

    def closure():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert all(map(torch.equal, bits(model), before))
    loss_of(model, next(batches())).backward()
    optimizer.first_step()


def test_a_group_that_is_added_later():
    model = net()
    optimizer = optim.SAM(model[0].parameters(), torch.optim.SGD, rho=0.2, lr=0.1)
    optimizer.add_param_group(dict(params=model[3].parameters(), lr=0.3))
    assert optimizer.base_optimizer.param_groups is optimizer.param_groups
    assert [g["rho"] for g in optimizer.param_groups] == [0.2, 0.2]
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    two_steps(model, optimizer, next(batches()))
    moved = {n for n, p in model.named_parameters() if "weight" in n and not p.equal(before[n])}
    assert moved == {"0.weight", "3.weight"}


def stepped(**options):
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    kind = options.pop("kind", optim.SAM)
    kind([p], options.pop("base", torch.optim.SGD), **options, lr=0.1).first_step()


REFUSED = [
    (dict(rho=-1.0), ValueError, "rho: expected a finite number >= 0; got -1.0"),
    (dict(rho="big"), TypeError, "rho: expected a number; got str"),
    (dict(adaptive=2), TypeError, "adaptive: expected a bool; got int"),
    (dict(kind=optim.ASAM, eta=float("nan")), ValueError, "eta: expected a finite number"),
    (dict(kind=optim.SAGM, variant="mine"), ValueError, "variant: expected 'paper' or 'official'"),
    (
        dict(kind=optim.SAGM, base=torch.optim.RMSprop),
        ValueError,
        "base_optimizer: RMSprop has an option alpha of its own",
    ),
    (dict(base=torch.optim.SGD([torch.ones(1)])), TypeError, "here; got an instance of SGD"),
    (dict(base="sgd"), TypeError, "base_optimizer: expected a class, as torch.optim.SGD, whose"),
    (dict(nestrov=True), TypeError, "nestrov"),
]


def test_gradients_of_the_step_before_are_not_taken_again():
    """The closure of torch's pages zeroes gradients itself, and nobody calls it beside `step`."""
    model, reference = net(), net()
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, momentum=0.9)
    expected = optim.SAM(reference.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, momentum=0.9)
    for batch in batches():

        def closure(batch=batch):
            optimizer.zero_grad()
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        before = loss_of(reference, batch).item()
        assert optimizer.step(closure).item() == before
        two_steps(reference, expected, batch)
        for p, q in zip(model.parameters(), reference.parameters(), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_since_the_step_before_are(set_to_none):
    model, calls = net(), []
    optimizer = optim.SAM(model.parameters(), torch.optim.SGD, lr=0.1)
    for batch in batches():

        def closure(batch=batch):
            calls.append(1)
            loss = loss_of(model, batch)
            loss.backward()
            return loss

        closure()
        optimizer.step(closure)
        optimizer.zero_grad(set_to_none=set_to_none)
    assert len(calls) == 2 * STEPS


def test_both_passes_under_one_autocast_see_the_weights_of_their_own():
    model, reference = net(torch.float32), net(torch.float32)
    optimizer, expected = (
        optim.SAM(m.parameters(), torch.optim.SGD, rho=5.0, lr=0.1) for m in (model, reference)
    )
    with torch.autocast("cpu", torch.bfloat16):
        for batch in batches(dtype=torch.float32):
            two_steps(model, optimizer, batch)
    for batch in batches(dtype=torch.float32):
        for step in (expected.first_step, expected.second_step):
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(reference, batch)
            loss.backward()
            step(zero_grad=True)
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("options", [dict(rho=-1.0), dict(rho=float("nan")), dict(rho="a")])
@pytest.mark.parametrize("kind", [optim.SAM, optim.ASAM, optim.SAGM])
def test_a_radius_is_checked_where_it_is_given(kind, options):
    with pytest.raises((TypeError, ValueError), match="rho: expected a"):
        kind(net().parameters(), torch.optim.SGD, **options)


@pytest.mark.parametrize("options, error, text", REFUSED)
def test_refused(options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        stepped(**options)


def test_steps_out_of_turn():
    p = nn.Parameter(torch.ones(2))
    optimizer = optim.SAM([p], torch.optim.SGD, lr=0.1)
    with pytest.raises(RuntimeError, match="first_step: no parameter has a gradient"):
        optimizer.first_step()
    with pytest.raises(RuntimeError, match="second_step: expected a first_step before it"):
        optimizer.second_step()
    with pytest.raises(TypeError, match="closure: expected a function"):
        optimizer.step()
    p.grad = torch.ones(2)
    optimizer.first_step()
    with pytest.raises(RuntimeError, match=r"first_step: the model is at w \+ e already"):
        optimizer.first_step()
    optimizer.restore()
    p.grad = torch.ones(2).to_sparse()
    other = optim.SAM([p], torch.optim.SGD, lr=0.1)
    with pytest.raises(RuntimeError, match="SAM does not support sparse gradients"):
        other.first_step()
