"""The package as others get it: built twice the same, with everything in it, installed where nothing else is."""

from __future__ import annotations

import email
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import zeroshot

pytestmark = pytest.mark.extra
ROOT = Path(__file__).parents[2]
NAME = "zeroshot-clip"
INFO = f"zeroshot_clip-{zeroshot.__version__}.dist-info"
EPOCH = 1_700_000_000  # 2023-11-14, 22:13:20 UTC


def run(*command: str | Path, cwd: Path, umask: int = -1, **environment: str) -> str:
    """Run a command with hardly anything of this environment, and return what it prints."""
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**kept, "LC_ALL": "C.UTF-8", "HOME": str(cwd), "HF_HUB_OFFLINE": "1", **environment},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ------------------------------------------------------------------------------------------------------------- builds


def sources() -> list[str]:
    """Return what belongs to the project, by git: what is tracked, or would be."""
    if not (ROOT / ".git").exists():
        pytest.skip("what belongs to the project is known in a checkout only")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


def copy_sources(names: list[str], folder: Path, umask: int) -> Path:
    before = os.umask(umask)
    try:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    finally:
        os.umask(before)
    return folder


def build(folder: Path, target: str, out: Path, *, umask: int = -1, **environment: str) -> Path:
    """Build from a folder, and return the file."""
    run(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", out, cwd=folder, umask=umask, **environment)
    (made,) = out.iterdir()
    return made


@dataclass(frozen=True)
class Built:
    """What was built of these sources, in this folder."""

    sources: list[str]
    folder: Path
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build wheel and sdist."""
    base, names = tmp_path_factory.mktemp("builds"), sources()
    folder = copy_sources(names, base / "here", 0o022)
    wheel, sdist = (build(folder, t, base / t, umask=0o022, TZ="UTC") for t in ("wheel", "sdist"))
    return Built(names, folder, wheel, sdist)


def test_another_place_and_time_give_the_same_bytes(built: Built, tmp_path: Path) -> None:
    folder = copy_sources(built.sources[::-1], tmp_path / "über there", 0o077)
    for name in built.sources:
        os.utime(folder / name, (1, 1))  # 1970: zip knows no such date
    # What lies about in a checkout that was worked in.
    for litter in ("zeroshot/__pycache__/head.cpython-311.pyc", "dist/old.whl", ".venv/lib/x.py", ".hypothesis/x"):
        (folder / litter).parent.mkdir(parents=True, exist_ok=True)
        (folder / litter).write_bytes(b"\0")
    for target, expected in (("wheel", built.wheel), ("sdist", built.sdist)):
        made = build(folder, target, tmp_path / target, umask=0o077, TZ="Asia/Tokyo")
        assert made.name == expected.name
        assert made.read_bytes() == expected.read_bytes(), target


def test_the_sdist_gives_the_same_wheel(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    wheel = build(folder, "wheel", tmp_path / "wheel")
    assert wheel.name == built.wheel.name
    assert wheel.read_bytes() == built.wheel.read_bytes()


def test_the_date_can_be_given(built: Built, tmp_path: Path) -> None:
    wheel = build(built.folder, "wheel", tmp_path / "wheel", SOURCE_DATE_EPOCH=str(EPOCH), TZ="Asia/Tokyo")
    with zipfile.ZipFile(wheel) as dated, zipfile.ZipFile(built.wheel) as plain:
        assert {entry.date_time for entry in dated.infolist()} == {(2023, 11, 14, 22, 13, 20)}
        assert {entry.date_time for entry in plain.infolist()} == {(2020, 2, 2, 0, 0, 0)}  # hatchling's
        content = [[(entry.filename, entry.CRC) for entry in file.infolist()] for file in (dated, plain)]
    assert content[0] == content[1]


# ----------------------------------------------------------------------------------------------------------- contents


def test_the_wheel_has_everything_and_nothing_else(built: Built) -> None:
    module = {name for name in built.sources if name.startswith("zeroshot/")}
    prompts = {f"zeroshot/data/{name}" for name in built.sources if name.startswith("prompts/")}
    licences = ("LICENSE", "NOTICE", "zeroshot/data/mini/LICENSE-Apache-2.0.txt")
    own = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "sboms/zeroshot-clip.cdx.json"}
    info = {f"{INFO}/{name}" for name in own | {f"licenses/{name}" for name in licences}}
    with zipfile.ZipFile(built.wheel) as wheel:
        entries = wheel.infolist()
    assert {entry.filename for entry in entries} == module | prompts | info
    assert len(entries) == len({entry.filename for entry in entries})
    assert {oct(entry.external_attr >> 16 & 0o777) for entry in entries} == {"0o644"}
    named = {"py.typed", "data/clip_bpe_merges.txt.gz", "data/mini/README.md", "data/mini/open_clip_model.safetensors"}
    assert {f"zeroshot/{name}" for name in named} <= module
    assert "zeroshot/data/prompts/imagenet.toml" in prompts


def test_the_sdist_has_everything_but_what_is_of_the_repository(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert names == {*built.sources, "PKG-INFO"}
    assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}
    assert all(member.isfile() for member in members)


def test_the_metadata(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        said = email.message_from_bytes(wheel.read(f"{INFO}/METADATA"))
        bill = json.loads(wheel.read(f"{INFO}/sboms/zeroshot-clip.cdx.json"))
    with tarfile.open(built.sdist) as archive:
        file = archive.extractfile(f"{INFO.removesuffix('.dist-info')}/PKG-INFO")
        assert file is not None
        assert email.message_from_bytes(file.read()).items() == said.items()
    assert (said["Name"], said["Version"], said["Metadata-Version"]) == (NAME, zeroshot.__version__, "2.4")
    assert said["License-Expression"] == bill["metadata"]["component"]["licenses"][0]["expression"]
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")


# ---------------------------------------------------------------------------------------------------------- installed


def core(wheel: Path) -> list[importlib.metadata.Distribution]:
    """Return the distributions that the wheel asks for without any extra, and those that these ask for."""
    with zipfile.ZipFile(wheel) as archive:
        waiting = email.message_from_bytes(archive.read(f"{INFO}/METADATA")).get_all("Requires-Dist", [])
    found: dict[str, importlib.metadata.Distribution] = {}
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        if name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found[name] = importlib.metadata.distribution(name)
            waiting += found[name].requires or []
    return list(found.values())


@pytest.fixture(scope="module")
def python(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of an environment with the wheel and the core's libraries, without any extra.

    The libraries are links to those of the running environment: another copy of torch is a gigabyte.
    """
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    (site,) = (folder / "lib").glob("python*/site-packages")
    for distribution in core(built.wheel):
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."} - {"__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, built.wheel], check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    return python


def test_it_works_from_there_without_any_extra(python: Path, tmp_path: Path) -> None:
    for name in ("cat", "rocket"):
        shutil.copyfile(ROOT / "examples" / "images" / f"{name}.jpg", tmp_path / f"{name}.jpg")
    command = python.parent / "zeroshot"
    assert run(command, "--version", cwd=tmp_path).split() == ["zeroshot", zeroshot.__version__]
    assert "classify" in run(command, "--help", cwd=tmp_path)
    listed = run(command, "prompts", cwd=tmp_path).splitlines()
    assert [line.split()[0] for line in listed] == zeroshot.available_prompts()
    options = ("--labels", "cat", "dog", "rocket", "--model", "mini", "--prompts", "imagenet", "--top-k", "1")
    written = run(python, "-W", "error", command, "classify", "cat.jpg", "rocket.jpg", *options, cwd=tmp_path)
    assert re.findall(r"^(?:\S+:)?\s*(cat|rocket) +\d", written, flags=re.MULTILINE) == ["cat", "rocket"]


# What asks for a library that only an extra brings: the extra -> an expression.
NEEDS = {
    "datasets": "zeroshot.evaluate('datasets:photographs', model='mini')",
    "parquet": "zeroshot.formats.import_parquet()",
    "plot": "zeroshot.figures.new_figure(1, 1)",
    "probe": "zeroshot.fit_probe('mini', ['cat.jpg'] * 2, ['a', 'b'], l2=1.0)",
    "timm": "zeroshot.nets.timm_tower.TimmConfig('vit_tiny_patch16_224', '', '', False, (224, 224), 8).build()",
    "tokenizers": "zeroshot.tokenizer_file.TokenizerFile(pathlib.Path('tokenizer.json'), 'none').open()",
    "transformers": "zeroshot.nets.hf_text.HfTextConfig('{}', 'cls_pooler', '', 8).build()",
}


def test_a_missing_extra_is_named(python: Path, tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "examples" / "images" / "cat.jpg", tmp_path / "cat.jpg")
    (tmp_path / "tokenizer.json").write_text("{}")
    code = f"""
import json, pathlib, zeroshot, zeroshot.figures, zeroshot.formats, zeroshot.nets.hf_text, zeroshot.nets.timm_tower
import zeroshot.tokenizer_file
said = {{}}
for extra, attempt in {NEEDS!r}.items():
    try:
        eval(attempt)
    except zeroshot.errors.MissingExtraError as error:
        said[extra] = str(error)
print(json.dumps([zeroshot.__file__, said]))
"""
    file, said = json.loads(run(python, "-W", "error", "-c", code, cwd=tmp_path))
    assert Path(file).is_relative_to(python.parents[1])  # the installed one, not the checkout
    assert said.keys() == NEEDS.keys()
    for extra, message in said.items():
        assert f"pip install '{NAME}[{extra}]'" in message


# -------------------------------------------------------------------------------------------------------------- typed


def mypy(python: Path, code: str, folder: Path) -> str:
    """Return what mypy says of somebody's code against the installed package; nothing of ours is configured."""
    (folder / "user_code.py").write_text(code, encoding="utf-8")
    (folder / "mypy.ini").write_text("[mypy]\n")
    options = ("--strict", "--warn-unused-ignores", "--python-executable", str(python))
    command = [sys.executable, "-m", "mypy", *options, "--cache-dir", str(folder / "cache"), "user_code.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    return done.stdout + done.stderr


def test_code_that_uses_every_name_is_typed(python: Path, tmp_path: Path) -> None:
    code = (Path(__file__).parent / "user_code.py").read_text(encoding="utf-8")
    used = set(re.findall(r"zeroshot\.(\w+)", code)) | set(
        re.findall(r"\w+", code.partition("import Classifier")[2][:99])
    )
    assert set(zeroshot.__all__) <= used | {"Classifier"}
    assert mypy(python, code, tmp_path) == "Success: no issues found in 1 source file\n"
    # And it would say so: one image is no list.
    wrong = code.replace('("cat.jpg", LABELS), Prediction)', '("cat.jpg", LABELS), Predictions)', 1)
    assert "assert-type" in mypy(python, wrong, tmp_path)
