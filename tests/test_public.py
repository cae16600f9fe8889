"""The table of contents: what the package shows, what importing it costs, and which way its imports point."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zeroshot

PACKAGE = Path(zeroshot.__file__).parent

# Bottom to top; a module imports from lower levels only. Modules of one level do not know each other.
LEVELS = [
    {"errors", "threads", "lanes"},
    {"cache", "files", "article", "formats", "metrics", "weights", "display", "tables"},
    {"prompts", "tokenizer", "image", "results", "figures", "progress"},
    {"nets", "lint", "gallery", "matching", "tokenizer_file", "shifts", "adapted", "pictures", "drawings"},
    {"encoder", "prediction", "prefix", "layouts", "baselines", "adapters"},
    {"checkpoints", "registry", "stream", "robustness"},
    {"clip", "sources", "embeddings", "corruptions", "report", "labelled_images"},
    {"head", "labelled"},
    {"explain"},
    {"classifier", "weighting", "evaluation_result"},
    {"compare", "jobs", "engines", "evaluation", "probe", "faithfulness"},
    {"fewshot", "limits", "shifted", "calibration", "reproduce", "workbench"},
    {"app"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def run(code: str) -> Any:
    """Run code in a fresh interpreter that makes an error of every warning; it prints JSON."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ----------------------------------------------------------------------------------------------------------- names


def test_all_is_what_completion_shows() -> None:
    code = "import zeroshot, json; print(json.dumps([n for n in dir(zeroshot) if not n.startswith('_')]))"
    assert sorted(run(code)) == sorted(zeroshot.__all__)


def test_all_holds_the_names_of_the_table_of_contents() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))  # if TYPE_CHECKING
    typed = [alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(typed, key=str) == sorted(zeroshot.__all__)
    assert len(zeroshot.__all__) == len(set(zeroshot.__all__)) <= 20


@pytest.mark.parametrize("name", zeroshot.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(zeroshot, name)
    assert inspect.getdoc(value)
    assert vars(zeroshot)[name] is value  # found once, then an ordinary attribute


def test_star_import() -> None:
    scope: dict[str, Any] = {}
    exec("from zeroshot import *", scope)
    assert set(zeroshot.__all__) <= set(scope)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'zeroshot' has no attribute 'clasify'"):
        _ = zeroshot.clasify
    with pytest.raises(ImportError):
        from zeroshot import clasify  # type: ignore[attr-defined]  # noqa: F401


def test_the_version_is_a_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev)\d+)?", zeroshot.__version__)


def _functions(value: Any) -> Iterator[tuple[str, Any]]:
    if inspect.isclass(value):
        for name, member in vars(value).items():
            function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if not name.startswith("_") and inspect.isfunction(function):
                yield f"{value.__name__}.{name}", function
    elif inspect.isfunction(value):
        yield value.__name__, value


@pytest.mark.parametrize("name", [n for n in zeroshot.__all__ if not inspect.ismodule(getattr(zeroshot, n))])
def test_every_public_function_is_documented_and_annotated(name: str) -> None:
    for label, function in _functions(getattr(zeroshot, name)):
        assert inspect.getdoc(function), label
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, label
        for parameter in list(signature.parameters.values()):
            assert parameter.name in ("self", "cls") or parameter.annotation is not inspect.Parameter.empty, label


@pytest.mark.parametrize("name", ["classify", "Classifier", "load", "build_head"])
def test_options_are_given_by_keyword(name: str) -> None:
    # Two or three things in front; everything after them reads as what it is.
    parameters = inspect.signature(getattr(zeroshot, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 2
    assert all(p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY)


# ---------------------------------------------------------------------------------------------------- cost of import

HEAVY = ["torch", "numpy", "PIL", "huggingface_hub", "safetensors", "transformers", "ftfy", "regex", "tqdm", "fsspec"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import json, sys, zeroshot; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    assert run(code) == []


def test_names_of_models_and_prompts_cost_no_torch() -> None:
    code = (
        "import json, sys, zeroshot\n"
        "zeroshot.available_models(); zeroshot.available_prompts(); zeroshot.load_prompts('mnist').expand(['1'])\n"
        "print(json.dumps([m for m in ('torch', 'PIL', 'numpy', 'huggingface_hub') if m in sys.modules]))"
    )
    assert run(code) == []


def test_tokenizing_costs_no_torch() -> None:
    code = (
        "import json, sys, zeroshot\n"
        "zeroshot.tokenizer.tokenize(['a cat'])\n"
        "print(json.dumps([m for m in ('torch', 'PIL', 'ftfy') if m in sys.modules]))"
    )
    assert run(code) == []


def test_importing_everything_has_no_effects(tmp_path: Path) -> None:
    # No files, no threads of our own, no change to the environment, to warnings or to torch's settings.
    code = """
import json, os, sys, warnings, torch, PIL, threading
state = lambda: (dict(os.environ), list(warnings.filters), torch.get_num_threads(), torch.get_default_dtype(),
                 torch.is_grad_enabled(), threading.active_count(), os.listdir('.'))
import numpy, safetensors.torch, regex
before = state()
import zeroshot
[getattr(zeroshot, name) for name in zeroshot.__all__]
print(json.dumps([str(a) for a, b in zip(before, state()) if a != b]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert not (tmp_path / "zeroshot-cache").exists()


# ---------------------------------------------------------------------------------------------- direction of imports


def modules() -> dict[str, Path]:
    """Return the modules: dotted name below the package -> file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    del found["__init__"]
    return found


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports, anywhere in it: ``nets.vit``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("zeroshot.") for alias in node.names if _ours(alias.name))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "zeroshot":
                yield from (alias.name for alias in node.names)
            elif node.module and _ours(node.module):
                yield node.module.removeprefix("zeroshot.")


def _ours(name: str) -> bool:
    return name == "zeroshot" or name.startswith("zeroshot.")


def test_every_module_has_its_place() -> None:
    assert {name.partition(".")[0] for name in modules()} <= set(LEVEL)


def test_the_plan_of_the_house_is_this() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    plan = text.partition("## The house")[2].partition("```\n")[2].partition("\n```")[0]
    levels = [{line.split()[0].rstrip("/") for line in level.splitlines()} for level in plan.split("\n\n")]
    assert levels[::-1] == LEVELS[:-1]  # all but `__main__`


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_downwards(name: str) -> None:
    package = name.partition(".")[0]
    for target in imported(modules()[name]):
        room = target.partition(".")[0]
        if room == package and room in ("nets", "layouts", "cli"):
            continue
        # The root and the names that it shows stand above all modules but the command line.
        assert LEVEL.get(room, LEVEL["cli"] - 1) < LEVEL[package], f"{name} imports {target}"


@pytest.mark.parametrize("name", ["encoder", "head", "classifier", *(n for n in modules() if n.split(".")[0] == "cli")])
def test_what_stands_on_encoders_knows_no_network(name: str) -> None:
    assert [
        target for target in imported(modules()[name]) if target.startswith(("nets", "checkpoints", "prefix"))
    ] == []


@pytest.mark.parametrize("name", sorted(name for name in modules() if name.startswith("cli.")))
def test_commands_do_not_know_each_other(name: str) -> None:
    own = [target for target in imported(modules()[name]) if target.startswith("cli.")]
    assert set(own) <= {"cli.options", "cli.output", "cli.parser"}


@pytest.mark.parametrize("name", sorted(name for name in modules() if name.startswith("nets")))
def test_networks_know_tensors_only(name: str) -> None:
    assert [target for target in imported(modules()[name]) if not target.startswith(("nets", "errors"))] == []


def test_no_module_is_a_drawer_for_everything() -> None:
    names = {part for name in modules() for part in name.split(".")}
    assert names & {"utils", "util", "helpers", "common", "misc", "factory"} == set()


def test_the_reader_of_these_imports_sees_them(tmp_path: Path) -> None:
    source = (
        "import os\nimport zeroshot.clip\nfrom zeroshot import prefix, head as h\n"
        "def f():\n    from zeroshot.nets.vit import VisionTransformer\n"
    )
    (tmp_path / "module.py").write_text(source)
    assert list(imported(tmp_path / "module.py")) == ["clip", "prefix", "head", "nets.vit"]
