"""A batch of images in shares, each computed by one thread of its own.

torch lets all its threads work on one product after the other, and each time the quicker ones wait for the slowest.
With a share of the images for each thread nobody waits before the end, and what a layer leaves for the next one is
still in the cache of the core that needs it. What that gives is in `tests/benchmarks/README.md`.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

# Images in a share: with fewer of them matrices are read too often for too little, with more they leave the cache.
_LEAST, _MOST = 4, 16
# Images in a batch that is shared.
LEAST_SHARED = 2 * _LEAST

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def in_lanes(encode: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """Compute a batch on the CPU with as many threads as torch has here, each image by one of them.

    Parameters
    ----------
    encode : callable
        From (n, ...) to (n, ...), each row by itself; called in other threads.
    batch : Tensor of shape (n, ...)
        On the CPU. A batch that is too small to be shared goes through `encode` as it is, in the caller's thread.

    Returns
    -------
    Tensor of shape (n, ...)
        What `encode` gives for the whole, beyond rounding.
    """
    threads = torch.get_num_threads()
    if threads == 1 or len(batch) < LEAST_SHARED:
        return encode(batch)
    lanes = min(threads, len(batch) // _LEAST)
    shares = -(-len(batch) // (lanes * _MOST)) * lanes  # as many for each lane, and of like sizes
    return torch.cat(list(_pool(threads).map(_as_here(encode), batch.tensor_split(shares))))


def each_in_lanes(work: Callable[[ItemT], object], items: Sequence[ItemT]) -> None:
    """Do pieces of work on the CPU that do not depend on each other, each in one thread."""
    threads = torch.get_num_threads()
    if threads == 1 or len(items) < threads:
        deque(map(work, items), maxlen=0)
    else:
        deque(_pool(threads).map(_as_here(work), items), maxlen=0)


def _as_here(work: Callable[[ItemT], ResultT]) -> Callable[[ItemT], ResultT]:
    """Take along what a thread has of its own: whether operations are recorded for gradients."""
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def there(item: ItemT) -> ResultT:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(item)

    return there


def _pool(threads: int) -> ThreadPoolExecutor:
    """Return that many threads, in each of which torch computes with one thread; made once."""
    with _lock:
        if threads not in _pools:
            _pools[threads] = _begin(threads)
        return _pools[threads]


def _begin(threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(threads, thread_name_prefix="zeroshot-lane")
    begun = threading.Barrier(threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # what a thread begins with is set when it first matters, and must not be set later
        torch.set_num_threads(1)  # of this thread …
        begun.wait()

    for _ in range(threads):
        pool.submit(begin)
    begun.wait()
    torch.set_num_threads(threads)  # … but threads that are made later begin with the number that was set last
    return pool


def _alone() -> None:
    """Begin anew in a forked process: all threads stayed with the parent, ours and OpenMP's.

    OpenMP would wait for its own without end, so torch computes with one thread here, as in the workers of its
    `DataLoader`.
    """
    _pools.clear()
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_alone)
