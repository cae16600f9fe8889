"""What the guides say of other libraries is what these have: their names exist, and take the arguments given."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import pytest

from tests.pages import ROOT, Block, blocks

pytestmark = pytest.mark.filterwarnings("default")  # the libraries warn of their own doings

GUIDE = ROOT / "examples" / "guides" / "from_other_libraries.md"
BLOCKS = {block.info.split()[1]: block for block in blocks(GUIDE) if block.info.startswith("python ")}


def check(block: Block) -> int:
    """Bind each call of what a block imports to its signature; return how many there are."""
    tree = ast.parse(block.text)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: importlib.import_module(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            known |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    bound = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = known.get(node.value.id)
            assert not inspect.ismodule(module) or getattr(module, node.attr) is not None
        if isinstance(node, ast.Call):
            function: Any = None
            if isinstance(node.func, ast.Name):
                function = known.get(node.func.id)
            elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                function = getattr(known.get(node.func.value.id), node.func.attr, None)
            if function is not None and function.__module__.partition(".")[0] not in ("torch", "PIL"):
                inspect.signature(function).bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
                bound += 1
    return bound


@pytest.mark.parametrize("library", BLOCKS)
def test_calls_of_other_libraries_are_theirs(library: str) -> None:
    try:
        importlib.import_module(library)
    except ImportError:
        pytest.skip(f"{library} is not installed")
    assert check(BLOCKS[library]) >= 1


def test_a_wrong_call_is_seen() -> None:
    with pytest.raises(TypeError):
        check(Block("python", "import open_clip\nopen_clip.build_zero_shot_classifier(names=1)\n", 1))
    with pytest.raises(AttributeError):
        check(Block("python", "import open_clip\nopen_clip.create_modell\n", 1))
