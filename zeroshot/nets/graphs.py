"""CUDA graphs: what a tower does with a number of images, recorded once and launched as a whole.

A few images keep a GPU busy for less time than Python takes to launch some hundred kernels one by one. A graph launches
them at once; they are the same kernels, and give the same numbers.

torch.compile can record graphs by itself (``mode="reduce-overhead"``), but keeps them by the thread: every stream would
record its own. It also translates and records anew for each number of images that it meets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# Runs before the recording, in which libraries choose kernels and reserve memory, and the compiler translates.
_WARM_UPS = 3
# One at a time in a process: the generators of random numbers take part in every recording on their device.
_RECORDING = threading.Lock()


@dataclass(frozen=True)
class _Graph:
    """A recording, with the memory that it reads and writes."""

    graph: Any  # torch.cuda.CUDAGraph
    pixels: Tensor
    out: Tensor


class Recorded:
    """A tower that is recorded as it is used: (n_images, 3, H, W) on a GPU -> (n_images, dim).

    Batches are filled up to a power of two, so that there are few recordings. The first batch of a size that is less
    than one recorded before is filled up to that one: mostly it is the end of a stream, and no other will come.

    Parameters
    ----------
    tower : callable
        Does the same for the same shape, and never waits for the GPU. Images do not depend on their neighbours.
    """

    def __init__(self, tower: Callable[[Tensor], Tensor]) -> None:
        self._tower = tower
        self._graphs: dict[int, _Graph] = {}
        self._met: set[int] = set()
        self._lock = threading.Lock()
        self._used: torch.cuda.Event | None = None
        self._pool: Any = None  # all recordings work in the same memory: one runs at a time

    def __call__(self, pixels: Tensor) -> Tensor:
        """Replay the recording of so many images; make it before, if there is none."""
        with self._lock, torch.inference_mode(), torch.cuda.device(pixels.device):
            stream = torch.cuda.current_stream()
            if self._used is None:
                self._used, self._pool = torch.cuda.Event(), torch.cuda.graph_pool_handle()  # type: ignore[no-untyped-call]
            self._used.wait(stream)  # others may have used it on a stream of their own
            size = self._size_for(len(pixels))
            if size not in self._graphs:
                self._graphs[size] = self._record(size, pixels)
            recorded = self._graphs[size]
            recorded.pixels[: len(pixels)].copy_(pixels)  # what lies behind is of earlier batches, and read by nobody
            recorded.graph.replay()
            out = recorded.out[: len(pixels)].clone()  # the next replay writes to the same memory
            self._used.record(stream)
            return out

    def _size_for(self, count: int) -> int:
        """Return the number of images that a batch is filled up to."""
        size = 1 << (count - 1).bit_length()
        if size in self._graphs or size in self._met:
            return size
        self._met.add(size)
        return min((one for one in self._graphs if one > size), default=size)

    def _record(self, size: int, like: Tensor) -> _Graph:
        pixels = like.new_zeros((size, *like.shape[1:]))
        with _RECORDING:
            current, apart = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
            apart.wait_stream(current)
            with torch.cuda.stream(apart):
                for _ in range(_WARM_UPS):
                    self._tower(pixels)
            current.wait_stream(apart)
            graph = torch.cuda.CUDAGraph()
            # Other threads go on with whatever they do, copies and allocations among it.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                out = self._tower(pixels)
        return _Graph(graph, pixels, out)
