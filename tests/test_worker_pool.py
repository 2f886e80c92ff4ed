"""Threads for clients side by side: one torch thread each, whoever else sets a count."""

import threading

import torch

from fedfast.torch_settings import torch_threads
from fedfast.worker_pool import WorkerPool


def test_a_count_set_after_a_worker_began_is_not_the_workers():
    """As where the other worker did all of a call's work before this one's thread was scheduled."""
    pool, together = WorkerPool(2), threading.Barrier(2)
    with torch_threads(2):
        pool.each(lambda _: together.wait(10))  # both threads run, and have asked torch for nothing
        torch.set_num_threads(2)
        assert pool.each(lambda _: (together.wait(10), torch.get_num_threads())[1]) == [1, 1]
        assert torch.get_num_threads() == 2


def test_one_worker_computes_in_the_caller_on_one_torch_thread():
    with torch_threads(2):
        found = WorkerPool(1).each(lambda _: (threading.current_thread(), torch.get_num_threads()))
        assert found == [(threading.current_thread(), 1)]
        assert torch.get_num_threads() == 2
