"""Sphinx: the pages of the checkout where they are, and the reference from the docstrings; `make docs` calls it.

The checkout is the source folder, so that links between pages lead where they lead on GitHub. The pages of the
reference are written to `build/reference` first; what they name is listed in `tests/pages.py`, as for the tests.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import zeroshot  # noqa: E402
from tests.pages import MODULES, RESULTS, links, pages  # noqa: E402

project = "zeroshot"
author = "The zeroshot authors"
version = release = zeroshot.__version__
html_title = f"zeroshot {version}"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
root_doc = "README"
REFERENCE = ROOT / "build" / "reference"
PAGES = [path.relative_to(ROOT) for path in pages()]
include_patterns = [*map(str, PAGES), "build/reference/*.rst"]
exclude_patterns = [".*", "build/docs", "dist"]

html_theme = "furo"
html_copy_source = html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
pygments_style, pygments_dark_style = "friendly", "monokai"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have shapes and ranges too
autodoc_default_options = {"members": True, "special-members": "__call__"}
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # fields are explained once, in the class
napoleon_use_rtype = False
default_role = "py:obj"
myst_heading_anchors = 4


def write_reference() -> None:
    """Write a page for the root, one for what its functions return, and one for each public module."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for old in REFERENCE.glob("*.rst"):
        old.unlink()
    named = [f"zeroshot.{name}" for name in zeroshot.__all__ if name not in MODULES]
    _write("zeroshot", "zeroshot", "What ``import zeroshot`` has.", named)
    results = "What functions of the root return and take, and is not of the root itself."
    _write("results", "Results", results, [f"zeroshot.{name}" for name in RESULTS])
    for name in MODULES:
        title = f"zeroshot.{name}"
        _page(title, title, f".. automodule:: {title}\n")
    entries = "\n".join(f"   {page}" for page in ["zeroshot", "results", *(f"zeroshot.{name}" for name in MODULES)])
    _page("index", "Reference", f".. toctree::\n   :maxdepth: 2\n\n{entries}\n")


def _write(page: str, title: str, intro: str, names: list[str]) -> None:
    parts = [intro, ""]
    for name in names:
        module, _, attribute = name.rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        kind = "autoclass" if isinstance(value, type) else "autofunction"
        parts += [f".. {kind}:: {name}", ""]
    _page(page, title, "\n".join(parts))


def _page(page: str, title: str, text: str) -> None:
    (REFERENCE / f"{page}.rst").write_text(f"{title}\n{'=' * len(title)}\n\n{text}", encoding="utf-8")


def add_contents(app: Any, docname: str, source: list[str]) -> None:
    """Append the sidebar to the README: guides, reference, all other pages."""
    if docname != root_doc:
        return
    guides = re.findall(r"\]\((\w+)\.md\)", (ROOT / "examples/guides/README.md").read_text(encoding="utf-8"))
    first = ["examples/guides/README", *(f"examples/guides/{name}" for name in guides)]
    rest = [name for name in (str(page.with_suffix("")) for page in PAGES) if name not in (root_doc, *first)]
    for caption, names in (("Guides", first), ("Reference", ["build/reference/index"]), ("More", rest)):
        entries = "\n".join(f"/{name}" for name in names)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"


def be_exact(app: Any, doctree: Any) -> None:
    """Let no word of a type, as in "list of images", lead to whatever attribute has its name."""
    for node in doctree.findall(pending_xref):
        node.attributes.pop("refspecific", None)  # Sphinx asks whether it is there


def resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Let `Head` lead there from any docstring, and the functions of the root; all else is of the same module."""
    target, objects = node["reftarget"], env.get_domain("py").objects
    found = [
        name
        for name, entry in objects.items()
        if name == f"zeroshot.{target}"
        or (name.endswith(f".{target}") and entry.objtype in ("class", "exception") and not entry.aliased)
    ]
    if node.get("refdomain") != "py" or not found:
        return None
    name = min(found, key=len)  # zeroshot.Head before zeroshot.head.Head
    return make_refnode(app.builder, node["refdoc"], objects[name].docname, objects[name].node_id, content, name)


def skip(app: Any, what: str, name: str, value: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out what Python itself writes of the fields of a named tuple."""
    return True if str(getattr(value, "__doc__", "")).startswith("Alias for field number") else None


def copy_pictures(app: Any, error: Exception | None) -> None:
    """Copy what pages show in HTML of their own, which Sphinx does not read; `index.html` leads to the README."""
    if error is not None:
        return
    for page in PAGES:
        for target in links(ROOT / page):
            path = (ROOT / page).parent / target.partition("#")[0]
            if path.suffix in (".jpg", ".png", ".svg"):
                to = Path(app.outdir) / page.parent / target
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)
    (Path(app.outdir) / "index.html").write_text(
        '<!doctype html><meta charset="utf-8"><title>zeroshot</title>'
        '<meta http-equiv="refresh" content="0; url=README.html"><a href="README.html">zeroshot</a>\n',
        encoding="utf-8",
    )


def setup(app: Any) -> None:
    write_reference()
    app.connect("source-read", add_contents)
    app.connect("autodoc-skip-member", skip)
    app.connect("doctree-read", be_exact)
    app.connect("missing-reference", resolve)
    app.connect("build-finished", copy_pictures)
