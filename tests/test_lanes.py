"""A batch in shares: the numbers of the whole, in order; and nothing that others notice."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import zeroshot
from zeroshot import lanes
from zeroshot.lanes import in_lanes


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def rows_and_threads(batch: Tensor) -> Tensor:
    """Twice each row, and beside it how many threads torch has here, and how many rows came together."""
    here = torch.tensor([torch.get_num_threads(), len(batch)], dtype=batch.dtype)
    return torch.cat([batch * 2, here.expand(len(batch), 2)], dim=1)


@given(st.integers(0, 200), st.sampled_from([2, 3]))
def test_rows_keep_their_order_and_shares_their_sizes(n: int, threads: int) -> None:
    torch.set_num_threads(threads)
    batch = torch.arange(n, dtype=torch.float32)[:, None]
    out = in_lanes(rows_and_threads, batch)
    assert torch.equal(out[:, :1], batch * 2)
    if n < lanes.LEAST_SHARED:
        assert (out[:, 1:] == torch.tensor([threads, n])).all()
    else:
        assert (out[:, 1] == 1).all()
        assert out[:, 2].min() >= 4
        assert out[:, 2].max() <= 16


def test_one_thread_shares_nothing() -> None:
    torch.set_num_threads(1)
    assert (in_lanes(rows_and_threads, torch.zeros(40, 1))[:, 1:] == torch.tensor([1, 40])).all()


def test_shares_are_computed_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=30)  # none passes before three are there
    in_lanes(lambda batch: (together.wait(), batch)[1], torch.zeros(12, 1))


def test_other_threads_keep_their_number_of_torch_threads() -> None:
    lanes._pools.clear()  # so that they are made now
    in_lanes(rows_and_threads, torch.zeros(40, 1))
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 3


def test_an_error_of_a_share_is_the_error_of_the_batch() -> None:
    def encode(batch: Tensor) -> Tensor:
        if 20 in batch:
            raise ValueError("the row 20")
        return batch

    batch = torch.arange(40)[:, None]
    with pytest.raises(ValueError, match="the row 20"):
        in_lanes(encode, batch)
    assert len(in_lanes(encode, batch[:20])) == 20  # and the threads go on


def test_embeddings_are_those_of_images_alone() -> None:
    encoder = zeroshot.load("mini")
    pixels = torch.randn(19, 3, *encoder.preprocess.size, generator=torch.Generator().manual_seed(0))
    together = encoder.encode_pixels(pixels)
    alone = torch.cat([encoder.encode_pixels(one[None]) for one in pixels])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    assert (together[1:] - alone[:-1]).abs().max() > 1e-2  # another image has other numbers
    assert encoder.features_of_pixels(pixels).shape == (19, encoder.feature_dim)


def test_many_callers_at_once() -> None:
    batches = [torch.full((50, 1), float(n)) for n in range(16)]
    with ThreadPoolExecutor(8) as callers:
        for batch, out in zip(batches, callers.map(lambda b: in_lanes(rows_and_threads, b), batches), strict=True):
            assert torch.equal(out[:, :1], batch * 2)


def _in_child(found: multiprocessing.Queue[int]) -> None:
    torch.set_num_threads(2)
    found.put(len(in_lanes(lambda batch: batch.clone(), torch.zeros(40, 1))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_makes_threads_of_its_own() -> None:
    in_lanes(rows_and_threads, torch.zeros(40, 1))  # the parent has some
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[int] = context.Queue()
    child = context.Process(target=_in_child, args=(found,))
    child.start()
    assert found.get(timeout=30) == 40
    child.join(timeout=30)
    assert child.exitcode == 0


_FORKED = """
import os, signal, torch, zeroshot.lanes
images = torch.ones(512, 512)
expected = images.exp().sum()  # by OpenMP's threads
assert torch.get_num_threads() == 2
child = os.fork()
if child == 0:
    signal.alarm(20)  # its end, should it hang
    os._exit(torch.get_num_threads() != 1 or not torch.isclose(images.exp().sum(), expected))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_computes_after_its_parent_did() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKED], env=environment, check=True, timeout=120)


def test_pieces_of_work_are_done_by_threads_as_the_caller_computes() -> None:
    found: list[tuple[int, int, bool, bool]] = []

    def work(number: int) -> None:
        found.append((number, torch.get_num_threads(), torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

    with torch.inference_mode():
        lanes.each_in_lanes(work, range(7))
    assert sorted(found) == [(number, 1, True, False) for number in range(7)]
    found.clear()
    lanes.each_in_lanes(work, range(7))
    assert sorted(found) == [(number, 1, False, True) for number in range(7)]
    found.clear()
    lanes.each_in_lanes(work, [8, 9])  # too few to be shared
    assert found == [(8, 3, False, True), (9, 3, False, True)]
    with pytest.raises(ZeroDivisionError):
        lanes.each_in_lanes(lambda number: 1 // number, [2, 1, 0])
