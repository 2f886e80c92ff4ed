"""Data sets with a `__getitem__` of their own: its items are what is trained on."""

import numpy as np
import pytest
import torch
from foreign_datasets import COLOUR, LABELS, PIXELS, Cifar, Mnist, Rows, Svhn, rows
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    random_split,
)

from fedfast.data import as_samples, from_huggingface, iid
from fedfast.data import vision as adapter

X = torch.arange(24, dtype=torch.float32).view(6, 4)
Y = torch.tensor(LABELS)


def wrapped(inner):
    """Another data set in the middle alone: first and last items are those of the arrays."""

    class Changed(type(inner)):
        def __init__(self):
            vars(self).update(vars(inner))

        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return (x, 7) if i == 2 else (x, y)

    return Changed()


class Delegating:
    """A wrapper that answers for all else as what it wraps does."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, i):
        x, y = self.inner[i]
        return (x, 7) if i == 2 else (x, y)


class Noise(Dataset):
    """Labels changed at random, drawn anew whenever an item is asked for."""

    def __init__(self, inner, seed=0):
        self.inner, self.rng = inner, np.random.default_rng(seed)

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, i):
        x, _ = self.inner[i]
        return x, int(self.rng.integers(0, 100))


INNER = [lambda: TensorDataset(X, Y), Cifar, Mnist, Svhn]


def items(dataset):
    """What a user's own loop over the data set sees."""
    pairs = [dataset[i] for i in range(len(dataset))]
    as_tensor = [
        x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x)) for x, _ in pairs
    ]
    stacked = torch.stack(as_tensor)
    if stacked.ndim == 3:
        stacked = stacked[:, None]
    elif stacked.ndim == 4:
        stacked = stacked.movedim(-1, 1)
    return stacked, torch.tensor([int(y) for _, y in pairs])


@pytest.mark.parametrize("make", INNER)
@pytest.mark.parametrize("wrap", [wrapped, Delegating, lambda d: Subset(wrapped(d), [0, 2, 1])])
def test_items_win_over_arrays(make, wrap):
    dataset = wrap(make())
    found = as_samples(dataset)
    x, y = items(dataset)
    assert 7 in found.y.tolist()
    assert torch.equal(found.y, y) and torch.equal(found.x, x)


@pytest.mark.parametrize("make", INNER)
def test_random_items_are_drawn_once(make):
    expected = [y for _, y in (lambda d: [d[i] for i in range(6)])(Noise(make()))]
    assert as_samples(Noise(make())).y.tolist() == expected
    assert iid(Noise(make()), 1, seed=3).y.tolist() == expected


def test_parts_and_chains_of_data_sets():
    both = ConcatDataset([TensorDataset(X, Y), wrapped(TensorDataset(X, Y))])
    assert as_samples(both).y.tolist() == [*LABELS, 0, 1, 7, 0, 1, 2]
    parts = random_split(wrapped(TensorDataset(X, Y)), [4, 2], torch.Generator().manual_seed(1))
    for part in parts:
        expected = [7 if i == 2 else LABELS[i] for i in part.indices]
        assert as_samples(part).y.tolist() == expected
    for part in random_split(TensorDataset(X, Y), [4, 2]):
        assert torch.equal(as_samples(part).x, X[torch.tensor(part.indices)])
    for indices in (range(5, 2, -1), torch.tensor([3, 3, 0]), np.array([-1, 2]), (1,)):
        found = as_samples(Subset(TensorDataset(X, Y), indices))
        assert torch.equal(found.x, X[torch.tensor([int(i) for i in indices])])
    same = as_samples(TensorDataset(X, Y))
    assert torch.equal(same.x, X) and torch.equal(same.y, Y)


def test_a_replaced_method_is_no_longer_the_known_one(monkeypatch):
    def noisy(self, i):
        return self.tensors[0][i], 5

    monkeypatch.setattr(TensorDataset, "__getitem__", noisy)
    assert as_samples(TensorDataset(X, Y)).y.tolist() == [5] * 6
    assert as_samples(Subset(TensorDataset(X, Y), [0, 1])).y.tolist() == [5] * 2


def test_labels_and_inputs_of_every_kind():
    class Kinds(Dataset):
        def __init__(self, labels):
            self.labels = labels

        def __len__(self):
            return len(self.labels)

        def __getitem__(self, i):
            return np.full((2, 2), i, ">f4")[::-1], self.labels[i]

    good = [1, np.int64(2), torch.tensor(3), np.array(4), torch.tensor([5]), np.array([6], ">i2")]
    found = as_samples(Kinds(good))
    assert found.y.tolist() == [1, 2, 3, 4, 5, 6] and found.x[:, 0, 0].tolist() == list(range(6))
    bad = [1.0, True, "1", None, np.bool_(True), torch.tensor(True), torch.eye(3)[0], [1], 2**70]
    for label in [*bad, torch.tensor([1, 0, 0]), np.float32(1), np.array(1.0), b"1", np.str_("1")]:
        with pytest.raises(
            (TypeError, ValueError), match=r"^train\[1\]\[1\]: expected .*class label"
        ):
            as_samples(Kinds([0, label]), "train")


def test_a_buffer_used_again_is_read_in_time():
    class Reusing(Dataset):
        buffer = torch.zeros(3)

        def __len__(self):
            return 4

        def __getitem__(self, i):
            return self.buffer.fill_(i), i

    assert as_samples(Reusing()).x[:, 0].tolist() == [0, 1, 2, 3]


class Endless(IterableDataset):
    def __iter__(self):
        yield X[0], 0

    def __len__(self):
        return 1


class Columns(Delegating):
    """Has columns only through what it wraps: the rows of `datasets` are not its own."""

    def __getitem__(self, i):
        return {"img": 1, "label": 2}


class Unsized(Dataset):
    def __getitem__(self, i):
        return X[i], 0


class Short(TensorDataset):
    def __len__(self):
        return 9


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (DataLoader(TensorDataset(X, Y)), "train: .* got DataLoader; pass its .dataset"),
        (Endless(), "train: expected .* a map-style Dataset with a length; got Endless"),
        (Unsized(), "train: expected .* a map-style Dataset with a length; got Unsized"),
        (Short(X, Y), r"train\[6\]: expected 9 items, which is its length; got IndexError"),
        (Subset(TensorDataset(X, Y), [0, 6]), r"train\[1\]: expected 2 items"),
        (TensorDataset(X), r"train\[0\]: expected a pair"),
        (TensorDataset(X, Y, Y), r"train\[0\]: expected a pair"),
        (TensorDataset(X, X), r"train\[0\]\[1\]: expected an integer class label"),
        (TensorDataset(X, Y.float()), r"train\[0\]\[1\]: expected an integer class label"),
        (Columns(rows()), r"train\[0\]: expected a pair \(x, y\); got dict"),
    ],
)
def test_what_cannot_be_read_item_by_item_is_named(dataset, message):
    with pytest.raises((TypeError, ValueError), match=message):
        as_samples(dataset, "train")


def test_torchvisions_own_class_alone_is_read_whole(monkeypatch):
    """A fake module: its class is read at once, a subclass and a replaced method are not."""
    import sys
    import types

    asked = []
    source = """
class CIFAR10:
    transform = target_transform = transforms = None
    def __init__(self): self.data, self.targets = COLOUR.copy(), list(LABELS)
    def __len__(self): return len(self.data)
    def __getitem__(self, i):
        asked.append(i)
        return Image.fromarray(self.data[i]), self.targets[i]
"""
    module = types.ModuleType("torchvision.datasets.cifar")
    module.__file__ = "cifar.py"
    vars(module).update(COLOUR=COLOUR, LABELS=LABELS, asked=asked, Image=Image)
    exec(compile(source, "cifar.py", "exec"), vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert torch.equal(as_samples(module.CIFAR10()).x, PIXELS) and set(asked) == {0, 5}
    assert adapter._as_arrays(module.CIFAR10()) is not None
    assert adapter._as_arrays(wrapped(module.CIFAR10())) is None
    original = module.CIFAR10.__getitem__
    monkeypatch.setattr(module.CIFAR10, "__getitem__", lambda self, i: (original(self, i)[0], 7))
    assert as_samples(module.CIFAR10()).y.tolist() == [7] * 6


def test_a_random_transform_of_rows_reaches_input_and_label_alike():
    rng = np.random.default_rng(0)

    def stamp(batch):
        """A backdoor: some rows are stamped, and have label 9."""
        chosen = rng.random(len(batch["label"])) < 0.5
        images = [np.full((2, 2), float(c)) for c in chosen]
        return {"img": images, "label": np.where(chosen, 9, batch["label"]).tolist()}

    found = from_huggingface(rows().with_transform(stamp))
    assert ((found.x[:, 0, 0] == 1) == (found.y == 9)).all() and (found.y == 9).any()


def test_a_subclass_of_rows_is_asked_itself():
    class Noisy(Rows):
        def __getitem__(self, rows):
            return super().__getitem__(rows) | {"label": [7] * len(range(*rows.indices(6)))}

    plain = rows()
    assert as_samples(Noisy(plain.columns, plain.features)).y.tolist() == [7] * 6
