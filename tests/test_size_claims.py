"""What claims to be huge is refused by name before memory is taken: < 1 s, < 200 MB."""

import gzip
import io
import resource
import struct
import time
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from test_image_folder import draw
from torch.utils.data import Dataset

from fedfast import Simulation, models
from fedfast.config import ConfigError
from fedfast.config import load as load_config
from fedfast.data import (
    FederatedData,
    as_samples,
    describe,
    dirichlet,
    dirichlet_equal,
    hsu,
    iid,
    load,
    local_split,
    natural,
    partition,
    pathological,
    read_idx,
    shards,
)
from fedfast.data.size_limits import available_memory

X, Y = torch.randn(40, 3), torch.arange(40) % 4
PARTS = [dirichlet, dirichlet_equal, hsu, iid, pathological, shards]
MORE = {"dirichlet": (1.0,), "dirichlet_equal": (1.0,), "hsu": (1.0,)}
MORE |= {"pathological": (2,), "shards": (2,)}


def refused(call, says, error=(ValueError, TypeError)):
    """The call is refused in these words, at once, and takes no memory worth speaking of."""
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(error, match=says):
        call()
    assert time.perf_counter() - begin < 3  # a second, and what a busy machine adds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


def idx(shape, kind=8):
    return bytes([0, 0, kind, len(shape)]) + np.array(shape, ">u4").tobytes()


def bomb(header, size):
    """A gzip file of `header` and `size` zeros, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [packer.compress(header)]
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def test_a_gzip_that_unpacks_to_more_than_it_says(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(bomb(idx((2, 3, 4)), 400 << 20))
    refused(lambda: read_idx(path, 3), r"x\.gz: expected 24 bytes .*; found at least 65560")
    refused(lambda: read_idx(path, 1), r"x\.gz: expected idx magic number")


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (10**6, 1000, 1000), (1, 1, 2**31)])
@pytest.mark.parametrize("name", ["x", "x.gz"])
def test_a_header_that_claims_more_than_there_is(tmp_path, shape, name):
    content = idx(shape) + bytes(1000)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    refused(lambda: read_idx(tmp_path / name, 3), f"{name}: expected [0-9]+ bytes for shape")


def png(width, height):
    """The smallest PNG of that size: one colour, its rows packed without holding them."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    packer = zlib.compressobj(9)
    row = bytes(1 + width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_000, 30_000])
def test_images_of_too_many_pixels(tmp_path, side):
    large = png(side, 13_000) if side == 13_000 else png(side, 13_000 * 30_000 // side)
    for name in ("train/a/1.png", "test/a/1.png"):
        draw(tmp_path / name)
    (tmp_path / "train/a/0.png").write_bytes(large)
    refused(lambda: load("folder", tmp_path), r"0\.png: expected an image")

    class Pictures(Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, i):
            return Image.open(io.BytesIO(large)), 0

    if side == 13_000:  # Pillow itself refuses the other
        with pytest.warns(Image.DecompressionBombWarning):
            refused(lambda: as_samples(Pictures(), "train"), r"train\[0\]\[0\]: expected an image")


def test_images_that_do_not_fit_together(tmp_path, monkeypatch):
    for name in ("train/a/1.png", "test/a/1.png"):
        draw(tmp_path / name, size=(6000, 6000), mode="1")
    monkeypatch.setattr("fedfast.data.size_limits.SMALL", 1 << 20)
    monkeypatch.setattr("fedfast.data.size_limits.available_memory", lambda: 8 << 20)
    refused(lambda: load("folder", tmp_path), "a: expected what fits into memory")


@pytest.mark.parametrize("label", [2**24, 2**31, 2**40, 2**62])
@pytest.mark.parametrize("deal", PARTS)
def test_one_huge_label(label, deal):
    y = Y.clone()
    y[7] = label
    says = f"^samples.y: expected class labels below 16,777,216; sample 7 has {label}$"
    refused(lambda: deal((X, y), 4, *MORE.get(deal.__name__, ())), says)
    refused(lambda: FederatedData.from_arrays([X], [y]), "^client 0.y: expected class labels below")


def test_a_label_that_asks_for_a_huge_table():
    y = Y.clone()
    y[7] = 2**24 - 1
    for deal in PARTS:
        refused(
            lambda d=deal: d((X, y), 10, *MORE.get(d.__name__, ())), "^samples.y: expected labels f"
        )
    data = FederatedData.from_arrays([X] * 10, [y] * 10)
    refused(data.counts, "^clients: expected labels from 0 without large gaps")


def test_a_view_of_more_than_there_is():
    """One number, 10^13 times: strides of 0 claim what a copy would take."""
    refused(
        lambda: as_samples((torch.zeros(1, 1).expand(40, 10**13), Y)),
        "^samples.x: expected what fits",
    )
    wide = np.broadcast_to(np.zeros((40, 1)), (40, 10**13))
    refused(lambda: as_samples((wide, Y)), "^samples.x: expected what fits into memory")

    class Endless(Dataset):
        def __len__(self):
            return 10**12

        def __getitem__(self, i):
            return torch.zeros(1000), 0

    refused(lambda: as_samples(Endless(), "train"), "^train: expected what fits into memory")


HUGE = {
    "rounds": 10**18,
    "threads": 10**9,
    "batch_size": 10**18,
    "local_epochs": 10**12,
    "chunk": 10**12,
    "eval_every": 10**30,
    "eval_last": 10**5000,
    "seed": 1 << 64,
}


@pytest.mark.parametrize("name", HUGE)
def test_arguments_of_a_run(name):
    data = iid((X, Y), 4)
    model = torch.nn.Linear(3, 4)
    refused(lambda: Simulation(model, data, **{name: HUGE[name]}), f"^{name}: expected")


@pytest.mark.parametrize(
    "name", ["lr", "server_lr", "weight_decay", "clip_norm", "memory", "lr_decay"]
)
def test_numbers_that_no_float_holds(name):
    data = iid((X, Y), 4)
    refused(
        lambda: Simulation(torch.nn.Linear(3, 4), data, **{name: 10**400}), f"^{name}: expected"
    )


def test_epochs_whose_batches_do_not_fit(monkeypatch):
    data = iid((X, Y), 4)
    call = lambda: Simulation(torch.nn.Linear(3, 4), data, local_epochs=10**7, rounds=1)  # noqa: E731
    if 5 * 8 * 10 * 10**7 > 0.9 * available_memory():
        refused(
            call, "^local_epochs: batches of 10,000,000 epochs of 10 samples: expected what fits"
        )


def test_a_small_share_still_draws_one_client():
    sim = Simulation(torch.nn.Linear(3, 4), iid((X, Y), 4), rounds=1, participation=1e-300)
    assert sim.run(progress=False)[-1].clients == 1


BASE = """data: {name: digits}
partition: {name: dirichlet, clients: 5, alpha: 0.5}
model: {name: mlp}
algorithms: {fedavg: {}}
"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
YAML = {
    "[" * 3000 + "]" * 3000: "nested more than 32 levels deep",
    "{a: " * 3000 + "1" + "}" * 3000: "nested more than 32 levels deep",
    "- " * 3000 + "1": "nested more than 32 levels deep",
    BASE + "lr: " + "[" * 3000: "nested more than 32 levels deep",
    "a: &a [*a]": "holds itself",
    "a: &a {b: *a}": "holds itself",
    "&a\nb: {c: *a}": "holds itself",
    BASE + LAUGHS: "unfold to more than 100,000 values",
    BASE + LAUGHS.replace("[", "{k: [").replace("]", "]}"): "unfold to more than 100,000 values",
    BASE + "rounds: 1\nrounds: 2": ":6: rounds: given twice",
    BASE + "lr: {name: a, name: b}": ":5: lr.name: given twice",
    BASE + "x: [{a: 1, a: 2}]": r":5: x\.0\.a: given twice",
    BASE + "\trounds: 1": ":5:1: YAML syntax",
    BASE + "rounds: " + "1" * 5000: ":5:9: .*cannot be read",
    BASE + "rounds: 0x" + "f" * 5000: ":5:9: .*an integer of 20000 bits",
    BASE + f"lr: {10**400}": ":5:5: .*an integer of 1329 bits",
    BASE + "rounds: 2001-99-99": ":5:9: .*cannot be read: month",
    BASE + "lr: !!float abc": ":5:5: .*cannot be read",
    BASE + "x: !!bool abc": ":5:4: .*cannot be read",
    BASE + "rounds: !!python/object/apply:os.system ['true']": ":5:9: .*could not determine",
    BASE + "[a]: 1": ":5: expected a name as key",
    BASE + "lr: .nan": "lr: expected a finite number",
    BASE + "lr: .inf": "lr: expected a finite number",
    BASE + "participation: .nan": "participation: expected",
    BASE + "rounds: '10'": "rounds: expected an integer, found '10'",
    BASE + "threads: 1000000000": "threads: expected a number less than or equal to 4096",
    BASE + "rounds: 1000000000000000000": "rounds: expected a number less than",
    BASE + "batch_size: 1000000000000000000": "batch_size: expected a number less than",
    BASE + "local_epochs: 1000000000000": "local_epochs: expected a number less than",
    BASE + "chunk: 1000000000000": "chunk: expected a number less than",
    BASE.replace("clients: 5", "clients: 1000000000000"): "partition.clients: expected a number",
    "a: 1\n" * 300_000: "expected at most 1,048,576 bytes",
}


@pytest.mark.parametrize("text", YAML, ids=range(len(YAML)))
def test_yaml_that_is_no_configuration(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    refused(lambda: load_config(path), f"run.yaml.*{YAML[text]}", ConfigError)


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "run.yaml"
    for raw in (BASE.encode() + b"x: \xe9", BASE.encode("utf-16"), bytes(100)):
        path.write_bytes(raw)
        refused(lambda: load_config(path), "run.yaml.*(not UTF-8|YAML syntax)", ConfigError)
    refused(lambda: load_config("/dev/zero"), "expected at most", ConfigError)


def test_aliases_and_merges_stay_allowed(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        BASE.replace("{fedavg: {}}", "\n  fedsam: &s {rho: 0.2}\n  b: {name: fedsam, <<: *s}")
    )
    config = load_config(path, ["--rounds", "3"])
    assert config.rounds == 3 and config.algorithms["b"].options()["rho"] == 0.2


OTHER = [None, "3", 2.5, True, [2], float("nan"), {}, -1, 0, 10**30, object()]


@pytest.mark.parametrize("deal", PARTS)
@pytest.mark.parametrize(
    "value",
    OTHER,
    ids=lambda v: f"{type(v).__name__}-{str(v)[:6]}" if type(v) is not object else "object",
)
def test_partition_arguments_of_other_types(deal, value):
    more = MORE.get(deal.__name__, ())
    refused(lambda: deal((X, Y), value, *more), "^clients: expected")
    refused(
        lambda: partition(deal.__name__.replace("_", "-"), value, clients=2),
        "expected|option|missing",
    )
    if more and not (deal is hsu and value == 0) and value != 2.5:
        options = {"alpha": "alpha", "classes_per_client": "classes_per_client"}
        if not (isinstance(more[0], float) and value == 10**30):
            refused(lambda: deal((X, Y), 2, value), f"^({'|'.join(options)}): expected")
    if not (value in (0, 10**30) and not isinstance(value, bool)):
        refused(lambda: deal((X, Y), 2, *more, seed=value), "^seed: expected")


def test_other_arguments_of_other_types():
    owned = as_samples((X, Y))
    owned = type(owned)(owned.x, owned.y, None, torch.arange(40) % 5)
    for value in ("1", None, 1.5, True):
        refused(lambda v=value: dirichlet((X, Y), 2, 1.0, min_size=v), "^min_size: expected")
        refused(lambda v=value: natural(owned, min_size=v), "^min_size: expected")
        refused(lambda v=value: load("digits").hold_out(v), "^holdout: expected")
        refused(lambda v=value: iid((X, Y), 2).client(v), "^i: expected")
    for value in ("1", 1.5, True):
        refused(lambda v=value: natural(owned, v), "^clients: expected")
    for value in (None, (X, Y), 3, "data"):
        refused(lambda v=value: local_split(v), "^data: expected FederatedData")
        refused(lambda v=value: describe(v), "^data: expected FederatedData")
    for value in ("a", None, 0, 1, 1.5, -1, float("nan"), True, [0.5]):
        refused(lambda v=value: local_split(iid((X, Y), 2), v), "^test_share: expected")
    for value in ("1", 1, None):
        refused(lambda v=value: dirichlet_equal((X, Y), 2, 1.0, refill=v), "^refill: expected")
        refused(lambda v=value: pathological((X, Y), 2, 1, refill=v), "^refill: expected")
    for value in (None, 3, ["digits"], {}):
        refused(lambda v=value: load(v), "^data set: unknown name")
        refused(lambda v=value: partition(v, (X, Y)), "^partition: unknown name")
    for value in (None, 3, ["data"]):
        refused(lambda v=value: load("digits", v), "^root: expected a path")
    refused(lambda: load("mnist", "~nobody-of-this-name/x"), "^root: expected a path")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("mlp", {"hidden": v}) for v in ([-1], [0], ["a"], [1.5], 5, "ab", [True], [10**12])),
        *(("cnn", {"channels": v}) for v in ((1,), (1, 2, 3), (0, 1), 4, (10**9, 10**9))),
        *(("lenet", {"kernel": v}) for v in (0, -1, "5", 2.5, None, 10**12)),
        *(("lstm", {o: v}) for o in ("embedding", "hidden", "layers") for v in (0, "1", 10**12)),
        *(("stochastic", {"dimZ": v}) for v in (0, -1, "a", 1.5, 10**13)),
        *(("resnet18-gn", {"groups": v}) for v in (0, 3, "2", 1.5)),
    ],
)  # fmt: skip
def test_options_of_models(name, options):
    shape = (80,) if name == "lstm" else (3, 32, 32)
    option = next(iter(options))
    says = f"^({option}|input_shape)[:.]"
    refused(lambda: models.build(name, input_shape=shape, classes=10, **options), says)


@pytest.mark.parametrize(
    "value", [None, "ab", 3, (), (0, 3), (-1,), ("a",), (2.5,), (10**12, 10**12)]
)
def test_shapes_and_classes_of_models(value):
    refused(lambda: models.build("mlp", input_shape=value, classes=3), "^input_shape: expected")
    if value != 3:
        refused(lambda: models.build("mlp", input_shape=(3,), classes=value), "^classes: expected")
