"""The benchmarks' own arithmetic, and a smoke run without peers; nothing here looks at a clock's result."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import cold, gpu, heads, images, instructions, measure, pixels, run, scoring
from benchmarks.measure import Comparison, Contestant, Measured, MissingError
from PIL import Image

import zeroshot
from zeroshot.tokenizer import tokenize

FOLDER = Path(__file__).parent / "benchmarks"


def contestant(name: str, log: list[str], *, missing: bool = False) -> Contestant:
    def prepare() -> measure.Run:
        if missing:
            raise MissingError("it is not installed")
        return lambda: log.append(name)

    return Contestant(name, prepare)


def test_everybody_takes_a_turn_in_each_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SHORTEST_SECONDS", 0.0)
    log: list[str] = []
    three = [contestant("a", log), contestant("b", log, missing=True), contestant("c", log)]
    measured, notes = measure.take_turns(Comparison("key", "title", three), rounds=3)
    assert [one.name for one in measured] == ["a", "c"]
    assert [len(one.seconds) for one in measured] == [3, 3]
    assert notes == ["b: it is not installed"]
    assert log[-6:] == ["a", "c"] * 3
    measured, _ = measure.take_turns(Comparison("key", "title", three, rounds=2), rounds=3, only=["c"])
    assert [(one.name, len(one.seconds)) for one in measured] == [("c", 2)]


def test_a_table_of_rates() -> None:
    rows = torch.eye(2)
    comparison = Comparison("key", "Images", [], items=8, gflop=10.0)
    measured = [
        Measured("open_clip", seconds=[0.3, 0.2, 0.1], result=rows),
        Measured("zeroshot", seconds=[0.1], result=rows * 3),
        Measured("zeroshot int8", exact=False, seconds=[0.05], result=torch.tensor([[1.0, 0], [0.6, 0.8]])),
    ]
    assert measure.render(comparison, measured, ["peer: missing"], peak=200) == (
        "**Images**\n\n"
        "|  | images/s | × open_clip | min to max | GFLOP/s | of the peak | deviation |\n"
        "|---|---:|---:|---:|---:|---:|---:|\n"
        "| open_clip | 40.0 | 1.00 | 26.7 to 80.0 | 50 | 25% | 0 |\n"
        "| zeroshot | 80.0 | 2.00 | 80.0 to 80.0 | 100 | 50% | 0.0e+00 |\n"
        "| zeroshot int8 | 160.0 | 4.00 | 160.0 to 160.0 | 200 | 100% | cosine 0.8000 |\n"
        "\n- peer: missing\n"
    )


def test_a_table_without_the_baseline_compares_with_the_first() -> None:
    measured = [Measured("zeroshot", seconds=[2.0]), Measured("other", seconds=[700.0])]
    text = measure.render(Comparison("key", "Heads", []), measured, [])
    assert "× zeroshot" in text
    assert "| zeroshot | 2 s | 1.00 |" in text
    assert "| other | 11.7 min | 0.00 |" in text


def test_deviations_are_of_rows_of_length_one() -> None:
    reference = torch.tensor([[3.0, 4.0]])
    assert measure.deviation(reference * 2, reference) == 0
    assert measure.deviation(torch.tensor([[4.0, 3.0]]), reference) == pytest.approx(0.2)
    assert measure.least_cosine(torch.tensor([[4.0, 3.0]]), reference) == pytest.approx(0.96)
    with pytest.raises(ValueError, match="cannot be compared"):
        measure.deviation(torch.zeros(2, 2), reference)


def test_the_work_of_an_image_and_of_a_trie() -> None:
    assert images.vit_gflop() == pytest.approx(8.82, abs=0.01)
    # Two prompts of three and four tokens that share two: five prefixes.
    tokens = np.array([[1, 5, heads.END, 0, 0], [1, 5, 7, heads.END, 0]])
    once = heads.trie_gflop(tokens)
    assert heads.trie_gflop(np.concatenate([tokens, tokens])) == once
    assert once * 1e9 == pytest.approx(5 * (11 * 24 + 4) * 512**2 + 2 * 20 * 512**2, rel=1e-3)
    names, templates = heads.wording(10, 80)
    prompts = zeroshot.PromptSet(tuple(templates)).expand(names)
    tokens = tokenize([text for row in prompts for text in row])
    rows, prefixes = heads.distinct(tokens)
    trie: dict[int, Any] = {}
    nodes = 0
    for row in tokens:
        node = trie
        for token in row[: row.argmax() + 1].tolist():
            nodes += token not in node
            node = node.setdefault(token, {})
    assert (len(rows), len(prefixes)) == (800, nodes)


def test_counts_are_read() -> None:
    perf = SimpleNamespace(stderr="noise\n123456,,instructions:u,1000,100.00,,\n")
    assert instructions._from_perf(perf) == 123456  # type: ignore[arg-type]
    refused = SimpleNamespace(stderr="<not supported>,,instructions:u,0,100.00,,\n")
    assert instructions._from_perf(refused) is None  # type: ignore[arg-type]
    callgrind = SimpleNamespace(stderr="==1== Events    : Ir\n==1== Collected : 4615270\n")
    assert instructions._from_callgrind(callgrind) == 4615270  # type: ignore[arg-type]


def test_a_run_without_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "peak_gflops", lambda: 100.0)
    monkeypatch.setattr(measure, "SHORTEST_SECONDS", 0.0)
    options = Namespace(
        rows=["mini-8"], only=["zeroshot"], rounds=1, threads=torch.get_num_threads(), clock="processor", gelu=False,
        compiled=False, count=False, child=None, list=False, device=None,
    )  # fmt: skip
    run.run(options, ["images"], tmp_path)
    shown = capsys.readouterr().out
    assert "Peak of matrix products 100 GFLOP/s" in shown
    assert "**mini, 8 images at a time**" in shown
    assert "| zeroshot | " in shown
    assert not list(tmp_path.iterdir())  # nothing of full size was written


def test_a_run_on_a_device(
    tmp_path: Path, open_clip_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measure, "SHORTEST_SECONDS", 0.0)
    monkeypatch.setattr(gpu.models, "checkpoint", lambda name, folder: open_clip_folder)
    monkeypatch.setattr(gpu, "SIZE", 32)
    options = Namespace(
        rows=["vit-8-float32", "head-10x1-float32"], only=["zeroshot"], rounds=1, threads=torch.get_num_threads(),
        clock="wall", gelu=False, compiled=False, count=False, child=None, list=False, device="cpu",
    )  # fmt: skip
    run.run(options, ["gpu"], tmp_path)
    shown = capsys.readouterr().out
    assert "Device cpu: " in shown
    assert "**ViT-B/32 on cpu, float32, 8 images at a time**" in shown
    assert "**Head of 10 names x 1 template on cpu, float32**" in shown
    assert shown.count("| zeroshot | ") == 2
    assert "Peak of matrix products" not in shown  # that of the CPU
    options.device = "cuda:99"
    with pytest.raises(SystemExit, match="--device cuda:99 is not there: "):
        run.run(options, ["gpu"], tmp_path)


def test_the_contestants_on_a_gpu() -> None:
    found = gpu.comparisons(Path(), threads=1, quick_gelu=True, compiled=True, device="cuda:1")
    by_key = {one.key: one for one in found}
    assert len(by_key) == len(gpu.BATCHES) * len(gpu.DTYPES) + 2 * len(gpu.HEADS)
    half = by_key["vit-1-float16"]
    assert "cuda:1, float16, 1 image at a time" in half.title
    libraries = ("open_clip", "transformers", "zeroshot")
    assert {one.name for one in half.contestants} == {f"{name}{how}" for name in libraries for how in ("", " compiled")}
    assert not any(one.exact for one in half.contestants)  # told by the cosine
    assert all(one.exact for one in by_key["vit-1-float32"].contestants)


def test_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    rows = torch.eye(2)
    out = gpu.finished(lambda: rows, torch.device("cuda", 1))()
    assert waited == [torch.device("cuda", 1)]
    rows.zero_()
    assert torch.equal(out, torch.eye(2))
    gpu.finished(lambda: rows, torch.device("cpu"))()
    assert len(waited) == 1


def test_a_peer_is_copied_to_its_device() -> None:
    model = torch.nn.Linear(2, 2)
    copied = gpu.placed(model, torch.device("meta"), "float16")
    assert (copied.weight.device.type, copied.weight.dtype) == ("meta", torch.float16)
    assert (model.weight.device.type, model.weight.dtype) == ("cpu", torch.float32)


def test_the_command_line_knows_its_parts() -> None:
    done = subprocess.run([sys.executable, str(FOLDER), "imagse"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert "no part is called imagse; expected images, heads" in done.stderr


def test_a_table_of_processes() -> None:
    found: dict[str, list[Any]] = {
        "import torch": [(1.0, 1.0, 500_000_000, None)],
        "open_clip": [(8.0, 9.0, 2_000_000_000, [0.75, 0.25]), (10.0, 9.0, 2_000_000_000, [0.75, 0.25])],
        "zeroshot": [(3.0, 2.5, 1_000_000_000, [0.5, 0.5])],
    }
    assert cold.render(found, ["transformers: not installed"]).splitlines()[2:] == [
        "|  | time | × open_clip | processors | peak MB | of open_clip's | deviation |",
        "|---|---:|---:|---:|---:|---:|---:|",
        "| import torch | 1 s | 9.00 | 1 s | 500 | 25% |  |",
        "| open_clip | 9 s | 1.00 | 9 s | 2000 | 100% | 0.0e+00 |",
        "| zeroshot | 3 s | 3.00 | 2.5 s | 1000 | 50% | 2.5e-01 |",
        "",
        "- transformers: not installed",
    ]
    del found["open_clip"]
    assert "× import torch" in cold.render(found, [])


def test_a_process_is_measured() -> None:
    seconds, processor, peak, found = cold.run("probabilities = [bytes(50_000_000)[0]]" + cold.LAST, threads=1)
    assert seconds > 0
    assert processor > 0
    assert peak > 50_000_000
    assert found == [0]
    with pytest.raises(MissingError, match="No module named 'a_peer'"):
        cold.run("import a_peer", threads=1)


@pytest.mark.parametrize("prepare", [scoring._call, scoring._stream])
def test_scoring_by_hand_is_scoring_by_ours(prepare: Any) -> None:
    count = 1 if prepare is scoring._call else scoring.BATCH
    assert measure.deviation(prepare(40)(), scoring._by_hand(40, count)()) < 1e-5


def test_photographs_are_written_once(tmp_path: Path) -> None:
    paths = pixels.photographs(tmp_path, 2, 40, 30)
    before = [path.stat().st_mtime_ns for path in paths]
    with Image.open(paths[1]) as image:
        assert image.size == (40, 30)
    assert [path.stat().st_mtime_ns for path in pixels.photographs(tmp_path, 2, 40, 30)] == before
