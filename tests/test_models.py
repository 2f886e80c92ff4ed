"""The papers' architectures: parameter counts, layers against plain calls, seeds."""

import pytest
import torch
import torch.nn.functional as F

from fedfast.models import build

# (name, options, input shape, classes) -> parameters, added up by hand or printed in the papers.
SIZES = [
    ("cnn", {}, (1, 28, 28), 10, 1_663_370),  # FedAvg
    ("lenet", {}, (3, 32, 32), 10, 797_962),  # FedGloSS, FedSAM
    ("mlp", {}, (1, 28, 28), 10, 784 * 200 + 200 + 200 * 10 + 10),
    ("mlp", {"hidden": (200, 200)}, (1, 28, 28), 10, 199_210),  # FedAvg's 2NN
    ("mclr", {}, (1, 28, 28), 10, 7_850),
    ("cnn", {"channels": (16, 32), "kernel": 3, "hidden": (500,)}, (1, 28, 28), 10, 794_310),
    (
        "lenet",
        {"channels": (4, 12), "hidden": (1024, 1024)},
        (1, 28, 28),
        10,
        104 + 1_212 + 197_632 + 1_049_600 + 10_250,
    ),
    (  # FedFSA on CIFAR-10
        "lenet",
        {"hidden": (1024, 1024)},
        (3, 32, 32),
        10,
        4_864 + 102_464 + 1_639_424 + 1_049_600 + 10_250,
    ),
    (  # FedFSA on Tiny ImageNet
        "lenet",
        {"channels": (32, 32), "hidden": (512, 1024)},
        (3, 64, 64),
        200,
        2_432 + 25_632 + (5408 + 1) * 512 + (512 + 1) * 1024 + (1024 + 1) * 200,
    ),
    ("cnn", {}, (3, 32, 32), 10, 2_432 + 51_264 + (4096 + 1) * 512 + 5_130),  # FedSOL
    ("resnet18", {}, (3, 32, 32), 10, 11_173_962),
    ("mobilenetv2", {}, (3, 32, 32), 10, 2_236_682),  # published for ImageNet: 3,504,872 with 1000
    ("mobilenetv2", {"norm": "group"}, (3, 32, 32), 1000, 3_504_872),
    (  # LEAF's Shakespeare: embedding, two LSTM layers, all characters
        "lstm",
        {},
        (80,),
        80,
        80 * 8 + 4 * 256 * (8 + 256 + 2) + 4 * 256 * (256 + 256 + 2) + (256 + 1) * 80,
    ),
    (
        "lstm",
        {"vocabulary": 20, "embedding": 3, "hidden": 5, "layers": 1},
        (7,),
        11,
        60 + 20 * (3 + 5 + 2) + 66,
    ),
]


@pytest.mark.parametrize(("name", "options", "shape", "classes", "parameters"), SIZES)
def test_parameter_counts_and_logits(name, options, shape, classes, parameters):
    model = build(name, input_shape=shape, classes=classes, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters
    x = torch.zeros(3, *shape, dtype=torch.int64 if name == "lstm" else torch.float32)
    assert model(x).shape == (3, classes)


@pytest.mark.parametrize(
    ("shape", "first_linear"), [((3, 32, 32), 4096), ((3, 64, 48), 64 * 16 * 12)]
)
def test_cnn_keeps_the_size_but_for_pooling(shape, first_linear):
    assert build("cnn", input_shape=shape, classes=10).fc1.in_features == first_linear


@pytest.mark.parametrize(
    ("name", "padding", "shape"), [("cnn", 2, (1, 9, 14)), ("lenet", 0, (2, 17, 20))]
)
def test_convolutional_models_compute_what_they_say(name, padding, shape):
    model = build(name, input_shape=shape, classes=4, seed=5).double()
    x = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = dict(model.named_parameters())
    h = x
    for conv in ("conv1", "conv2"):
        h = F.conv2d(h, p[f"{conv}.weight"], p[f"{conv}.bias"], padding=padding)
        h = F.max_pool2d(h.relu(), 2)
    h = h.flatten(1)
    linears = sorted({n.split(".")[0] for n in p if n.startswith("fc")})
    for i, fc in enumerate(linears):
        h = F.linear(h.relu() if i else h, p[f"{fc}.weight"], p[f"{fc}.bias"])
    torch.testing.assert_close(model(x), h, rtol=0, atol=1e-12)


def test_mclr_is_linear_and_mlp_is_not():
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    linear = build("mclr", input_shape=(6,), classes=3)
    curved = build("mlp", input_shape=(6,), classes=3)
    for model, expected in ((linear, True), (curved, False)):
        zero = model(torch.zeros(1, 6))
        added = model(x[:1] + x[1:]) - zero
        parts = model(x[:1]) + model(x[1:]) - 2 * zero
        assert torch.allclose(added, parts, atol=1e-5) is expected


@pytest.mark.parametrize("name", ["mlp", "mclr", "cnn", "lenet"])
def test_the_seed_alone_decides_and_the_global_state_is_untouched(name):
    def weights(seed):
        model = build(name, input_shape=(1, 16, 16), classes=3, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(7)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, weights(7))
    assert not torch.equal(first, weights(8))


def test_initialisation_is_pytorchs_own():
    torch.manual_seed(3)
    plain = torch.nn.Linear(12, 4)
    assert torch.equal(
        build("mclr", input_shape=(3, 4), classes=4, seed=3).fc1.weight, plain.weight
    )


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mpl", {}, "model: unknown name 'mpl'; did you mean 'mlp'. known: cnn, lenet, lstm, mc"),
        ("resnet", {}, "model: unknown name 'resnet'; .*known: cnn"),
        ("lenet", {"input_shape": (1, 15, 28)}, "lenet expects at least 16 x 16 .* got 15 x 28"),
        ("cnn", {"input_shape": (1, 8, 3)}, "cnn expects at least 4 x 4 pixels; got 8 x 3"),
        ("cnn", {"input_shape": (64,)}, r"input_shape: cnn expects \(C, H, W\); got \(64,\)"),
        ("cnn", {"kernel": 4}, "kernel: expected an odd size"),
        ("mlp", {"input_shape": ()}, "input_shape: expected sizes >= 1"),
        (
            "mlp",
            {"hiden": (3,)},
            "mlp option: unknown name 'hiden'; did you mean 'hidden'. known: hidden",
        ),
        ("mclr", {"hidden": ()}, "mclr option: unknown name 'hidden'; known: "),
        ("mlp", {"classes": 1}, "classes: expected at least 2; got 1"),
        ("mlp", {"seed": -1}, "seed: expected 0 <= seed"),
        ("lstm", {}, r"input_shape: lstm expects \(T,\) tokens"),
        ("mobilenetv2", {"input_shape": (9,)}, r"input_shape: mobilenetv2 expects \(C, H, W\)"),
        ("mobilenetv2", {"norm": "layer"}, "norm: unknown name 'layer'; known: batch, group"),
        ("mobilenetv2", {"groups": 3}, "groups: expected a divisor of 8; got 3"),
        ("resnet18", {"input_shape": (9,)}, r"input_shape: resnet18 expects \(C, H, W\)"),
    ],
)
def test_errors_name_the_argument(name, changes, message):
    with pytest.raises(ValueError, match=message):
        build(name, **{"input_shape": (1, 28, 28), "classes": 10, **changes})


@pytest.mark.parametrize(("name", "side"), [("cnn", 4), ("lenet", 16)])
def test_the_smallest_image_named_by_the_error_does_fit(name, side):
    model = build(name, input_shape=(1, side, side), classes=2)
    assert model(torch.zeros(1, 1, side, side)).shape == (1, 2)
