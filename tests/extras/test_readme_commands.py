"""Every command that the README shows runs, with `mini` and few pictures, and nothing warns."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.pages import ROOT, blocks
from zeroshot import cli

pytestmark = pytest.mark.extra
PHOTOS = {path.stem: path for path in sorted((ROOT / "examples/images").glob("*.jpg"))}
# Names of classes that the commands' prompt sets and shifts know.
FOLDERS = {
    **{f"{part}/{name}": name for part in ("photos", "held-out", "more") for name in PHOTOS},
    **{"pets/test/Siamese": "cat", "pets/test/Beagle": "rocket"},
    **{"sets/oxford_pets/Siamese": "cat", "sets/oxford_pets/Beagle": "rocket"},
    **{"val/n01443537": "cat", "val/n01484850": "rocket"},  # goldfish, great white shark
    **{"imagenet-r/n01443537": "cat", "imagenet-r/n01484850": "rocket"},
}
# What takes minutes is done on less; the paper's models are a download.
SHORTER = {
    "limits": ["--per-class", "2"],
    "reproduce": ["--model", "mini"],
    "fewshot": ["--shots", "1", "--seeds", "1"],
    "robustness": ["--prompts", "{}"],  # in place of 80 of them for a thousand classes
}


def commands() -> list[str]:
    """Return the README's commands in their order, without the comments; ``…`` stands for the command above."""
    found: list[str] = []
    for block in blocks(ROOT / "README.md"):
        for line in block.text.splitlines() if block.info == "console" else []:
            if line.startswith("$ zeroshot "):
                command = re.sub(r"\s+# .*", "", line.removeprefix("$ zeroshot "))
                _, dots, after = command.partition(" … ")
                found.append(found[-1].partition(" --out")[0] + f" {after}" if dots else command)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with all that the commands name."""
    root = tmp_path_factory.mktemp("readme")
    for name, photo in FOLDERS.items():
        (root / name).mkdir(parents=True)
        with Image.open(PHOTOS[photo]) as image:
            for number in range(4):
                image.resize((96 + number, 96)).save(root / name / f"{number}.jpg")
    # No temperature is right where all is right.
    (root / "held-out/cat/odd.jpg").write_bytes((root / "held-out/rocket/0.jpg").read_bytes())
    (root / "cat.jpg").write_bytes(PHOTOS["cat"].read_bytes())
    (root / "shards").mkdir()
    for number in range(100):
        with tarfile.open(root / f"shards/{number:04}.tar", "w") as tar:
            if number == 7:
                tar.add(root / "photos/cat/0.jpg", "cat.jpg")
    (root / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    (root / "mine.toml").write_text('templates = ["a sketch of a {}."]\n', encoding="utf-8")
    (root / "examples").symlink_to(ROOT / "examples")
    return root


def as_run(command: str, folder: Path) -> list[str]:
    """Return the words of a command as a shell would give them, with `mini` as the model."""
    words = []
    for word in shlex.split(command.partition(" > ")[0]):
        words += sorted(path.name for path in folder.glob(word)) if word == "*.jpg" else [word]
    words = ["mini" if word == "ViT-B-32/openai" else word for word in words] + SHORTER.get(words[0], [])
    if "--model" in words or "--plan" in words:
        return words
    try:
        cli._parser().parse_args([*words, "--model", "mini"])
    except SystemExit:  # such as `prompts show`, which needs no model
        return words
    return [*words, "--model", "mini"]


def test_every_command_of_the_readme_runs_without_a_warning(folder: Path) -> None:
    ran = [command for command in commands() if command != "app"]  # test_app.py
    assert len(ran) > 20
    for command in ran:
        words = as_run(command, folder)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "zeroshot", *words],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        notes = done.stderr.splitlines()  # where the result is; progress is for terminals
        assert done.returncode == 0, (words, notes)
        assert all(note.startswith("zeroshot: ") for note in notes), (words, notes)
