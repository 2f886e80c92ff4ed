"""Before anything imports torch or triton: how threads wait, and where kernels run.

OpenMP's threads spin for milliseconds when they wait for work. pytest-xdist's processes share the
cores, where this takes the time of those that have something to do: up to 2.7 times the CPU time.
Without a GPU Triton's kernels run in the interpreter.
"""

import gc
import os
from importlib.util import find_spec

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

if os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton"):
    import interpreter
    import kernel_accesses

    interpreter.hasten()
    interpreter.in_order()
    kernel_accesses.install()


# A tenth of all time went into collections, which walk through modules that stay.
gc.set_threshold(20_000, 20, 20)


@pytest.fixture
def one_thread():
    """For scripts of tiny operations: waking a second thread takes longer than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
