"""Named tensors of checkpoint files, mapped into memory: opening reads names and shapes, and using a tensor its bytes.

Two formats are read, told apart by their first bytes, whatever the files are called:

==============  =====================================================================================================
safetensors     a header of names, types and places, then the bytes; read by safetensors' own library
torch archive   a zip file of one record of bytes for each storage and a pickle, ``data.pkl``, that says which tensors
                are made of them: a state dict that ``torch.save`` wrote, or a traced module that ``torch.jit.save``
                wrote, as OpenAI published CLIP
==============  =====================================================================================================

A pickle is a program. It is not run here: `_interpret` goes through its instructions with a stack that holds nothing
but numbers, strings, lists, tuples, dicts, tensors and the allowed names, none of which is ever called. One reader
serves both kinds of archives, so neither ``torch.load``, which reads no modules, nor ``torch.jit.load``, which makes
their code runnable and copies every weight, is needed. Pickles outside of an archive, which torch wrote before 1.6, and
archives that were compressed, which torch never does, are refused.
"""

from __future__ import annotations

import mmap
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import safetensors
import torch
from torch import Tensor

from zeroshot.errors import CheckpointError, CheckpointNotFoundError

# What else is found under the names of weights, by how it begins, and what to do about it.
_MISTAKES = {
    b"version https://git-lfs.github.com/spec/": "is a pointer of Git LFS, not the weights; run git lfs pull",
    b"<": "is a web page, not the weights; fetch the file that it speaks of",
    b"\x80": "is a bare pickle, as torch wrote before 1.6; save its state dict again, best as safetensors",
}
_STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_DICT, _TENSOR, _PARAMETER = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)
# What damage leads to: no directory, too little on the stack, values in each other's places, shapes that torch refuses.
_DAMAGES = (
    *(zipfile.BadZipFile, NotImplementedError, struct.error),
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError),
    Warning,  # where warnings are errors: pickletools warns of backslashes in names
)
_TRACED = "__torch__."  # the package that torch.jit puts the classes of its modules in
# Some ten times what the largest checkpoint needs with the state of its optimizer. They bound the memory that a
# hostile pickle can ask for: every byte can make an object, and modules that hold each other multiply the names.
_MOST_PICKLE_BYTES = 2**24
_MOST_NAME_CHARACTERS = 2**22


class Weights:
    """Named tensors of one or several files, which stay on disk until they are used.

    Files are safetensors files or torch archives. Of a training checkpoint, the dict under ``state_dict`` is read, and
    names lose the ``module.`` of data-parallel training. What is no tensor is passed over.

    Parameters
    ----------
    files : iterable of Path
        Files, or links to them; together they hold each name once.

    Attributes
    ----------
    files : tuple of Path
    shapes : dict of str to tuple of int
        Shape of each tensor by its name.
    dtypes : dict of str to torch.dtype
        Type of each tensor by its name.

    Raises
    ------
    CheckpointNotFoundError
        If a file does not exist.
    CheckpointError
        If a file is damaged, is of another format, or asks for anything but tensors.

    Examples
    --------
    >>> import tempfile, pathlib, torch
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "checkpoint.pt"
    >>> torch.save({"epoch": 3, "state_dict": {"module.conv1.weight": torch.ones(4, 2)}}, path)
    >>> weights = Weights([path])
    >>> weights.shapes
    {'conv1.weight': (4, 2)}
    >>> weights.read(("conv1.weight",)).sum()
    tensor(8.)
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = tuple(files)
        self._tensors: dict[str, Tensor] = {}
        for path in self.files:
            tensors = _open(path)
            for name in tensors.keys() & self._tensors.keys():
                raise CheckpointError(f"{path} holds {name!r} as another of the files does; expected each name once")
            self._tensors |= tensors
        self.shapes = {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in self._tensors.items()}

    def read(self, names: tuple[str, ...]) -> Tensor:
        """Return one tensor, or several concatenated along their rows.

        One tensor is a view of the mapped file: its bytes are read when it is used, and shared with whoever maps the
        file. Writing to it changes neither the file nor what others see of it.

        Raises
        ------
        CheckpointError
            If there is no tensor of that name.
        """
        for name in names:
            if name not in self._tensors:
                raise CheckpointError(f"no tensor is called {name!r} in {', '.join(map(str, self.files))}")
        tensors = [self._tensors[name] for name in names]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def count(self, pattern: str) -> int:
        """One more than the largest number in the first group of `pattern` over all names: the count of layers."""
        found = [int(match.group(1)) for name in self.shapes if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1


def _open(path: Path) -> dict[str, Tensor]:
    """Return the tensors of one file by their names; their bytes are not read."""
    try:
        with path.open("rb") as file:
            start = file.read(100)
            if start.startswith(b"PK\3\4"):
                return _open_archive(path, file)
        if start[8:9] == b"{":
            return _open_safetensors(path)
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"{path} does not exist; expected the weights there") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not start:
        raise CheckpointError(f"{path} is empty; fetch it again")
    for beginning, mistake in _MISTAKES.items():
        if start.lstrip().startswith(beginning):
            raise CheckpointError(f"{path} {mistake}")
    raise CheckpointError(
        f"{path} begins with {start[:16]!r}; expected a safetensors file or an archive of torch. Fetch it again"
    )


def _open_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        handle: Any = safetensors.safe_open(path, framework="pt")
        return {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  (a handle is no mapping)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is no valid safetensors file: {error}; fetch it again") from error


def _open_archive(path: Path, file: BinaryIO) -> dict[str, Tensor]:
    try:
        archive = _Archive(file)
        content = _interpret(archive.pickle(), archive.storage)
        if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__} in place of a state dict")
        tensors = _collect(content)
        if not tensors:
            raise ValueError(f"it holds no tensors, but {', '.join(map(str, content)) or 'nothing':.80}")
    except _DAMAGES as error:
        reason = str(error).partition("\n")[0]  # torch adds its own call stack
        raise CheckpointError(
            f"{path} is no torch archive of plain tensors: {reason}. Fetch it again, or save the state dict that it "
            "was made from as safetensors"
        ) from error
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


class _Archive:
    """The records of a torch archive, mapped into memory.

    Every record that is used has to be stored as it is, as torch does, so that it can be mapped and no small file can
    unfold to a large one.
    """

    def __init__(self, file: BinaryIO) -> None:
        records = zipfile.ZipFile(file).infolist()
        self._records = {record.filename: record for record in records}
        if len(self._records) < len(records):
            raise ValueError("it holds two records of the same name")
        for name in map(PurePosixPath, self._records):
            if name.is_absolute() or ".." in name.parts:
                raise ValueError(f"its record {str(name)!r:.80} is named to lead out of it")
        folders = [name.split("/")[0] for name in self._records if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(folders) != 1:
            raise ValueError("it is a zip file without data.pkl in its one folder")
        self._folder = folders[0]
        # Private to this process, and writable: torch warns of tensors that cannot be written.
        self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        order = self._read("byteorder") if f"{self._folder}/byteorder" in self._records else b"little"
        if order != sys.byteorder.encode():
            raise ValueError("its numbers have another order of bytes than those of this machine")

    def pickle(self) -> bytes:
        """Return the pickle that says which tensors there are."""
        return self._read("data.pkl")

    def storage(self, identity: object) -> Tensor:
        """Return the numbers of one record, in one dimension, by what the pickle calls it."""
        match identity:
            case ("storage", _Global(kind), str(key), _, int(count)) if kind in _STORAGES:  # _: the device it was on
                dtype = _STORAGES[kind]
            case _:
                raise ValueError("its pickle refers to something else than a storage of numbers")
        start, size = self._locate(f"data/{key}")
        if not 0 <= count * dtype.itemsize <= size:
            raise ValueError(f"its record {key!r} of {size} bytes cannot be {count} numbers of {dtype}")
        if count == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self._bytes, dtype=dtype, count=count, offset=start)

    def _read(self, name: str) -> bytes:
        start, size = self._locate(name)
        if size > _MOST_PICKLE_BYTES:
            raise ValueError(f"its {name} has {size} bytes, more than any checkpoint needs")
        return self._bytes[start : start + size]

    def _locate(self, name: str) -> tuple[int, int]:
        """Return where the bytes of a record start, and how many they are."""
        record = self._records.get(f"{self._folder}/{name}")
        if record is None:
            raise ValueError(f"it lacks the record {name!r:.80}")
        encrypted = record.flag_bits & 1
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size or encrypted:
            raise ValueError(f"its record {name!r} is compressed or encrypted, which torch never does")
        # The directory at the end has its own copy of name and padding, which may be shorter than the one in place.
        signature, *lengths = struct.unpack("<4s22x2H", self._bytes[record.header_offset : record.header_offset + 30])
        start = record.header_offset + 30 + sum(lengths)
        if signature != b"PK\3\4" or start + record.file_size > len(self._bytes):
            raise ValueError(f"its record {name!r} is not where its directory says")
        return start, record.file_size


@dataclass(frozen=True)
class _Global:
    """The name of a class or function that a pickle refers to; nothing is looked up by it."""

    name: str


class _Module(dict[str, Any]):
    """The attributes of a traced module."""


def _interpret(pickle: bytes, storage: Callable[[object], Tensor]) -> object:
    """Return what a pickle describes, made of plain containers, modules and tensors.

    The instructions are those that Python's and torch's picklers write, from protocol 2 on.
    """
    stack: list[Any] = []
    below: list[list[Any]] = []  # what was on the stack when it was marked
    memo: dict[int, Any] = {}
    argument: Any
    for instruction, argument, _ in pickletools.genops(pickle):
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction.name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                memo[len(memo) if argument is None else argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                below.append(stack)
                stack = []
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(instruction.name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                items, stack = stack, below.pop()
                stack.append(tuple(items))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "APPENDS":
                items, stack = stack, below.pop()
                stack[-1].extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _put(stack[-1], [(key, value)])
            case "SETITEMS":
                items, stack = stack, below.pop()
                _put(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_allow(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_allow(".".join([module, name])))  # strings only: to show others may take for ever
            case "BINPERSID":
                stack.append(storage(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, made = stack.pop(), stack.pop()
                stack.append(_make(made, arguments))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], _Module):  # else what torch notes about a state dict
                    _put(stack[-1], state.items())
            case name:
                raise ValueError(f"its pickle holds the instruction {name}, which no weights need")
    raise ValueError("its pickle has no end")


def _put(target: object, items: Iterable[tuple[object, object]]) -> None:
    """Put keys and values into a dict that has none of them yet."""
    if not isinstance(target, dict):
        raise TypeError(f"its pickle puts items into a {type(target).__name__}")
    for key, value in items:
        if not isinstance(key, (str, int)):  # a tuple of tuples of … would be hashed without an end
            raise TypeError(f"its pickle uses a {type(key).__name__} as a key")
        if key in target:
            raise ValueError(f"it holds {key!r:.80} twice")
        target[key] = value


def _allow(name: str) -> _Global:
    if name not in _STORAGES and name not in (_DICT, _TENSOR, _PARAMETER) and not name.startswith(_TRACED):
        raise ValueError(f"its pickle asks for {name!r:.80}, which no weights need and which could run code")
    return _Global(name)


def _make(made: object, arguments: object) -> object:
    """Make what the few allowed names stand for."""
    match made, arguments:
        case _Global(name), () if name.startswith(_TRACED):
            return _Module()
        case _Global(name), () if name == _DICT:
            return {}
        case _Global(name), (Tensor() as tensor, _, _) if name == _PARAMETER:
            return tensor
        case _Global(name), (Tensor() as storage, int(offset), tuple(shape), tuple(stride), _, _) if name == _TENSOR:
            tensor = torch.as_strided(storage, shape, stride, offset)  # checks that it stays within the storage,
            end = offset + 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
            if tensor.numel() and end > storage.numel():  # but in torch 2.4 with a sum that can overflow
                raise ValueError(f"its tensor ends at {end} of {storage.numel()} numbers")
            if tensor.numel() > storage.numel():
                raise ValueError(f"its tensor of {tensor.numel()} numbers repeats the {storage.numel()} that it has")
            return tensor
    name = made.name if isinstance(made, _Global) else type(made).__name__
    raise ValueError(f"its pickle uses {name!r:.80} in another way than torch does")


def _collect(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of a dict, or of a module and the modules in it, by their full names."""
    tensors: dict[str, Tensor] = {}
    characters = 0
    parts: list[tuple[str, Mapping[Any, Any]]] = [("", content)]
    for prefix, part in parts:  # which grows meanwhile
        for key, value in part.items():
            name = f"{prefix}{key}"
            characters += len(name) + 1
            if characters > _MOST_NAME_CHARACTERS:
                raise ValueError("it has more names than any checkpoint needs")
            if isinstance(value, _Module):
                parts.append((f"{name}.", value))
            elif isinstance(value, Tensor):
                if name in tensors:
                    raise ValueError(f"it holds {name!r:.80} twice")
                tensors[name] = value
    return tensors
