"""What the documentation says holds: each public name is explained, with an example that runs as a doctest.

Doctests themselves run with the modules (`--doctest-modules`), the blocks of the pages in `tests/test_readme.py`.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import zeroshot
from tests.pages import MODULES, RESULTS, ROOT, pages

# Its body asks before it calls what would raise.
NEVER = {("zeroshot.evaluation.Evaluation.to_dict", "OptionError")}
SECTION = re.compile(r"^([A-Z][a-z]+)\n-+$", re.MULTILINE)


def modules() -> list[ModuleType]:
    return [importlib.import_module(f"zeroshot.{name}") for name in MODULES]


def documented() -> dict[str, Any]:
    """Return what the reference has: dotted name -> function or class."""
    found = {f"zeroshot.{name}": getattr(zeroshot, name) for name in zeroshot.__all__}
    for name in RESULTS:
        module, _, attribute = name.rpartition(".")
        found[f"zeroshot.{name}"] = getattr(importlib.import_module(f"zeroshot.{module}"), attribute)
    for module in modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
                found[f"{module.__name__}.{name}"] = value
    return {name: value for name, value in found.items() if inspect.isclass(value) or _function(value) is not None}


def _function(value: Any) -> Any:
    value = getattr(value, "__wrapped__", value)  # lru_cache
    if isinstance(value, (classmethod, staticmethod)):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, functools.cached_property):
        value = value.func
    return value if inspect.isfunction(value) else None


def callables() -> dict[str, tuple[Any, Any]]:
    """Return all public functions and methods: dotted name -> function, and the class that it belongs to."""
    found: dict[str, tuple[Any, Any]] = {}
    for name, value in documented().items():
        if not inspect.isclass(value):
            found[name] = (_function(value), None)
            continue
        for key, member in vars(value).items():
            function = _function(member)
            if function is not None and (not key.startswith("_") or key == "__call__"):
                found[f"{name}.{key}"] = (function, value)
    return found


DOCUMENTED, CALLABLES = documented(), callables()


def sections(text: str) -> dict[str, str]:
    """Split a docstring in NumPy's form: name of the section -> its text; ``""`` is what stands before the first."""
    parts = SECTION.split(text)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def examples(text: str) -> str:
    return "\n".join(re.findall(r"^\s*(?:>>>|\.\.\.) (.*)$", text, re.MULTILINE))


def entries(text: str) -> set[str]:
    """Return the names that a section explains: those at the left edge, before a colon."""
    lines = [line.partition(" : ")[0] for line in textwrap.dedent(text).splitlines() if line and line[0] not in " \t"]
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def doc(value: Any) -> str:
    """Return the docstring of the thing itself, not an inherited one."""
    return inspect.cleandoc(getattr(value, "__doc__", None) or "")


def faults_of(name: str, function: Any, owner: Any) -> Iterator[str]:
    """Yield what the docstring of a function or method lacks."""
    text = doc(function)
    if owner is not None and function.__name__ in explained_by(owner):
        return  # the members of a protocol, explained where a class explains its attributes
    if not text:
        yield "no docstring"
        return
    parts, signature = sections(text), inspect.signature(function)
    asked = [p for p in signature.parameters if p not in ("self", "cls")]
    if missing := set(asked) - entries(parts.get("Parameters", "")):
        yield f"does not explain {sorted(missing)}"
    if signature.return_annotation not in (None, "None") and not (
        {"Returns", "Yields"} & set(parts) or re.match(r"(Return|Yield|Whether|SHA)", text)
    ):
        yield "does not say what it returns"
    if re.search(r"Tensor|NDArray|Floats|Integers", str(signature.return_annotation)):
        said = parts[""] + parts.get("Returns", "")
        if not re.search(r"\([^()]*\w,?[^()]*\)|shape", said) or not re.search(r"float|int|bool", said):
            yield "does not say shape and dtype of what it returns"
    raised = errors_of(function, owner)
    listed = parts.get("Raises", "") + (sections(doc(owner)).get("Raises", "") if owner else "")
    for error in raised:
        bases = {base.__name__ for base in getattr(zeroshot.errors, error).__mro__}
        if (name, error) not in NEVER and not any(base in listed for base in bases & {*vars(zeroshot.errors)}):
            yield f"does not say that it raises {error}"
    shown = examples(text)
    if owner is not None:
        shown += "\n" + examples(doc(owner))
        if function.__name__ == "__call__":
            return  # an example calls it if it has one, which the class has
    if not re.search(rf"\b{function.__name__}\b", shown):
        yield "has no example"


def explained_by(owner: Any) -> set[str]:
    return entries(sections(doc(owner)).get("Attributes", ""))


def errors_of(function: Any, owner: Any) -> set[str]:
    """Return the names of our errors that the body of a function raises itself, or what it calls of its own module."""
    module = inspect.getmodule(function)
    assert module is not None
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [function]
    while waiting:
        tree = ast.parse(textwrap.dedent(inspect.getsource(waiting.pop())))
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if isinstance(raised, ast.Name) and raised.id in vars(zeroshot.errors):
                    found.add(raised.id)
            if isinstance(node, ast.Call):
                called = node.func
                target = None
                if isinstance(called, ast.Name):
                    target = getattr(module, called.id, None)
                elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and owner is not None:
                    target = vars(owner).get(called.attr) if called.value.id in ("self", "cls") else None
                target = _function(target)
                if target is None or not target.__name__.startswith("_") or target.__module__ != module.__name__:
                    continue
                if target.__qualname__ not in seen:
                    seen.add(target.__qualname__)
                    waiting.append(target)
    return found


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_name_has_a_docstring_and_an_example(name: str) -> None:
    assert doc(DOCUMENTED[name]), "no docstring"
    assert ">>>" in doc(DOCUMENTED[name]), "no example"


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_function_says_what_comes_in_what_goes_out_and_what_goes_wrong(name: str) -> None:
    assert list(faults_of(name, *CALLABLES[name])) == []


@pytest.mark.parametrize("name", [name for name, value in DOCUMENTED.items() if inspect.isclass(value)])
def test_every_public_class_explains_its_fields(name: str) -> None:
    value = DOCUMENTED[name]
    parts = sections(doc(value))
    known = entries(parts.get("Attributes", "")) | entries(parts.get("Parameters", ""))
    fields = getattr(value, "__dataclass_fields__", {})
    assert {field for field in fields if not field.startswith("_")} - known == set()
    if "__init__" in vars(value) and not fields and not getattr(value, "_is_protocol", False):
        assert re.search("ade by (`|the functions)", doc(value)) or set(inspect.signature(value).parameters) <= known


def test_a_fault_is_seen() -> None:
    def scale(image: Any, factor: float = 1.0) -> Any:
        """Enlarge an image.

        Parameters
        ----------
        image : image
        """
        if factor <= 0:
            raise zeroshot.errors.OptionError("factor")
        return image

    def refuse(count: int) -> int:
        """Return a number.

        Parameters
        ----------
        count : int

        Examples
        --------
        >>> refuse(3)
        3
        """
        return check(count)

    assert list(faults_of("scale", scale, None)) == [
        "does not explain ['factor']",
        "does not say what it returns",
        "has no example",
    ]
    assert list(faults_of("refuse", refuse, None)) == []
    assert errors_of(zeroshot.errors.check_positive, None) == {"OptionError"}
    assert "OptionError" in errors_of(zeroshot.metrics.accuracy_top_k, None)  # raised by a helper of the module


def check(count: int) -> int:
    return count


def test_the_files_of_the_reference_are_there() -> None:
    assert all((Path(zeroshot.__file__).parent / f"{name}.py").is_file() for name in MODULES)


# --------------------------------------------------------------------------------------------------------------- pages

# What a browser would fetch when it shows a page; links to other pages it fetches when somebody follows them.
FETCHED = re.compile(
    r"""<(?:script|img|source|iframe)\b[^>]*?\b(?:src|srcset)=["'](?:https?:)?//[^"']*"""
    r"""|<link\b[^>]*?\bhref=["'](?:https?:)?//[^"']*|@import[^;]*//|url\(\s*["']?(?:https?:)?//[^)]*"""
)


@pytest.mark.extra
def test_the_pages_have_every_public_name_and_fetch_nothing(tmp_path: Path) -> None:
    pytest.importorskip("sphinx", reason="needs the extra 'docs'")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-c", "examples/guides", "-d", str(tmp_path / "doctrees")]
    done = subprocess.run(
        [*command, ".", str(tmp_path / "docs")], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, "")
    made = tmp_path / "docs"
    assert all((made / page.relative_to(ROOT)).with_suffix(".html").is_file() for page in pages())
    reference = "".join(path.read_text(encoding="utf-8") for path in (made / "build" / "reference").glob("*.html"))
    methods = [name for name, (function, _) in CALLABLES.items() if doc(function)]
    assert [name for name in [*DOCUMENTED, *methods] if f'id="{name}"' not in reference] == []
    files = [path for path in made.rglob("*") if path.suffix in (".html", ".css")]
    assert [found[0] for path in files if (found := FETCHED.search(path.read_text(encoding="utf-8")))] == []
    for path in made.rglob("*.html"):  # Sphinx does not look for pictures in HTML of the pages' own
        shown = re.findall(r'(?:src|srcset)="([^"?]+)', path.read_text(encoding="utf-8"))
        assert [name for name in shown if not name.startswith("data:") and not (path.parent / name).is_file()] == []


@pytest.mark.parametrize(
    "text",
    [
        '<link rel="stylesheet" href="https://fonts.example/css">',
        '<script async src="//cdn.example/mathjax.js">',
        '<img alt="" src="http://example.org/badge.svg">',
        "@font-face { src: url('https://fonts.example/a.woff2') }",
        '@import "https://fonts.example/css";',
    ],
)
def test_what_would_be_fetched_is_seen(text: str) -> None:
    assert FETCHED.search(text)
    assert not FETCHED.search('<a href="https://semver.org/"> <script src="_static/furo.js"> url(fonts/a.woff2)')
