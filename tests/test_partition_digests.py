"""Who gets which sample stays what it was, on one thread or on several.

Digests of larger populations than the loops of `test_population` can deal. They are NumPy's streams
too: a NumPy that draws other numbers changes them, and the loops with them.
"""

from hashlib import sha256

import numpy as np
import pytest
import torch
from fedfast.kernels import dealing
from fedfast.kernels.threads import thread_count

from fedfast.data import Samples, partition

NUMPY = "2."  # whose generators the digests are of
EACH = 20  # samples of a client
# (partition, options, digest of 300 clients, of 30,000), as one thread dealt them in a plain loop.
CASES = [
    ("iid", {}, "2eb3bc0883c4ae5c", "153b67890b6c55e4"),
    ("iid", {"sigma": 0.7}, "98bfab454485e288", "a5e9292aa8e30aa5"),
    ("natural", {}, "58aca622893e93db", "117c3c3bff96d8d3"),
    ("dirichlet", {"alpha": 0.01, "min_size": 0}, "081d094bedd3badc", "655db3c7e718c93a"),
    ("dirichlet", {"alpha": 0.05, "min_size": 0}, "f7f67b16e80bc2d6", "0331efe0ac1cda72"),
    ("dirichlet", {"alpha": 0.3, "min_size": 0}, "73fb173b166a3304", "ed179c6dcd1f3cf7"),
    ("dirichlet", {"alpha": 5.0, "min_size": 0}, "466f83f3d75cf86f", "3978e8d52d505ceb"),
    ("dirichlet-equal", {"alpha": 0.001}, "22b0240b51678514", "5a3ef6fbfdeffd93"),
    ("dirichlet-equal", {"alpha": 0.01}, "ceb717de7a5d7540", "1c0e41a15921886f"),
    ("dirichlet-equal", {"alpha": 0.09}, "5da76030e136e3ce", "97f8d149887afa78"),
    ("dirichlet-equal", {"alpha": 0.3}, "e463512d8c4e3a91", "3fcbd5f4b751abb1"),
    ("dirichlet-equal", {"alpha": 5.0}, "68446c708e6de8a3", "4e31900becbc94e8"),
    ("dirichlet-equal", {"alpha": 0.3, "sigma": 0.7}, "0c5e9117aec99bb8", "566ec8367590f3fe"),
    ("dirichlet-equal", {"alpha": 0.3, "refill": True}, "070f2b6aba345369", "6af181b7787028b2"),
    ("dirichlet-equal", {"alpha": 0.02, "refill": True}, "b9237ff8b30e66c9", "77779c08743b5538"),
    ("dirichlet-equal", {"alpha": 0.3, "starve": True}, "430fde8199db5f85", "e3865087508ba5c3"),
    (
        "dirichlet-equal",
        {"alpha": 0.02, "starve": True, "sigma": 0.7},
        "6bcef34ab577989f",
        "83f4792edaeac502",
    ),
    ("hsu", {"alpha": 0}, "b0df973acb19f816", "31b1ad60a21f4cfb"),
    ("hsu", {"alpha": 0.003}, "db274470d173cf60", "cb0f34995abfbefb"),
    ("hsu", {"alpha": 0.05}, "c9e68c3eb635765f", "c3fd64e3b5c17b94"),
    ("hsu", {"alpha": 0.3}, "f34ffd8ff9579d01", "339e9bad79875c97"),
    ("hsu", {"alpha": 5.0}, "bd7a45e058d2e678", "3d2a9d684e7a5491"),
    ("shards", {"classes_per_client": 1}, "be499a1dc93d2111", "9cd80fcf7e8536bc"),
    ("shards", {"classes_per_client": 2}, "6b940b831a53ac8b", "7b0c92580b6ccfdb"),
    ("shards", {"classes_per_client": 5}, "202d0ca709d6c7da", "88023f0341ada674"),
    ("pathological", {"classes_per_client": 1}, "35b15e606b76e88f", "e3cfd15d5013ce0e"),
    ("pathological", {"classes_per_client": 2}, "ce5ccc825712eadd", "f2add9610bd75f17"),
    ("pathological", {"classes_per_client": 5}, "eed5b990a78aac1f", "d93caff9fc6a9a3f"),
    (
        "pathological",
        {"classes_per_client": 2, "refill": True},
        "4da57ac1f573b79d",
        "9ff879cde38d056b",
    ),
]


def pool(clients):
    """Ten classes of unequal sizes; owners in random order."""
    rng = np.random.Generator(np.random.Philox(clients))
    n = clients * EACH + 7
    labels = np.minimum(rng.integers(0, 55, n) // 5, 9)
    owner = torch.from_numpy(rng.permutation(n) % clients)
    return Samples(torch.zeros(n, 1, dtype=torch.uint8), torch.from_numpy(labels), owner=owner)


def digest(name, options, clients, seed=7):
    many = {} if name == "natural" else {"clients": clients}
    made = partition(name, pool(clients), **many, seed=seed, **options)
    words = made.order.numpy().astype("<i8").tobytes() + made.sizes.astype("<i8").tobytes()
    return sha256(words).hexdigest()[:16]


@pytest.mark.skipif(not np.__version__.startswith(NUMPY), reason="another NumPy's streams")
@pytest.mark.skipif(not dealing.AVAILABLE, reason="the compiled module is not there")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]}")
def test_partitions_are_those_of_before(case, threads):
    name, options, *expected = case
    with thread_count(threads):
        assert [digest(name, options, clients) for clients in (300, 30_000)] == expected
