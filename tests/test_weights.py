"""Weights: what every format gives, what stays on disk, and what is refused without a line of it having run."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from golden import weights as golden_weights
from golden.archives import MODELS, openai_archive
from hypothesis import given
from hypothesis import strategies as st

import zeroshot.weights
from zeroshot.errors import CheckpointError, CheckpointNotFoundError
from zeroshot.files import find_weights
from zeroshot.weights import Weights

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
State = dict[str, torch.Tensor]
Save = Callable[[Any, Path], None]


def save_safetensors(state: State, path: Path) -> None:
    path.write_bytes(safetensors.torch.save(state))


SAVES = {"safetensors": save_safetensors, "torch": torch.save}
formats = pytest.mark.parametrize("save", SAVES.values(), ids=SAVES)


def draw(dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (3, 4), seed: int = 0) -> torch.Tensor:
    values = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed))
    return values > 50 if dtype == torch.bool else values.to(dtype)


def read_all(path: Path) -> State:
    weights = Weights([path])
    return {name: weights.read((name,)) for name in weights.shapes}


def assert_equal(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor), name


def refused(path: Path, match: str) -> CheckpointError:
    with pytest.raises(CheckpointError, match=match) as caught:
        Weights([path])
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000
    return caught.value


# ---------------------------------------------------------------------------------------------- pickles, by hand


@dataclass(frozen=True)
class Name:
    """What a pickle looks up in a module."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Name
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Module:
    """A traced module."""

    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    record: Any = "0"
    count: Any = 6
    kind: str = "FloatStorage"


@dataclass(frozen=True)
class Raw:
    """Instructions as they are."""

    code: bytes


def dump(value: Any) -> bytes:
    """Write a pickle as torch's C++ does; Python's own looks every name up."""
    return b"\x80\x02" + encode(value) + b"."


def encode(value: Any) -> bytes:
    match value:
        case Raw(code):
            return code
        case Name(module, name):
            return f"c{module}\n{name}\n".encode()
        case Call(function, arguments):
            return encode(function) + encode(arguments) + b"R"
        case Module(attributes):
            return encode(Name("__torch__.clip.model.___torch_mangle_7", "CLIP")) + b")\x81" + encode(attributes) + b"b"
        case Storage(record, count, kind):
            return encode(("storage", Name("torch", kind), record, "cuda:0", count)) + b"Q"
        case tuple():
            return b"(" + b"".join(map(encode, value)) + b"t"
        case list():
            return b"](" + b"".join(map(encode, value)) + b"e"
        case dict():
            return b"}(" + b"".join(encode(part) for item in value.items() for part in item) + b"u"
        case _:
            return pickle.dumps(value, 2)[2:-1]


def tensor(shape: Any = (2, 3), stride: Any = (3, 1), offset: Any = 0, storage: Any = Storage()) -> Call:
    arguments = (storage, offset, shape, stride, False, Call(Name("collections", "OrderedDict")))
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), arguments)


NUMBERS = np.arange(6, dtype="<f4").tobytes()


def write_archive(
    path: Path,
    content: Any,
    records: Mapping[str, bytes] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    """Write an archive around a pickle, by default with a record "0" of six numbers; content: what `dump` takes."""
    code = content if isinstance(content, bytes) else dump(content)
    with zipfile.ZipFile(path, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in {"archive/data.pkl": code, "archive/data/0": NUMBERS, **(records or {})}.items():
            file.writestr(zipfile.ZipInfo(name), data, compression)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights"


# ---------------------------------------------------------------------------------------------------- what is read


@formats
def test_every_type_and_shape_is_read(save: Save, path: Path) -> None:
    state = {f"{dtype}": draw(dtype, seed=seed) for seed, dtype in enumerate(DTYPES)}
    state |= {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 3), "axes": draw(shape=(2, 1, 3, 1, 2))}
    save(state, path)
    assert_equal(read_all(path), state)
    weights = Weights([path])
    assert weights.files == (path,)
    assert weights.shapes == {name: tuple(values.shape) for name, values in state.items()}
    assert weights.dtypes == {name: values.dtype for name, values in state.items()}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_read(protocol: int, path: Path) -> None:
    state = OrderedDict({f"{i}.weight": draw(shape=(i % 5, 3), seed=i) for i in range(300)})
    torch.save({"epoch": 7, "loss": 0.5, "state_dict": state}, path, pickle_protocol=protocol)
    assert_equal(read_all(path), state)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "ViT-B-32.pt", "epoch_3.ckpt", "weights"])
@formats
def test_the_name_of_a_file_says_nothing(save: Save, name: str, tmp_path: Path) -> None:
    save({"a": draw()}, tmp_path / name)
    assert_equal(read_all(tmp_path / name), {"a": draw()})


def test_views_of_one_storage_are_read_as_views(path: Path) -> None:
    base = draw(shape=(4, 6))
    state = {
        **{"base": base, "row": base[2], "block": base[1:3, 2:5], "every other": base[:, 1::2], "transposed": base.T},
        **{"parameter": torch.nn.Parameter(base * 2), "once": torch.arange(5).expand(1, -1)},
        "channels last": draw(shape=(2, 3, 4, 4)).to(memory_format=torch.channels_last),
    }
    torch.save(state, path)
    found = read_all(path)
    assert_equal(found, state)
    assert found["row"].data_ptr() == found["base"][2].data_ptr()
    assert found["transposed"].stride() == (1, 6)
    assert found["channels last"].stride() == (48, 1, 12, 3)


@st.composite
def states(draw: st.DrawFn) -> State:
    state: State = {}
    for name in draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=4, unique=True)):
        shape = draw(st.lists(st.integers(0, 4), max_size=4))
        values = torch.arange(max(1, int(np.prod(shape)))).to(draw(st.sampled_from(DTYPES)))
        values = values[: int(np.prod(shape))].reshape(shape).permute(draw(st.permutations(range(len(shape)))))
        start, step = draw(st.integers(0, 2)), draw(st.integers(1, 2))
        state[name] = values[start::step] if shape else values
    return state


@given(state=states(), nested=st.booleans())
def test_what_torch_loads_is_read(state: State, nested: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "state.pt"
    torch.save({"state_dict": state, "epoch": 1} if nested else state, path)
    if state:
        assert_equal(read_all(path), torch.load(path, weights_only=True).get("state_dict", state))
    else:
        refused(path, "it holds no tensors, but nothing")


def test_a_training_checkpoint_is_read_without_its_trappings(path: Path) -> None:
    model = torch.nn.DataParallel(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    checkpoint = {"epoch": 3, "name": "run", "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**checkpoint, "scaler": {"scale": 65536.0, "growth_interval": 2000}, "args": None}, path)
    assert_equal(read_all(path), model.module.state_dict())


def test_what_hangs_on_a_state_dict_is_not_in_it(path: Path) -> None:
    state = OrderedDict(a=draw())
    state._metadata = {"a": draw(seed=1)}  # type: ignore[attr-defined]  # as modules note their versions
    state.b = draw(seed=2)  # type: ignore[attr-defined]
    torch.save(state, path)
    assert_equal(read_all(path), {"a": draw()})


def test_module_stays_where_not_every_name_begins_with_it(path: Path) -> None:
    state = {"module.a": draw(), "module_b": draw(seed=1)}
    torch.save(state, path)
    assert_equal(read_all(path), state)


@formats
def test_a_link_to_weights_is_followed(save: Save, tmp_path: Path) -> None:
    """The hub's cache consists of links to files elsewhere."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    save({"a": draw()}, tmp_path / "blobs" / "0f3a")
    link = tmp_path / "snapshot" / "weights"
    link.symlink_to("../blobs/0f3a")
    assert_equal(read_all(link), {"a": draw()})
    (tmp_path / "blobs" / "0f3a").unlink()
    assert isinstance(refused(link, "does not exist"), FileNotFoundError)


# ----------------------------------------------------------------------------------------------- OpenAI's archives


@pytest.mark.parametrize("name", MODELS)
def test_an_archive_of_openai_is_read(name: str, path: Path) -> None:
    path.write_bytes(openai_archive(name))
    model = MODELS[name]
    expected = {
        key: torch.from_numpy(golden_weights.fill(key, shape).astype(dtype))
        for key, (dtype, shape, _) in model["tensors"].items()
    }
    expected |= {key: torch.tensor(number) for key, number in model["numbers"].items()}
    assert {"input_resolution", "context_length", "vocab_size"} <= model["numbers"].keys()
    assert_equal(read_all(path), expected)


def test_a_traced_module_is_read_by_the_names_of_its_modules(path: Path) -> None:
    inner = Module({"training": False, "weight": tensor(), "hook": None, "scale": 0.5})
    content = Module(
        {"logit_scale": tensor((), (), 5), "visual": Module({"0": inner, "1": Module(), "proj": tensor()})}
    )
    write_archive(path, content, {"archive/code/__torch__/clip.py": b"raise SystemExit"})
    matrix = torch.arange(6.0).view(2, 3)
    assert_equal(read_all(path), {"logit_scale": torch.tensor(5.0), "visual.0.weight": matrix, "visual.proj": matrix})


def test_records_that_are_not_used_may_be_compressed(path: Path) -> None:
    """Torch compresses the code of modules."""
    write_archive(path, {"a": tensor()})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/code/__torch__/clip.py", b"pass\n" * 100, zipfile.ZIP_DEFLATED)
    assert read_all(path).keys() == {"a"}


@pytest.mark.parametrize("shift", range(8))
def test_records_that_are_not_aligned_are_read(shift: int, path: Path) -> None:
    values = np.arange(6, dtype="<f8")
    write_archive(
        path,
        {"a": tensor(storage=Storage("long", kind="DoubleStorage"))},
        {"archive/" + shift * "x": b"", "archive/data/long": values.tobytes()},
    )
    found = read_all(path)["a"]
    assert (found @ found.T).tolist() == (values.reshape(2, 3) @ values.reshape(2, 3).T).tolist()


# ----------------------------------------------------------------------------------------------------- several files


def test_several_files_are_read_as_one(tmp_path: Path) -> None:
    save_safetensors({"a": draw(), "b": draw(seed=1)}, tmp_path / "1")
    torch.save({"c": draw(seed=2)}, tmp_path / "2")
    weights = Weights([tmp_path / "1", tmp_path / "2"])
    assert weights.shapes.keys() == weights.dtypes.keys() == {"a", "b", "c"}
    assert torch.equal(weights.read(("b", "c", "a")), torch.cat([draw(seed=1), draw(seed=2), draw()]))


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in "12":
        save_safetensors({"a": draw(), name: draw()}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"2 holds 'a' as another of the files does; expected each name once"):
        Weights([tmp_path / "1", tmp_path / "2"])


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    save_safetensors({"a": draw()}, tmp_path / "1")
    with pytest.raises(CheckpointNotFoundError, match=r"2 does not exist; expected the weights there"):
        Weights([tmp_path / "1", tmp_path / "2"])


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    refused(tmp_path, "cannot be read")


def test_a_tensor_that_an_index_promises_is_missing(tmp_path: Path) -> None:
    save_safetensors({"a": draw()}, tmp_path / "1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}}')
    weights = Weights(find_weights(index))
    assert weights.shapes.keys() == {"a"}
    with pytest.raises(CheckpointError, match=r"no tensor is called 'b' in .*1\.safetensors"):
        weights.read(("a", "b"))


@pytest.mark.parametrize(("pattern", "count"), [(r"blocks\.(\d+)\.", 12), (r"x\.blocks\.(\d+)\.", 0), (r"ln_(\d)", 3)])
def test_layers_are_counted(pattern: str, count: int, path: Path) -> None:
    torch.save({name: draw() for name in ("blocks.0.a", "blocks.11.a", "blocks.2.b", "ln_2", "y.x.blocks.40.a")}, path)
    assert Weights([path]).count(pattern) == count


# -------------------------------------------------------------------------------------------------- what stays on disk


@formats
def test_bytes_are_read_when_a_tensor_is_used(save: Save, path: Path) -> None:
    """A change of the file after it was opened is seen: nothing had been read, and nothing is copied."""
    before, after = torch.full((5000,), 3.0), torch.full((5000,), 4.0)
    save({"a": before}, path)
    weights = Weights([path])
    tensor = weights.read(("a",))
    with path.open("r+b") as file:
        file.seek(path.read_bytes().index(before.numpy().tobytes()))
        file.write(after.numpy().tobytes())
    assert torch.equal(tensor, after)
    assert weights.read(("a",)).data_ptr() == tensor.data_ptr()


@formats
def test_writing_to_a_tensor_leaves_the_file_alone(save: Save, path: Path) -> None:
    save({"a": draw()}, path)
    content = path.read_bytes()
    Weights([path]).read(("a",)).fill_(7)
    assert path.read_bytes() == content
    assert_equal(read_all(path), {"a": draw()})


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="this system does not list open files")
@formats
def test_files_are_closed_with_the_last_tensor(save: Save, path: Path) -> None:
    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    save({"a": draw(), "b": draw()}, path)
    gc.collect()
    before = count()
    gc.disable()  # nothing refers to itself, so nothing has to be collected
    try:
        tensors = [Weights([path]).read(("a",)) for _ in range(20)]
        assert count() <= before + 20  # one for each mapping, and none for each tensor
        assert torch.equal(tensors[7], draw())
        del tensors
        assert count() == before
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------- no weights at all


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; fetch it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605143316\n", "run git lfs pull"),
        (b"<!DOCTYPE html><html><title>404", "is a web page, not the weights"),
        (b"\n  <html lang='en'>", "is a web page, not the weights"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "is a web page, not the weights"),
        (pickle.dumps({"a": 1}), "is a bare pickle, as torch wrote before 1.6"),
        (b'{"error": "not found"}', r"begins with b'\{\"error\": \"not f'; expected a safetensors file or"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "expected a safetensors file or an archive of torch. Fetch it again"),
        (b"PK\5\6" + bytes(18), "expected a safetensors file or an archive of torch"),
        (b"PK\3\4" + bytes(200), "no torch archive of plain tensors: File is not a zip file"),
        (struct.pack("<Q", 2**60) + b"{" + bytes(100), "is no valid safetensors file: .*[Hh]eader ?[Tt]oo ?[Ll]arge"),
        (struct.pack("<Q", 100) + b"{}" + bytes(98), "is no valid safetensors file"),
    ],
)
def test_what_else_is_kept_under_the_names_of_weights(content: bytes, message: str, path: Path) -> None:
    path.write_bytes(content)
    refused(path, message)


def test_a_pickle_of_an_old_torch(path: Path) -> None:
    torch.save({"a": draw()}, path, _use_new_zipfile_serialization=False)
    refused(path, "is a bare pickle, as torch wrote before 1.6; save its state dict again, best as safetensors")


def test_a_zip_file_of_something_else(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("word/document.xml", b"<w/>")
        file.writestr("a/b/data.pkl", dump({"a": 1}))
    refused(path, "it is a zip file without data.pkl in its one folder")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "it holds no tensors, but nothing"),
        ({"model": {"a": draw()}, "epoch": 3}, "it holds no tensors, but model, epoch"),
        ({"state_dict": {}}, "it holds no tensors, but nothing"),
        ([draw()], "it holds a list in place of a state dict"),
        (draw(), "it holds a Tensor in place of a state dict"),
    ],
    ids=["nothing", "nested otherwise", "nested nothing", "list", "tensor"],
)
def test_an_archive_without_a_state_dict(content: Any, message: str, path: Path) -> None:
    torch.save(content, path)
    refused(path, message)


def test_a_whole_model_says_what_to_save(path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), path)
    refused(path, r"'torch.nn.modules.linear.Linear', which no weights need .* or save the state dict that it was made")


# ------------------------------------------------------------------------------------------------- damaged files


# Every fifth place by default, each with `make test-all`.
places = pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.extra)])


@formats
@places
def test_a_file_cut_at_any_place_is_refused(save: Save, step: int, path: Path) -> None:
    save({"a": draw(), "b": draw(torch.float16)}, path)
    content = path.read_bytes()
    for length in range(0, len(content), step):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="weights"):
            Weights([path])


@formats
@places
def test_a_file_damaged_at_any_place_is_read_or_refused(save: Save, step: int, path: Path) -> None:
    save({"a": draw(), "b": draw(torch.float16)}, path)
    content = path.read_bytes()
    outcomes = set()
    for place in range(0, len(content), step):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        outcomes.add(is_read(path))
    assert outcomes == {True, False}


def is_read(path: Path) -> bool:
    """Whether a file is read, to the last number; anything but a `CheckpointError` fails the test."""
    try:
        for values in read_all(path).values():
            values.double().sum()
    except CheckpointError:
        return False
    return True


SOUND = dump({"a": tensor(), "state": Module({"b": tensor((3,), (2,)), "epoch": 3}), "c": 0.5})


@given(
    st.lists(st.tuples(st.integers(0, len(SOUND)), st.integers(0, 4), st.binary(max_size=6)), min_size=1, max_size=3)
)
def test_a_damaged_pickle_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, bytes]]
) -> None:
    code = SOUND
    for place, length, new in edits:
        code = code[:place] + new + code[place + length :]
    is_read(write_archive(tmp_path_factory.getbasetemp() / "damaged.pt", code))


@given(st.binary(max_size=40))
def test_any_bytes_in_place_of_a_pickle_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, code: bytes
) -> None:
    path = write_archive(tmp_path_factory.getbasetemp() / "random.pt", b"\x80\x02" + code + b".")
    assert not is_read(path)


@pytest.mark.parametrize(
    "bad",
    [
        tensor((2, 4), (4, 1)),  # beyond the record
        tensor((2, 3), (3, 1), 1),
        tensor((2, 3), (2**40, 1)),
        tensor((2, 3), (2**62, 2**62)),  # wraps around at 64 bits
        tensor((2**62, 4), (4, 1)),
        tensor((2**70, 1), (1, 1)),
        tensor((2, 3), (3, 1), 2**63 - 1),
        tensor((2, 3), (3, 1), 2**64),
        tensor((-2, -3), (3, 1)),
        tensor((2, 3), (-3, 1), 5),
        tensor((2, 3), (3, 1), -1),
        tensor((2, 3), (3,)),
        tensor((2.0, 3), (3, 1)),
        tensor(("2", 3), (3, 1)),
        tensor((None, 3), (3, 1)),
        tensor(6, 1),
        tensor((7,), (0,)),  # repeats what there is
        tensor((2**40, 2**20), (0, 0)),
        tensor(storage=Storage(count=7)),  # beyond the record
        tensor(storage=Storage(count=2**62)),  # wraps around at 64 bits
        tensor(storage=Storage(count=-1)),
        tensor(storage=Storage(count=6.0)),
        tensor(storage=Storage(kind="DoubleStorage")),  # twice the bytes
        tensor(storage=Storage(kind="ComplexFloatStorage", count=3)),
        tensor(storage=Storage("1")),  # no such record
        tensor(storage=Storage("../data.pkl")),
        tensor(storage=Storage("/etc/passwd")),
        tensor(storage=Storage(0)),
        tensor(storage=Storage(("0",))),
        tensor(storage=None),
        tensor(storage=Raw(encode("0") + b"Q")),
    ],
    ids=str,
)
def test_a_tensor_that_its_record_cannot_be_is_refused(bad: Call, path: Path) -> None:
    refused(write_archive(path, {"good": tensor(), "bad": bad}), "is no torch archive of plain tensors")


# -------------------------------------------------------------------------------------------------- hostile archives


def _record_edits() -> dict[str, tuple[dict[str, bytes], str]]:
    number = {"archive/data/0": NUMBERS[:-1]}
    return {
        "short": (number, "its record '0' of 23 bytes cannot be 6 numbers of torch.float32"),
        "climbing": ({"archive/../../etc/passwd": b"x"}, "is named to lead out of it"),
        "absolute": ({"/etc/passwd": b"x"}, "is named to lead out of it"),
        "two pickles": ({"other/data.pkl": b"x"}, "without data.pkl in its one folder"),
        "other byte order": ({"archive/byteorder": b"big"}, "another order of bytes"),
    }


@pytest.mark.parametrize(("records", "message"), _record_edits().values(), ids=_record_edits())
def test_records_that_cannot_be_trusted_are_refused(records: dict[str, bytes], message: str, path: Path) -> None:
    content = {"a": tensor()}
    assert read_all(write_archive(path, content)).keys() == {"a"}
    refused(write_archive(path, content, records), message)


@pytest.mark.parametrize("name", ["archive/data/0", "archive/data.pkl"])
def test_two_records_of_one_name_are_refused(name: str, path: Path) -> None:
    write_archive(path, {"a": tensor()})
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr(name, b"something else")
    refused(path, "it holds two records of the same name")


def test_a_compressed_archive_is_refused(path: Path) -> None:
    """A bomb: a megabyte on disk that would be a gigabyte in memory."""
    write_archive(path, {"a": tensor()}, {"archive/data/0": bytes(2**24)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**16
    refused(path, r"its record 'data.pkl' is compressed or encrypted, which torch never does")


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, b"\1\0", "its record 'data/0' is compressed or encrypted"),
        (10, b"\x08\0", "its record 'data/0' is compressed or encrypted"),
        (20, b"\5\0\0\0", "its record 'data/0' is compressed or encrypted"),
        (20, b"\xff\xff\xff\x7e\xff\xff\xff\x7e", "its record 'data/0' is not where its directory says"),
        (42, b"\x40\0\0\0", "its record 'data/0' is not where its directory says"),
    ],
    ids=["encrypted", "deflated", "size on disk", "size", "place"],
)
def test_a_directory_that_lies_is_refused(offset: int, value: bytes, message: str, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/zeros", bytes(200))  # which begin before the place that the last case names
        file.writestr("archive/data.pkl", dump({"a": tensor()}))
        file.writestr("archive/data/0", NUMBERS)
    content = path.read_bytes()
    entry = content.rindex(b"PK\1\2")  # of the last record
    path.write_bytes(content[: entry + offset] + value + content[entry + offset + len(value) :])
    refused(path, message)


def test_a_large_pickle_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(path, SOUND)
    monkeypatch.setattr(zeroshot.weights, "_MOST_PICKLE_BYTES", len(SOUND))
    assert is_read(path)
    monkeypatch.setattr(zeroshot.weights, "_MOST_PICKLE_BYTES", len(SOUND) - 1)
    refused(path, rf"its data.pkl has {len(SOUND)} bytes, more than any checkpoint needs")


def _nest(levels: int, *, keys: str, innermost: Any) -> Raw:
    """Modules in modules, each under every key of the next."""
    code = encode(innermost) + b"r" + struct.pack("<I", 1000)
    for level in range(levels):
        get = b"j" + struct.pack("<I", 1000 + level)
        attributes = b"".join(encode(key) + get for key in keys)
        module = encode(Name("__torch__", "M")) + b")\x81}(" + attributes + b"ub"
        code += module + b"r" + struct.pack("<I", 1001 + level)
    return Raw(code)


@pytest.mark.parametrize(
    "content",
    [
        _nest(60, keys="ab", innermost=Module({"w": tensor()})),  # 2**60 names
        _nest(60, keys="ab", innermost=Module()),  # 2**60 modules
        _nest(20_000, keys="a", innermost=Module({"w": tensor()})),  # one name of 40,000 characters
        Raw(encode(Name("__torch__", "M")) + b")\x81q\x07}(" + encode("self") + b"h\x07ub"),  # in itself
        Module({"x" * 5_000_000: tensor()}),
    ],
    ids=["names", "modules", "depth", "cycle", "length"],
)
def test_modules_that_unfold_without_end_are_refused(content: Any, path: Path) -> None:
    refused(write_archive(path, content), "more names than any checkpoint needs")


@pytest.mark.parametrize(
    "content",
    [
        {"a": tensor(), Raw(b")" + 100_000 * b"\x85"): 1},  # a tuple in a tuple in a …, to be hashed
        {"a": tensor(), Raw(b")q\1" + 60 * b"h\1h\1\x86q\1"): 1},  # 2**60 empty tuples
        Call(Name("collections", "OrderedDict"), (Raw(b")q\1" + 60 * b"h\1h\1\x86q\1"),)),  # to be shown in a message
        Raw(b")q\1" + 60 * b"h\1h\1\x86q\1" + b"h\1\x93"),  # the same as the name of a module
        Raw(b"X\xff\xff\xff\x7fabc"),  # a string of two gigabytes
        Raw(b"\x8b\xff\xff\xff\x7f1"),  # a number of two gigabytes
        Raw(b"a" * 100),
        Raw(b"(" * 100_000),
        Raw(b"h\1"),
        Raw(b"0"),
        {"a": tensor(), Raw(encode("a")): tensor()},
        Module({"b.c": tensor(), "b": Module({"c": tensor()})}),
        {"a": tensor(), "b": Raw(b"]" + encode("x") + b"aK\0" + encode("y") + b"s")},
        Name("torch", r"\,"),  # which pickletools warns of
    ],
    ids=[
        *(
            "nested key",
            "wide key",
            "wide argument",
            "wide name",
            "long string",
            "long number",
            "nothing to append",
            "marks",
        ),
        *("no memo", "unknown instruction", "key twice", "name twice", "item of a list", "backslash"),
    ],
)
def test_pickles_made_to_break_their_reader_are_refused(content: Any, path: Path) -> None:
    refused(write_archive(path, content), "is no torch archive of plain tensors")


def test_places_in_the_memory_of_a_pickle_may_be_far_apart(path: Path) -> None:
    """Python's own unpickler would make room for all between, here for four thousand million."""
    write_archive(path, {"a": Raw(encode(tensor()) + b"r\xff\xff\xff\xff0"[:-1])})
    assert read_all(path).keys() == {"a"}


# ---------------------------------------------------------------------------------------------------- hostile pickles


def _call(module: str, name: str, *arguments: Any) -> Raw:
    return Raw(encode(Call(Name(module, name), arguments)))


def _text(value: str) -> bytes:
    return b"S" + repr(value).encode() + b"\n"


HOSTILE: dict[str, Callable[[str], Any]] = {
    "os.mkdir": lambda canary: _call("os", "mkdir", canary),
    "builtins.eval": lambda canary: _call("builtins", "eval", f"__import__('os').mkdir({canary!r})"),
    "builtins.exec": lambda canary: _call("builtins", "exec", f"import os; os.mkdir({canary!r})"),
    "getattr": lambda canary: Raw(
        encode(Call(Name("builtins", "getattr"), (_call("importlib", "import_module", "os"), "mkdir")))
        + encode((canary,))
        + b"R"
    ),
    "nested": lambda canary: {"state_dict": {"a": [1, {"b": _call("os", "mkdir", canary)}]}},
    "key": lambda canary: {_call("os", "mkdir", canary): 1},
    "stack global": lambda canary: Raw(
        b"\x8c\x02os\x8c\x05mkdir\x93" + encode((canary,)) + b"R",
    ),
    "inst": lambda canary: Raw(b"(" + _text(canary) + b"ios\nmkdir\n"),
    "obj": lambda canary: Raw(b"(" + encode(Name("os", "mkdir")) + encode(canary) + b"o"),
    "argument": lambda canary: Call(Name("collections", "OrderedDict"), (((_call("os", "mkdir", canary), 1),),)),
    "state": lambda canary: Raw(
        encode(Call(Name("collections", "OrderedDict"))) + encode({"x": _call("os", "mkdir", canary)}) + b"b"
    ),
    "pickle in a pickle": lambda canary: _call("pickle", "loads", dump(_call("os", "mkdir", canary))),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_in_a_pickle_runs(kind: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = dump(HOSTILE[kind](str(canary)))
    path = write_archive(tmp_path / "weights", code)
    refused(path, "is no torch archive of plain tensors: its pickle (asks for|holds the instruction)")
    assert not canary.exists()
    with contextlib.suppress(TypeError):  # some are no good once they have run
        pickle.loads(code)
    assert canary.exists()  # so the test can fail


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_in_a_file_of_torch_runs(nested: bool, path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (f"{path}.canary",)

    state = {"a": draw(), "b": Hostile()}
    torch.save({"state_dict": state} if nested else state, path)
    refused(path, rf"its pickle asks for '{os.mkdir.__module__}.mkdir', which no weights need and which could run code")
    assert not Path(f"{path}.canary").exists()


@pytest.mark.parametrize(
    "content",
    [
        _call("__torch__.os", "system", "true"),  # a module is made of nothing
        _call("torch", "FloatStorage", 5),
        _call("torch._utils", "_rebuild_parameter", "a", False, None),
        _call("torch._utils", "_rebuild_tensor_v2", "a", 0, (2,), (1,), False, None),
        _call("torch._utils", "_rebuild_tensor_v2"),
        _call("torch.storage", "_load_from_bytes", b"x"),
        _call("torch", "load", "x"),
        _call("torch._utils", "_rebuild_sparse_tensor", 1),
        _call("collections", "OrderedDict", ()),
        Raw(encode("os") + encode(("system",)) + b"R"),  # a string in place of a function
        Raw(encode(tensor()) + b")R"),
        Raw(encode(Name("builtins", "object")) + b")\x81"),
        Raw(b"\x82\1"),  # a registered extension
        Raw(b"Pos.system\n"),
        Raw(b"\x95\1\0\0\0\0\0\0\0\x97"),  # a buffer from elsewhere
    ],
    ids=lambda content: repr(content.code[:40]),
)
def test_names_and_instructions_that_weights_do_not_need_are_refused(content: Raw, path: Path) -> None:
    refused(write_archive(path, {"good": tensor(), "bad": content}), "is no torch archive of plain tensors: ")


def test_a_module_cannot_be_set_to_anything_but_attributes(path: Path) -> None:
    module = encode(Name("__torch__.clip", "CLIP")) + b")\x81"
    for state in (b"K\1", encode(("a", "b")), encode({1.5: 2}), encode((None, {"__setstate__": 1}))):
        refused(write_archive(path, Raw(module + state + b"b")), "is no torch archive of plain tensors")


def test_an_archive_in_memory_is_what_was_written_to_disk() -> None:
    """Shows that the archives made here by hand are what torch reads, without which refusing them would mean little."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in {"data.pkl": dump({"a": tensor()}), "data/0": NUMBERS, "version": b"3\n"}.items():
            file.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True, map_location="cpu")
    assert_equal(loaded, {"a": torch.arange(6.0).view(2, 3)})
