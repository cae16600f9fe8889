"""What the package says of itself: licences of all data, versions, who is cited. `extras/test_package.py` builds it."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import zeroshot

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
DEVELOPMENT = {"test", "test-all", "docs", "dev"}
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ipynb"}
# The distribution that brings a module, where their names differ.
BRINGS = {"PIL": "pillow", "sklearn": "scikit-learn"}


def requirements(*extras: str) -> dict[str, Requirement]:
    """Return what the core, or the extras, ask for: name -> requirement, without those that name our own extras."""
    lines = [line for extra in extras for line in EXTRAS[extra]] if extras else PROJECT["dependencies"]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in found if canonicalize_name(r.name) != PROJECT["name"]}


def pins(path: Path) -> dict[str, Version]:
    """Return the versions of a file of constraints: name -> version."""
    lines = (line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))
    pairs = (line.split("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def shipped() -> list[str]:
    """Return the data of the wheel and the pictures of the examples, as paths in the source."""
    data = [p for p in (ROOT / "zeroshot").rglob("*") if p.suffix not in (".py", ".pyc") and p.name != "py.typed"]
    pictures = [p for p in (ROOT / "examples").rglob("*") if p.suffix.lower() in PICTURES]
    files = [p.relative_to(ROOT) for p in [*data, *(ROOT / "prompts").iterdir(), *pictures] if p.is_file()]
    return sorted(p.as_posix() for p in files if not {"work", ".ipynb_checkpoints"} & set(p.parts))  # not in git


def noticed(text: str) -> list[str]:
    """Return the paths of NOTICE: the lines above each indented text, separated by commas."""
    blocks = re.findall(r"^((?:\S.*\n)+)(?=    \S)", text, flags=re.MULTILINE)
    return [path.strip() for block in blocks for path in block.replace("\n", " ").split(",") if path.strip()]


def uncovered(files: list[str], entries: list[str]) -> list[str]:
    """Return the files that no entry names, neither them nor a folder that they are in."""
    return [f for f in files if not any(f == entry or f.startswith(f"{entry}/") for entry in entries)]


# ---------------------------------------------------------------------------------------------------------- licences


def test_notice_covers_all_data_and_every_picture() -> None:
    entries = noticed((ROOT / "NOTICE").read_text(encoding="utf-8"))
    files = shipped()
    assert {"prompts/imagenet.toml", "zeroshot/data/models.csv", "examples/images/cat.jpg"} <= set(files)
    assert uncovered(files, entries) == []  # say in NOTICE where it is from and under which licence
    assert [entry for entry in entries if not (ROOT / entry).exists()] == []
    # Folders of pictures of several sources are no entry: a new picture has to be looked at.
    assert not {"examples", "zeroshot", "zeroshot/data"} & set(entries)


def test_notice_would_miss_a_new_file() -> None:
    entries = noticed("Words.\n\na/b.csv, a/c,\nd.png\n    Somebody's. MIT.\n\n    More.\n")
    assert entries == ["a/b.csv", "a/c", "d.png"]
    assert uncovered(["a/b.csv", "a/c/x.bin", "a/cat.jpg", "d.png", "e.png"], entries) == ["a/cat.jpg", "e.png"]


def test_each_prompt_set_has_a_licence_that_notice_names() -> None:
    text = re.sub(r"\s+", " ", (ROOT / "NOTICE").read_text(encoding="utf-8"))
    for path in (ROOT / "prompts").glob("*.toml"):
        said = tomllib.loads(path.read_text(encoding="utf-8"))["license"]
        holders = re.findall(r"Copyright (?:\(c\) )?[\d-]+,? (?:[^;,]+)", said)
        assert holders, path
        assert [holder for holder in holders if holder not in text] == [], path


def test_licence_files_are_there() -> None:
    for name in PROJECT["license-files"]:
        assert (ROOT / name).is_file(), name
    assert PROJECT["license"] == "MIT AND Apache-2.0"


def test_the_bill_of_materials_is_of_these_files() -> None:
    bill = json.loads((ROOT / ".ci" / "zeroshot-clip.cdx.json").read_text(encoding="utf-8"))
    assert bill["metadata"]["component"]["version"] == zeroshot.__version__
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/{PROJECT['name']}@{zeroshot.__version__}"
    files = {}
    for component in bill["components"]:
        (digest,) = component["hashes"]
        (place,) = component["properties"]
        files[place["value"]] = digest["content"]
    assert files == {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in files}
    binary = {
        name for name in shipped() if name.startswith("zeroshot/") and Path(name).suffix in (".safetensors", ".gz")
    }
    assert set(files) == binary


def test_the_citation_is_of_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(zeroshot.__version__)}$", text, flags=re.MULTILINE)
    assert "arXiv:2103.00020" in text


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?$", text, flags=re.MULTILINE)
    assert len(versions) == len(re.findall(r"^## ", text, flags=re.MULTILINE)) == len(set(versions))
    assert versions[0] == "Unreleased"
    released = [Version(version) for version in versions[1:]]
    assert released == sorted(released, reverse=True)
    assert all(version <= Version(zeroshot.__version__) for version in released)
    headings = re.findall(r"^### (.+)$", text, flags=re.MULTILINE)
    assert set(headings) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


# ---------------------------------------------------------------------------------------------------------- versions


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    users = {**requirements(), **requirements(*(extra for extra in EXTRAS if extra not in DEVELOPMENT))}
    lowest = {}
    for name, requirement in users.items():
        (bound,) = requirement.specifier
        assert bound.operator == ">=", requirement
        lowest[name] = Version(bound.version)
    assert pins(ROOT / ".ci" / "minimum.txt") == lowest


def test_each_library_has_one_lower_bound() -> None:
    # But those that the tests compare with: `test` may ask for more than an extra does.
    bounds: dict[str, set[str]] = {}
    for extra in (extra for extra in EXTRAS if extra not in DEVELOPMENT):
        for name, requirement in {**requirements(), **requirements(extra)}.items():
            bounds.setdefault(name, set()).add(str(requirement.specifier))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


def test_the_newest_versions_that_are_tested_are_allowed() -> None:
    newest = pins(ROOT / "constraints.txt")
    asked = [*requirements().values(), *(r for extra in EXTRAS for r in requirements(extra).values())]
    for requirement in asked:
        version = newest.get(canonicalize_name(requirement.name))
        assert version is None or version in requirement.specifier, requirement
    assert requirements().keys() <= newest.keys()


def test_pythons_are_those_of_the_classifiers() -> None:
    prefix = "Programming Language :: Python :: "
    named = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if re.fullmatch(prefix + r"3\.\d+", c)]
    (bound,) = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert (bound.operator, bound.version) == (">=", named[0])
    assert [int(version.split(".")[1]) for version in named] == list(range(11, 11 + len(named)))


# ----------------------------------------------------------------------------------------------------------- imports


def _foreign(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the distributions whose modules are imported there."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return {canonicalize_name(BRINGS.get(name, name)) for name in names - set(sys.stdlib_module_names) - {"zeroshot"}}


@pytest.mark.parametrize("path", sorted((ROOT / "zeroshot").rglob("*.py")), ids=lambda path: path.stem)
def test_every_library_that_is_imported_is_asked_for(path: Path) -> None:
    core = requirements().keys()
    extras = requirements(*(extra for extra in EXTRAS if extra not in DEVELOPMENT)).keys()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert _foreign(ast.walk(tree)) <= core | extras
    assert _foreign(tree.body) <= core  # extras when they are needed
