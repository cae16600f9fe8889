"""A GPU for machines that have none: tensors that know where they are, streams that are as late as they may be, graphs.

Three stand-ins, each for what it can show:

- `pretend`: tensors without numbers on a device called ``cuda:0`` (torch's own fake tensors). Whatever mixes devices is
  an error, as on a GPU; whatever would wait for the GPU is written down.
- `Late`: streams whose copies happen when somebody waits for them and no sooner, on tensors with numbers. What relies
  on a copy that nobody has waited for reads old numbers here, every time.
- `Tapes`: graphs that do operators again on the same memory, so that the next replay overwrites what is kept of one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from zeroshot.clip import ClipEncoder

CUDA = torch.device("cuda", 0)


# ---------------------------------------------------------------------------------------------- tensors without numbers


class Pretended(TorchFunctionMode):
    """Makes fake tensors of real ones, and does what a torch without CUDA cannot: index tensors that are on it.

    Attributes
    ----------
    log : list of str
        ``wait: …`` for what waits for the GPU, and the names of operators, in order.
    """

    def __init__(self, fake: FakeTensorMode, log: list[str]) -> None:
        super().__init__()
        self.fake, self.log = fake, log

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one function of torch."""
        kwargs = kwargs or {}
        if func is torch.from_numpy:
            return self.fake.from_tensor(func(*args))
        args = tree_map(self._faked, tuple(args))
        known = {
            Tensor.__getitem__: self._get,
            Tensor.__setitem__: self._set,
            Tensor.copy_: self._copy,
            Tensor.numpy: self._numpy,
            Tensor.contiguous: torch.ops.aten.clone,
        }
        if func in known:
            return known[func](*args, **kwargs)
        if func in (Tensor.item, Tensor.__int__, Tensor.__float__, Tensor.__bool__, Tensor.tolist):
            self._wait(func.__name__, args[0])
            return 1
        if func in (Tensor.to, Tensor.cpu):
            moved = func(*args, **kwargs)
            if moved.device != args[0].device and not kwargs.get("non_blocking"):
                self.log.append(f"wait: to {moved.device}")
            return moved
        if func is F.scaled_dot_product_attention:
            self.log.append("attention" + (" under a mask" if kwargs.get("attn_mask") is not None else ""))
        if (out := kwargs.pop("out", None)) is not None:
            return self._copy(out, func(*args, **kwargs))
        return func(*args, **kwargs)

    def _faked(self, one: Any) -> Any:
        real = isinstance(one, Tensor) and not isinstance(one, FakeTensor) and one.device.type == "cpu"
        return self.fake.from_tensor(one) if real else one

    def _wait(self, name: str, tensor: Tensor) -> None:
        if tensor.device.type == "cuda":
            self.log.append(f"wait: {name}")

    def _numpy(self, x: Tensor) -> Any:
        assert x.device.type == "cpu", "TypeError: can't convert cuda:0 device type tensor to numpy"
        return _zeros(x)

    def _copy(self, x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if x.device != source.device and not non_blocking:
            self.log.append("wait: copy_")
        out: Tensor = torch.ops.aten.copy_(x, source)
        return out

    def _get(self, x: Tensor, index: Any) -> Tensor:
        x, tensors = self._basic(x, index)
        out: Tensor = torch.ops.aten.index(x, tensors) if any(one is not None for one in tensors) else x
        return out

    def _set(self, x: Tensor, index: Any, value: Any) -> None:
        x, tensors = self._basic(x, index)
        if any(one is not None for one in tensors):
            assert value.device == x.device, "Expected all tensors to be on the same device"
            torch.ops.aten.index_put_(x, tensors, value)
        elif isinstance(value, Tensor):
            self._copy(x, value)
        else:
            torch.ops.aten.fill_(x, value)

    def _basic(self, x: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
        """Apply integers, slices and None; return the view and the tensors that index it."""
        parts = list(index) if isinstance(index, tuple) else [index]
        if any(part is Ellipsis for part in parts):
            at = next(i for i, part in enumerate(parts) if part is Ellipsis)
            rest = x.ndim - sum(part is not None and part is not Ellipsis for part in parts)
            parts[at : at + 1] = [slice(None)] * rest
        tensors: list[Tensor | None] = []
        axis = 0
        for part in parts:
            if isinstance(part, Tensor):
                assert part.device == x.device, f"a tensor on {part.device} indexes one on {x.device}: that waits"
                assert part.dtype != torch.bool, "a mask as an index waits for the number of its ones"
                tensors.append(part)
            elif part is None:
                x = torch.ops.aten.unsqueeze(x, axis)
                tensors.append(None)
            elif isinstance(part, slice):
                start, stop, step = part.indices(x.shape[axis])
                x = torch.ops.aten.slice(x, axis, start, max(start, stop), step)
                tensors.append(None)
            else:
                x = torch.ops.aten.select(x, axis, int(part))
                continue
            axis += 1
        return x, tensors


def _zeros(x: Tensor) -> npt.NDArray[Any]:
    return np.zeros(tuple(x.shape), dtype=str(x.dtype).removeprefix("torch."))


class _Operators(TorchDispatchMode):
    """Writes down which operators run on the GPU, with the last argument of convolutions."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(one, Tensor) and one.device.type == "cuda" for one in tree_leaves(out)):
            tf32 = f" {args[-1]}" if func is torch.ops.aten._convolution.default else ""
            self.log.append(func.overloadpacket.__name__ + tf32)
        return out


@contextlib.contextmanager
def pretend(encoder: ClipEncoder, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let ``cuda:0`` be there, for this thread, and move an encoder of the CPU to it; yield the log."""
    log: list[str] = []
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    towers = encoder.vision, encoder.text
    monkeypatch.setattr("zeroshot.stream.usable_cpus", lambda: 1)  # all in this thread
    with fake, _Operators(log), Pretended(fake, log):
        for module in (module for tower in towers for module in tower.modules()):
            if getattr(module, "kept", None) is not None:
                module.kept = None  # type: ignore[assignment]  # a form for the CPU
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        moved = fake.from_tensor(tensor.detach()).to(CUDA)
                        tensors[name] = nn.Parameter(moved, False) if tensors is module._parameters else moved
        encoder.device = CUDA
        log.clear()
        yield log


# --------------------------------------------------------------------------------------------------- streams and events


class Stream:
    """A queue of work that happens when somebody waits for it."""

    def __init__(self, device: Any = None) -> None:
        self.queue: list[Callable[[], None]] = []

    def put(self, work: Callable[[], object]) -> None:
        """Queue some work, which is done once."""
        lock, left = threading.Lock(), [work]

        def once() -> None:
            with lock:
                if left:
                    left.pop()()

        self.queue.append(once)

    def wait_stream(self, other: Stream) -> None:
        """Let one's own work wait for what the other has been given so far."""
        self.put(other.until_now())

    def until_now(self) -> Callable[[], None]:
        """Return a function that does what has been given so far."""
        work = list(self.queue)

        def run() -> None:
            for one in work:
                one()

        return run


class Event:
    """A place in a queue."""

    def __init__(self, blocking: bool = False) -> None:
        self._reach: Callable[[], None] = lambda: None

    def record(self, stream: Stream) -> None:
        """Stand behind what the stream has been given so far."""
        self._reach = stream.until_now()

    def synchronize(self) -> None:
        """Wait until it is done."""
        self._reach()


class Late:
    """Streams and copies on the CPU, for a device that is called ``cuda:0``: nothing is done before it must be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._local = threading.local()
        self._default = Stream()
        self._to, self._copy, self._empty = Tensor.to, Tensor.copy_, torch.empty
        self.recorded_streams = 0
        replaced = {
            "Stream": Stream, "Event": Event, "stream": self.stream, "current_stream": lambda device=None: self.current,
        }  # fmt: skip
        for name, value in replaced.items():
            monkeypatch.setattr(torch.cuda, name, value)
        late = self

        def to(x: Tensor, *args: Any, non_blocking: bool = False, **kwargs: Any) -> Tensor:
            if args[:1] != (CUDA,):
                return late._to(x, *args, **kwargs)
            assert non_blocking, "in the background"
            moved = torch.full_like(x, torch.nan)
            late.current.put(lambda: late._copy(moved, x))
            return moved

        def copy_(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
            if not non_blocking:
                return late._copy(x, source)
            late.current.put(lambda: late._copy(x, source))
            return x

        def record_stream(x: Tensor, stream: Stream) -> None:
            late.recorded_streams += 1

        def empty(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
            return late._empty(*args, **kwargs)

        monkeypatch.setattr(Tensor, "to", to)
        monkeypatch.setattr(Tensor, "copy_", copy_)
        monkeypatch.setattr(Tensor, "record_stream", record_stream)
        monkeypatch.setattr(torch, "empty", empty)

    @property
    def current(self) -> Stream:
        """The stream that this thread has chosen."""
        stream: Stream = getattr(self._local, "stream", self._default)
        return stream

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        """Choose a stream."""
        before, self._local.stream = self.current, stream
        try:
            yield
        finally:
            self._local.stream = before

    def compute(self) -> None:
        """Do what a kernel on the current stream would find done."""
        self.current.until_now()()


# --------------------------------------------------------------------------------------------------------------- graphs


class Tape(TorchDispatchMode):
    """A graph on the CPU: records operators with the tensors that they were given, and does them again."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        """Do it again, and write to the tensors that came of it the first time."""
        for func, args, kwargs, out in self.steps:
            again = func(*args, **kwargs)
            for new, old in zip(tree_leaves(again), tree_leaves(out), strict=True):
                if isinstance(new, Tensor) and new.data_ptr() != old.data_ptr():  # no view, and not in place
                    old.copy_(new)


class Tapes:
    """What takes the place of `torch` in `zeroshot.nets.graphs`.

    Attributes
    ----------
    recorded : list of Tape
    """

    inference_mode = staticmethod(torch.inference_mode)

    def __init__(self) -> None:
        self.recorded: list[Tape] = []
        self.cuda = SimpleNamespace(
            CUDAGraph=Tape, graph=self._graph, graph_pool_handle=object, device=lambda _: contextlib.nullcontext(),
            Stream=Stream, stream=lambda _: contextlib.nullcontext(), current_stream=Stream,
            Event=lambda: SimpleNamespace(wait=lambda stream: None, record=lambda stream: None),
        )  # fmt: skip

    @contextlib.contextmanager
    def _graph(self, tape: Tape, *, pool: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local", "what other threads do would break the recording"
        self.recorded.append(tape)
        with tape:
            yield
