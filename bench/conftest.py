"""What every benchmark gets: its number of threads, its yardsticks and where it was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sizes
from alternate import torch_threads


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--smoke", action="store_true", help="the smallest sizes, nothing timed")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("smoke"):
        sizes.SMOKE = True
        config.option.benchmark_disable = True


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Which machine it was in its network is nobody's business; of the CPU what tells it apart."""
    for name in ("node", "release"):
        del machine_info[name]
    told = ("arch", "brand_raw", "family", "model", "stepping", "count")
    machine_info["cpu"] = {key: machine_info["cpu"].get(key) for key in told}


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Small enough to be committed: five digits, not all of the stats, not the plugin's options."""
    left_out = ("total", "ld15iqr", "hd15iqr", "iqr_outliers", "stddev_outliers")
    for one in output_json["benchmarks"]:
        del one["options"]
        stats = {key: value for key, value in one["stats"].items() if key not in left_out}
        one["stats"] = {
            k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in stats.items()
        }


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Torch's threads, which the library's operations take too: one, or the indirect parameter."""
    count: int = sizes.pick(getattr(request, "param", 1), 1)
    with torch_threads(count):
        yield count


@pytest.fixture
def benchmark(benchmark: Any, threads: int, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The plugin's fixture; yardsticks before and after, with the clock of the benchmark."""
    from result_files import commit, processor
    from yardsticks import rates, seconds

    if benchmark.disabled:
        yield benchmark
        return
    marker = request.node.get_closest_marker("benchmark")
    timer = (marker.kwargs if marker else {}).get("timer", time.perf_counter)
    before = seconds(timer)
    yield benchmark
    benchmark.extra_info |= {"threads": threads, "commit": commit(), "cpu": processor()}
    benchmark.extra_info["yardsticks"] = rates(before, seconds(timer))


@pytest.fixture
def cold(benchmark: Any) -> Callable[[Callable[[], object]], None]:
    """Times an action whose operands are not in the caches.

    In training, forward and backward passes run between two operations on a buffer `[K, S]`.
    """
    import torch

    filler = torch.empty(sizes.pick(2**25, 1))  # 128 MB

    def fill() -> None:
        filler.fill_(1.0)

    return lambda action: benchmark.pedantic(action, setup=fill, rounds=15, warmup_rounds=2)


@pytest.fixture
def contestant() -> str:
    """Who is timed, see `marks.beside`."""
    return "fedfast"


@pytest.fixture
def contest(
    benchmark: Any, cold: Callable[..., None], threads: int, contestant: str
) -> Callable[..., None]:
    """`contest(operation, n, fedfast=..., foreach=...)`: a contestant of a model-sized operation.

    n counts bytes per element of all K clients, as the operation's docstring does. `beside`
    chooses the action: `foreach` is the best that torch's foreach functions
    allow on lists of tensors as an nn.Module holds them, `per_tensor` what published code does.
    """
    from buffers import K, P

    def run(operation: str, bytes_per_element: float, **actions: Callable[[], object]) -> None:
        benchmark.group = f"{operation}, threads: {threads}"
        benchmark.extra_info["bytes"] = round(bytes_per_element * K * P)
        cold(actions[contestant])

    return run
