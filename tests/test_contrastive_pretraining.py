"""The example of contrastive pre-training: its loss is open_clip's, and what it trains is a checkpoint like others."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import zeroshot
from zeroshot.tokenizer import get_tokenizer

GOLDEN = Path(__file__).parent / "golden"
FOLDER = Path(__file__).parents[1] / "examples" / "contrastive_pretraining"
sys.path.insert(0, str(FOLDER))  # the scripts import each other as scripts do

import figure_2  # noqa: E402
import pretrain  # noqa: E402
import scenes  # noqa: E402
import wise_ft  # noqa: E402
from pairs import read_pairs  # noqa: E402

CASES = json.loads((GOLDEN / "contrastive.json").read_text(encoding="utf-8"))["cases"]
TINY = pretrain.Sizes(image_width=32, image_layers=2, text_width=32, text_layers=1, head_width=16, dim=32, context=40)
SHORT = pretrain.Schedule(examples=64 * 24, batch_size=24, rate=5e-3)
COLOURS = ("red", "yellow", "green", "blue")


class Coloured:
    """Pairs that a small network learns in seconds: large circles in four colours, and what they are."""

    def __init__(self, count: int, *, seed: int = 0) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, str]:
        colour = COLOURS[index % len(COLOURS)]
        rng = random.Random(f"{self.seed} {index}")
        plain = {"sizes": ["large"], "textures": ["plain"], "backgrounds": ["white"], "patterns": ["plain"]}
        return scenes.portrait(rng, colour, "circle", **plain), f"a photo of a {colour} circle."


def make_model(sizes: pretrain.Sizes = TINY, *, seed: int = 0) -> pretrain.Clip:
    torch.manual_seed(seed)
    return pretrain.Clip(pretrain.vision_tower(sizes), pretrain.text_tower(sizes))


def run(model: nn.Module, schedule: pretrain.Schedule = SHORT, **options: Any) -> list[pretrain.Row]:
    options = {"evaluate": dict, "evaluations": 4} | options
    return list(pretrain.train(model, Coloured(240), schedule, pretrain.reader(TINY), **options))


@pytest.fixture(scope="module")
def trained() -> tuple[pretrain.Clip, list[pretrain.Row]]:
    """Return a network after a few seconds of training, and the rows of it; not to be changed."""
    model = make_model()
    rows = run(model)
    return model.eval(), rows


@pytest.fixture(scope="module")
def checkpoint(trained: tuple[pretrain.Clip, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    pretrain.save_checkpoint(trained[0], TINY, folder)
    return folder


# -------------------------------------------------------------------------------------------------------- the loss


def deviations(case: str, edit: Any = None, *, dtype: str = "float64") -> dict[str, float]:
    """Return the largest differences to open_clip's loss and gradients; those of embeddings over the scale."""
    prefix = f"{case}.{dtype}."
    golden = safetensors.torch.load_file(GOLDEN / "contrastive.safetensors")
    values = {name.removeprefix(prefix): tensor for name, tensor in golden.items() if name.startswith(prefix)}
    given = {name: values[name].clone() for name in ("images", "texts", "log_scale")}
    if edit is not None:
        edit(given)
    for tensor in given.values():
        tensor.requires_grad_()
    scale = values["log_scale"].exp().item()
    loss = pretrain.contrastive_loss(given["images"], given["texts"], given["log_scale"].exp())
    loss.backward()
    ours = {f"{name}.gradient": tensor.grad for name, tensor in given.items()} | {"loss": loss.detach()}
    return {
        name: ((tensor - values[name]).abs().max() / (scale if tensor.ndim else 1)).item()
        for name, tensor in ours.items()
        if tensor is not None
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
def test_loss_and_gradients_are_those_of_open_clip(case: str, dtype: str, tolerance: float) -> None:
    found = deviations(case, dtype=dtype)
    assert set(found) == {"loss", "images.gradient", "texts.gradient", "log_scale.gradient"}
    assert max(found.values()) < tolerance


@pytest.mark.parametrize("case", ["start", "end", "soft"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda given: given["log_scale"].add_(1e-3),
        lambda given: given["texts"].copy_(given["texts"].roll(1, dims=0)),
        lambda given: given["images"][0].neg_(),
        lambda given: given["texts"][3].mul_(1.1),  # not normalised
    ],
    ids=["temperature", "order", "one image", "length of one text"],
)
def test_the_comparison_fails_where_something_is_wrong(case: str, edit: Any) -> None:
    found = deviations(case, edit)
    assert found["loss"] > 1e-5


def test_loss_of_a_batch_that_tells_nothing_is_the_logarithm_of_its_size() -> None:
    same = torch.ones(7, 4) / 2
    assert pretrain.contrastive_loss(same, same, torch.tensor(14.0)).item() == pytest.approx(math.log(7))


def test_the_temperature_starts_and_ends_as_in_the_paper() -> None:
    model = make_model()
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    with torch.no_grad():
        model.logit_scale.fill_(math.log(250))
    model.clip_scale()
    assert model.logit_scale.exp().item() == pytest.approx(100)
    run(model, dataclasses.replace(SHORT, examples=48, rate=0.5))  # each step at such a rate would take it above
    assert model.logit_scale.exp().item() <= 100.001


# --------------------------------------------------------------------------------------------------- the training


def test_the_rate_rises_in_a_line_and_falls_on_a_cosine() -> None:
    schedule = pretrain.Schedule(examples=1000, batch_size=10, rate=1.0, warm_up=0.2)
    rates = [schedule.rate_at(step) for step in range(schedule.steps)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[60] == pytest.approx(0.5)
    assert rates == sorted(rates[:20]) + sorted(rates[20:], reverse=True)
    assert 0 < rates[-1] < 1e-3


def test_gains_and_biases_do_not_decay() -> None:
    model = make_model()
    decay, free = pretrain.make_optimizer(model, SHORT).param_groups
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert (decay["weight_decay"], free["weight_decay"]) == (SHORT.weight_decay, 0)
    assert {name.rpartition(".")[2] for name in (names[p] for p in free["params"])} == {
        *("weight", "bias", "in_proj_bias", "class_embedding", "logit_scale")
    }
    assert all("ln_" in names[p] for p in free["params"] if names[p].endswith(".weight"))
    assert not any("ln_" in names[p] or "bias" in names[p] for p in decay["params"])
    assert len(decay["params"]) + len(free["params"]) == len(names)


def test_all_of_both_towers_is_trained_and_nothing_is_dropped() -> None:
    model = make_model().train()
    pixels, tokens = pretrain.reader(TINY)(scenes.Scenes(8), range(8))
    first, second = model.loss(pixels, tokens), model.loss(pixels, tokens)
    assert first.item() == second.item()
    first.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    last = 1 + (tokens == get_tokenizer().end_id).int().argmax(dim=1).max()
    assert not model.text.positional_embedding.grad[last:].any()  # nothing is learned from padding


def test_the_initial_weights_are_as_wide_as_openai_draws_them() -> None:
    sizes = pretrain.Sizes(text_width=128, text_layers=3)
    tower = make_model(sizes).text
    block = tower.transformer.resblocks[2]
    for weight, std in (
        (tower.token_embedding.weight, 0.02),
        (tower.positional_embedding, 0.01),
        (block.attn.in_proj_weight, 128**-0.5),
        (block.attn.out_proj.weight, 128**-0.5 * 6**-0.5),
        (block.mlp.c_fc.weight, 256**-0.5),
        (block.mlp.c_proj.weight, 128**-0.5 * 6**-0.5),
        (tower.text_projection, 128**-0.5),
    ):
        assert weight.std().item() == pytest.approx(std, rel=0.05)


def test_loss_falls_and_images_find_their_texts(trained: tuple[pretrain.Clip, list[pretrain.Row]]) -> None:
    model, rows = trained
    assert [row["pairs"] for row in rows] == [0, 384, 768, 1152, 1536]
    # Of 24 pairs in four colours the best guess finds one of six that look the same.
    assert rows[1]["loss"] > rows[-1]["loss"]
    assert rows[-1]["loss"] < math.log(6) + 0.3
    pixels, tokens = pretrain.reader(TINY)(Coloured(4, seed=1), range(4))
    with torch.no_grad():
        assert pretrain.retrieval(model.scores(pixels, tokens))["image→text R@1"] == 100


def test_the_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    schedule = dataclasses.replace(SHORT, examples=10 * 24)
    first, again, other = make_model(), make_model(), make_model(seed=1)
    losses = [[row["loss"] for row in run(model, schedule)[1:]] for model in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_each_pass_shows_every_pair_once_in_an_order_of_its_own() -> None:
    def read(pairs: Any, rows: Any) -> Any:
        return rows, None

    schedule = pretrain.Schedule(examples=24, batch_size=3, seed=5)
    rows = [row for part, _ in pretrain.batches(range(12), schedule, read) for row in part]
    assert sorted(rows[:12]) == sorted(rows[12:]) == list(range(12))
    assert rows[:12] != rows[12:]
    later = [row for part, _ in pretrain.batches(range(12), schedule, read, first=6, workers=3) for row in part]
    assert later == rows[18:]
    with pytest.raises(SystemExit, match="2 pairs are less than a batch of 3"):
        next(pretrain.batches(range(2), schedule, read))


def test_a_run_that_was_cut_off_ends_where_it_would_have(tmp_path: Path) -> None:
    schedule, state_file = dataclasses.replace(SHORT, examples=12 * 24), tmp_path / "training.pt"
    whole, cut, resumed = make_model(), make_model(), make_model(seed=3)
    rows = run(whole, schedule)
    steps = pretrain.train(
        cut, Coloured(240), schedule, pretrain.reader(TINY), evaluate=dict, evaluations=4, state_file=state_file
    )
    assert [next(steps)["pairs"] for _ in range(3)] == [0, 72, 144]
    steps.close()
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]
    again = run(resumed, schedule, state_file=state_file)
    assert [(row["pairs"], row["loss"]) for row in again[1:]] == [(row["pairs"], row["loss"]) for row in rows[1:]]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    with pytest.raises(SystemExit, match=r"training\.pt is of a run with"):
        run(make_model(), dataclasses.replace(schedule, rate=1.0), state_file=state_file)


def test_retrieval_counts_both_ways_and_ties_as_misses() -> None:
    scores = torch.eye(10)
    assert pretrain.retrieval(scores) == {
        **{"image→text R@1": 100, "image→text R@5": 100, "text→image R@1": 100, "text→image R@5": 100}
    }
    scores[0, 1] = 2  # text 1 looks more like image 0 than its own does; image 0 is first for text 1 too
    assert pretrain.retrieval(scores) == pytest.approx(
        {"image→text R@1": 90, "image→text R@5": 100, "text→image R@1": 90, "text→image R@5": 100}
    )
    for nothing in (torch.zeros(10, 10), torch.full((10, 10), math.nan)):
        assert set(pretrain.retrieval(nothing).values()) == {0}


# ------------------------------------------------------------------------------------------------- the checkpoint


def test_the_checkpoint_gives_the_embeddings_of_the_trained_network(
    checkpoint: Path, trained: tuple[pretrain.Clip, Any]
) -> None:
    model = trained[0]
    encoder = zeroshot.load(checkpoint, device="cpu")
    images, captions = zip(*(scenes.Scenes(20)[i] for i in range(20)), strict=True)
    pixels, tokens = pretrain.reader(TINY)(list(zip(images, captions, strict=True)), range(20))
    with torch.no_grad():
        assert (encoder.encode_images(images) - model.embed_images(pixels)).abs().max() < 1e-5
        assert (encoder.encode_texts(captions) - model.embed_texts(tokens)).abs().max() < 1e-5
        assert (encoder.encode_images(images) - model.embed_images(pixels + 0.05)).abs().max() > 1e-4
    assert encoder.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-6)
    assert sorted(path.name for path in checkpoint.iterdir()) == [
        *("open_clip_config.json", "open_clip_model.safetensors")
    ]


def test_it_classifies(checkpoint: Path) -> None:
    classifier = zeroshot.Classifier(COLOURS, model=checkpoint, prompts="a photo of a {} circle.")
    pairs = Coloured(40, seed=9)
    found = [prediction.label for prediction in classifier([pairs[i][0] for i in range(40)])]
    right = sum(label == COLOURS[i % 4] for i, label in enumerate(found))
    assert right > 20  # ten by chance


def test_an_interrupted_save_leaves_no_half_of_a_checkpoint(
    checkpoint: Path, trained: tuple[pretrain.Clip, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(state: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    pretrain.save_checkpoint(make_model(), TINY, tmp_path)  # of an earlier run, which must not seem to be the new one
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain.save_checkpoint(trained[0], TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["open_clip_config.json"]
    with pytest.raises(zeroshot.ZeroShotError):
        zeroshot.load(tmp_path)
    pretrain.save_checkpoint(trained[0], TINY, tmp_path)
    assert zeroshot.load(tmp_path).fingerprint == zeroshot.load(checkpoint).fingerprint


OPTIONS = "--examples 96 --batch-size 24 --test 20 --image-width 32 --text-width 32 --image-layers 1 --text-layers 1"


def test_the_script_prints_its_table_and_classifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["pretrain.py", "--out", str(out), "--device", "cpu", *OPTIONS.split()])
    pretrain.main()
    printed = capsys.readouterr().out
    assert printed.startswith("| pairs | seconds | processor | loss | scale | image→text R@1 |")
    assert "\n| 96 | " in printed
    assert "Of 20 pairs chance puts 5% first, and 25% among the first five." in printed
    assert "Zero-shot among 100 classes, new pairings: " in printed
    assert sorted(path.name for path in out.iterdir()) == ["open_clip_config.json", "open_clip_model.safetensors"]


def test_the_script_takes_pairs_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = Coloured(60)
    for number in range(60):
        pairs[number][0].save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(pairs[number][1], encoding="utf-8")
    command = ["pretrain.py", "--out", str(tmp_path / "out"), "--data", str(tmp_path), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*command, *OPTIONS.split()])
    pretrain.main()
    printed = capsys.readouterr().out
    assert "new pairings" not in printed
    assert "Zero-shot" not in printed  # what is in the pictures is not known here
    assert zeroshot.load(tmp_path / "out", device="cpu").encode_texts(["a red circle"]).shape == (1, 96)
    monkeypatch.setattr(sys, "argv", [*command, *OPTIONS.split(), "--test", "50"])
    with pytest.raises(SystemExit, match="10 pairs are less than a batch of 24"):
        pretrain.main()


@pytest.mark.full_size  # a minute
def test_retrieval_rises_far_above_chance() -> None:
    sizes, schedule = pretrain.Sizes(), pretrain.Schedule(examples=12_800)
    read, model = pretrain.reader(sizes), make_model(sizes)
    tests = [read(scenes.Scenes(500, seed=1, pairings=pairings), range(500)) for pairings in ("familiar", "new")]
    rows = list(pretrain.train(model, scenes.Scenes(schedule.examples), schedule, read, evaluate=dict, evaluations=2))
    assert rows[-1]["loss"] < rows[-2]["loss"]
    with torch.no_grad():
        for batch in tests:
            found = pretrain.retrieval(model.scores(*batch))
            assert min(found["image→text R@1"], found["text→image R@1"]) > 10 * 100 / 500


# ------------------------------------------------------------------------------------------------------- the pairs


def test_scenes_are_the_same_each_time_and_others_with_another_seed() -> None:
    first, again, other = scenes.Scenes(5), scenes.Scenes(5), scenes.Scenes(5, seed=1)
    assert len(first) == 5
    for i in range(5):
        assert first[i][1] == again[i][1] != other[i][1]
        assert first[i][0].tobytes() == again[i][0].tobytes()
        assert first[i][0].size == (scenes.IMAGE_SIZE, scenes.IMAGE_SIZE)
    with pytest.raises(IndexError):
        first[5]
    assert len({scenes.Scenes(300)[i][1] for i in range(300)}) > 290


def test_captions_are_true() -> None:
    rng = random.Random(0)
    for _ in range(300):
        scene = scenes.draw_lots(rng)
        caption = scenes.describe(scene, rng)
        for kind, cells in scene.kinds:
            assert f"{kind.colour} {kind.shape}" in caption
            assert kind.texture == "plain" or caption.count(kind.texture) <= 3
            number = f"{scenes.NUMBERS.get(len(cells), 'a')}"
            assert number in caption
        if " background" in caption:
            assert any(name in caption for name in scenes.SYNONYMS.get(scene.background, (scene.background,)))
        for relation, axis, sign in (("left of", 1, -1), ("right of", 1, 1), ("above", 0, -1), ("below", 0, 1)):
            if relation in caption:
                (first, (cell,)), (second, (other,)) = scene.kinds
                before, after = caption.split(relation)
                assert f"{first.colour} {first.shape}" in before
                assert f"{second.colour} {second.shape}" in after
                assert (divmod(cell, 3)[axis] - divmod(other, 3)[axis]) * sign > 0


def test_new_pairings_are_never_seen_in_training() -> None:
    new = {f"{colour} {shape}" for colour, shape in scenes.PAIRINGS["new"]}
    assert len(new) == 10
    assert len(set(scenes.PAIRINGS["familiar"]) | set(scenes.PAIRINGS["new"])) == 100
    for pairings, expected in (("familiar", 0), ("new", 1)):
        pairs = scenes.Scenes(200, pairings=pairings)
        for i in range(200):
            caption = pairs[i][1]
            assert sum(name in caption for name in new) == expected, caption


def test_every_shape_looks_different() -> None:
    def look(shape: str) -> bytes:
        return scenes.portrait(random.Random(0), "red", shape, patterns=["plain"], textures=["plain"]).tobytes()

    assert len({look(shape) for shape in scenes.SHAPES}) == 10
    with pytest.raises(ValueError, match="shape is 'blob'"):
        look("blob")


def test_pairs_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    names = ("a.png", "b.jpg", "below/c.png")
    for number, name in enumerate(names):
        scenes.Scenes(3)[number][0].save(tmp_path / name)
        (tmp_path / name).with_suffix(".txt").write_text(f"caption {number}\n", encoding="utf-8")
    scenes.Scenes(3)[0][0].save(tmp_path / "without.png")
    (tmp_path / "notes.txt").write_text("no image of this name", encoding="utf-8")
    rows = "".join(f'{name},"caption {number}"\n' for number, name in enumerate(names))
    (tmp_path / "pairs.csv").write_text("image,caption\n" + rows, encoding="utf-8")
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for path in sorted(tmp_path.rglob("*")):
            if path.suffix != ".tar":
                archive.add(path, arcname=str(path.relative_to(tmp_path)), recursive=False)
    expected = [(path, f"caption {number}") for number, path in enumerate(tmp_path / name for name in names)]
    assert read_pairs(tmp_path) == read_pairs(tmp_path / "pairs.csv") == expected
    assert read_pairs(tmp_path / "shard.tar") == [(path.read_bytes(), caption) for path, caption in expected]
    pixels, tokens = pretrain.reader(TINY)(read_pairs(tmp_path / "shard.tar"), range(3))
    assert pixels.shape == (3, 3, 48, 48)
    assert tokens.shape == (3, TINY.context)


def test_pairs_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no pairs in .*; expected images with a text file"):
        read_pairs(tmp_path)
    (tmp_path / "table.csv").write_text("file,text\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"\['file', 'text'\]; expected 'image' and 'caption'"):
        read_pairs(tmp_path / "table.csv")
    with pytest.raises(SystemExit, match=r"neither \.csv nor \.tar"):
        read_pairs(tmp_path / "pairs.json")


# ------------------------------------------------------------------------------------------------------- Figure 2


@pytest.fixture(scope="module")
def batch() -> pretrain.Batch:
    return pretrain.reader(TINY)(scenes.Scenes(6), range(6))


@pytest.mark.parametrize("name", ["caption prediction", "bag of words prediction", "bag of words contrastive", "CLIP"])
def test_every_objective_trains_the_image_tower(name: str, batch: pretrain.Batch) -> None:
    torch.manual_seed(0)
    model: Any = figure_2.objectives(TINY, scenes.Scenes(50))[name]()
    model.loss(*batch).backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.vision.parameters())
    optimizer = pretrain.make_optimizer(model, SHORT)
    before = model.loss(*batch).item()
    for _ in range(5):
        optimizer.zero_grad()
        model.loss(*batch).backward()
        optimizer.step()
    assert model.loss(*batch).item() < before
    with torch.no_grad():
        assert model.scores(*batch).shape == (6, 6)


def test_likelihood_of_a_caption_is_that_of_its_words_one_by_one(batch: pretrain.Batch) -> None:
    torch.manual_seed(0)
    model: Any = figure_2.objectives(TINY, scenes.Scenes(50))["caption prediction"]()
    pixels, tokens = batch
    words = model.words.tolist()
    with torch.no_grad():
        scores = model.scores(pixels, tokens)
        image = model.image_token(model.vision(pixels[2:3]))  # (1, width)
        ids = tokens[4][: int((tokens[4] == get_tokenizer().end_id).nonzero()) + 1].tolist()
        expected = 0.0
        for position in range(1, len(ids)):  # each word from those before it alone
            x = torch.cat([image, model.text.token_embedding(torch.tensor(ids[1:position], dtype=torch.int64))])[None]
            x = model.text.transformer(x + model.text.positional_embedding[:position], causal=True)
            log_p = model.output(model.text.ln_final(x))[0, -1].log_softmax(dim=-1)
            expected += log_p[words.index(ids[position])].item()
        assert scores[2, 4].item() == pytest.approx(expected, abs=1e-3)
        count = sum((row == get_tokenizer().end_id).int().argmax() for row in tokens)
        assert model.loss(pixels, tokens).item() == pytest.approx(-(scores.diag().sum() / count).item(), rel=1e-5)


def test_bags_know_words_but_no_order_and_no_padding() -> None:
    tower = figure_2.BagOfWords(16, 8)
    tokens = torch.from_numpy(get_tokenizer().tokenize(["red star, blue ring", "blue star, red ring"], context=12))
    longer = torch.from_numpy(get_tokenizer().tokenize(["red star, blue ring", "red star"], context=20))
    with torch.no_grad():
        first, second = tower(tokens)
        assert torch.allclose(first, second, atol=1e-7)
        assert torch.allclose(tower(longer)[0], first, atol=1e-7)
        assert not torch.allclose(tower(longer)[1], first, atol=1e-4)


def test_pairs_until_an_accuracy() -> None:
    rows = [{"pairs": pairs, "accuracy": accuracy} for pairs, accuracy in ((0, 1), (100, 5), (200, 4), (300, 14))]
    assert figure_2.pairs_until(rows, 3) == 50
    assert figure_2.pairs_until(rows, 9) == 250
    assert figure_2.pairs_until(rows, 15) == math.inf


def test_the_comparison_runs_is_kept_and_drawn(tmp_path: Path) -> None:
    schedule = pretrain.Schedule(examples=80, batch_size=8)
    results = figure_2.compare(schedule, TINY, tmp_path, images=3, evaluations=1)
    assert len(results) == 4
    assert all(rows[-1]["pairs"] == 80 and 0 <= rows[-1]["accuracy"] <= 100 for rows in results.values())
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(stamps) == 4  # no states of training are left
    assert str(figure_2.compare(schedule, TINY, tmp_path, images=3, evaluations=1)) == str(results)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == stamps


def test_figures_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curve = [{"pairs": 10.0 * step, "accuracy": step**2} for step in range(5)]
    figure_2.plot({"CLIP": curve, "another": curve[:3]}, tmp_path / "figure_2.png")
    wise_ft.plot([{"alpha": i / 10, "target": 50.0 + i, "shift": 40 - i} for i in range(11)], tmp_path / "wise_ft.png")
    assert all(5_000 < path.stat().st_size < 60_000 for path in tmp_path.iterdir())


# -------------------------------------------------------------------------------------------------------- WiSE-FT


def test_fine_tuning_starts_at_the_zero_shot_classifier(checkpoint: Path) -> None:
    encoder = zeroshot.load(checkpoint, device="cpu")
    head = zeroshot.build_head(encoder, COLOURS, prompts="a photo of a {} circle.", cache=False)
    images = [Coloured(6)[i][0] for i in range(6)]
    pixels = torch.from_numpy(np.stack([encoder.preprocess(image) for image in images]))
    with torch.no_grad():
        ours = wise_ft.Classifier(encoder, head)(pixels).softmax(dim=-1)
    expected = zeroshot.Classifier.from_head(head, model=encoder).predict_proba(images)
    assert np.abs(ours.numpy() - expected).max() < 1e-5
    assert not any(parameter.requires_grad for parameter in encoder.vision.parameters())


def test_weights_are_interpolated() -> None:
    start, end = nn.Linear(3, 2), nn.Linear(3, 2)
    kept = start.weight.clone(), end.weight.clone()
    for alpha, expected in ((0, start.weight), (1, end.weight), (0.25, 0.75 * start.weight + 0.25 * end.weight)):
        assert torch.allclose(wise_ft.interpolate(start, end, alpha).weight, expected, atol=1e-7)
    assert torch.equal(start.weight, kept[0])
    assert torch.equal(end.weight, kept[1])


def test_fine_tuning_learns_its_target_and_leaves_the_start_as_it_was(checkpoint: Path) -> None:
    encoder = zeroshot.load(checkpoint, device="cpu")
    torch.manual_seed(0)
    weight = nn.functional.normalize(torch.randn(4, encoder.dim), dim=-1)
    head = zeroshot.Head(weight, COLOURS, logit_scale=14.0, logit_bias=None, model="random", fingerprint="")
    start = wise_ft.Classifier(encoder, head)
    kept = [parameter.clone() for parameter in start.parameters()]
    pairs = Coloured(80, seed=4)
    pixels = torch.from_numpy(np.stack([encoder.preprocess(pairs[i][0]) for i in range(80)]))
    targets = torch.arange(80) % 4
    end = wise_ft.fine_tune(start, pixels, targets, pretrain.Schedule(examples=400, batch_size=20, rate=3e-3))
    assert wise_ft.accuracy(end, pixels, targets) > max(wise_ft.accuracy(start, pixels, targets) + 20, 75)
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), kept, strict=True))


def test_the_curve_from_zero_shot_to_fine_tuned(checkpoint: Path) -> None:
    schedule = pretrain.Schedule(examples=50, batch_size=25, rate=1e-3)
    rows = wise_ft.run(zeroshot.load(checkpoint, device="cpu"), schedule, train_images=50, test_images=40)
    assert [row["alpha"] for row in rows] == pytest.approx([step / 10 for step in range(11)])
    assert all(0 <= row[name] <= 100 for row in rows for name in ("target", "shift"))


# -------------------------------------------------------------------------------------------------------- the page


def test_the_page_names_files_and_options_that_are_there() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"!\[.*\]\((.*)\)", page):
        assert (FOLDER / name).stat().st_size < 60_000
    commands = re.findall(r"examples/contrastive_pretraining/(\w+\.py)((?:.*\\\n)*.*)", page)
    assert {name for name, _ in commands} == {"pretrain.py", "figure_2.py", "wise_ft.py"}
    for name, options in commands:
        script = (FOLDER / name).read_text(encoding="utf-8")
        fields = {field.name for cls in (pretrain.Sizes, pretrain.Schedule) for field in dataclasses.fields(cls)}
        for option in re.findall(r"--([a-z-]+)", options):
            assert f'"--{option}"' in script or (name == "pretrain.py" and option.replace("-", "_") in fields)
