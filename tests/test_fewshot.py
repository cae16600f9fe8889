"""Few-shot curves: the same draws for all methods, no test image in any of them, and what the curve says."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zeroshot import fewshot as fewshot_module
from zeroshot.errors import LabelError, OptionError
from zeroshot.fewshot import METHODS, FewShotCurve, _order, _split, few_shot
from zeroshot.head import build_head

LABELS = ["cat", "dog", "fox", "owl"]


class Scattered:
    """An encoder whose images lie around directions of their own, somewhat off the names of their classes."""

    def __init__(self, fake: Any, *, off: float = 1.0, spread: float = 0.35) -> None:
        self._fake, self._off, self._spread = fake, off, spread
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fake, name)

    def encode_images(self, images: Any) -> torch.Tensor:
        self.calls += 1
        rows = []
        for image in images:
            name = image.split()[0]
            row = self._fake.vector(f"a photo of a {name}.") + self._off * self._fake.vector(f"what {name}s look like")
            rows.append(row + self._spread * np.sqrt(8) * self._fake.vector(image))
        array = np.stack(rows) if rows else np.empty((0, 8))
        return torch.nn.functional.normalize(torch.from_numpy(np.float32(array)), dim=1)


@pytest.fixture
def scattered(fake: Any, monkeypatch: pytest.MonkeyPatch) -> Scattered:
    monkeypatch.setattr("zeroshot.stream.open_image", lambda image: image)  # its images are names
    return Scattered(fake)


def pictures(n: int) -> tuple[list[str], list[str]]:
    names = [LABELS[index % 4] for index in range(n)]
    return [f"{name} {index}" for index, name in enumerate(names)], names


# ------------------------------------------------------------------------------------------------------------- curves


def test_the_curve_rises_from_zero_shot(scattered: Scattered) -> None:
    curve = few_shot(scattered, *pictures(200), shots=[1, 4, 16], seeds=3)
    assert (curve.shots, curve.n_classes, curve.n_test, curve.seeds) == ((1, 4, 16), 4, 100, (0, 1, 2))
    assert set(curve.accuracies) == set(METHODS)
    assert all(values.shape == (3, 3) for values in curve.accuracies.values())
    assert 0.25 < curve.zero_shot < 0.9
    for method in METHODS:
        mean = curve.mean(method)
        assert mean[0] < mean[1] < mean[2] or mean[2] > 0.97
    assert curve.mean("from zero-shot")[0] >= curve.zero_shot - 0.02
    assert curve.mean("from zero-shot")[-1] > curve.zero_shot + 0.1


def test_zero_shot_is_that_of_the_classifier(scattered: Scattered) -> None:
    images, names = pictures(80)
    curve = few_shot(scattered, images, names, shots=[1], seeds=1, test=(images[40:], names[40:]))
    head = build_head(scattered, LABELS, cache=False)  # type: ignore[arg-type]
    scores = head.logits(scattered.encode_images(images[40:])).argmax(dim=1).tolist()
    assert curve.zero_shot == np.mean([LABELS[score] == name for score, name in zip(scores, names[40:], strict=True)])


def test_everything_follows_from_the_seeds(scattered: Scattered) -> None:
    first, again = (few_shot(scattered, *pictures(60), shots=[1, 2], seeds=2).to_dict() for _ in range(2))
    assert first == again
    rows = first["accuracies"]["from zero-shot"] + first["accuracies"]["linear probe"]
    assert len({tuple(row) for row in rows}) > 2


def test_images_are_embedded_once(scattered: Scattered) -> None:
    few_shot(scattered, *pictures(60), shots=[1, 2, 4], seeds=3, batch_size=100)
    assert scattered.calls == 1


def test_all_methods_get_the_same_shots_and_no_test_image(
    scattered: Scattered, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[set[bytes]]] = {"anchored": [], "plain": []}
    fit = fewshot_module.fit_probe

    def spy(encoder: Any, rows: Any, targets: Any, **options: Any) -> Any:
        seen["plain" if options["anchor"] is None else "anchored"].append({row.tobytes() for row in rows})
        assert len(rows) == len({row.tobytes() for row in rows}) == len(targets)
        assert len(set(np.bincount(targets))) == 1
        return fit(encoder, rows, targets, **options)

    monkeypatch.setattr(fewshot_module, "fit_probe", spy)
    images, names = pictures(60)
    few_shot(scattered, images, names, shots=[1, 2, 4], seeds=2)
    assert seen["plain"] == seen["anchored"]
    for draw in range(2):
        one, two, four = seen["plain"][3 * draw : 3 * draw + 3]
        assert one < two < four
        assert [len(each) for each in (one, two, four)] == [4, 8, 16]
    assert seen["plain"][2] != seen["plain"][5]
    _, held = _split(np.arange(60) % 4)
    rows = scattered.encode_images(images).numpy()
    assert not {rows[index].tobytes() for index in held} & set.union(*seen["plain"])


def test_halves_of_each_class_are_tested_on() -> None:
    targets = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 7, 1]))
    pool, held = _split(targets)
    assert sorted([*pool, *held]) == list(range(18))
    assert np.bincount(targets[held], minlength=3).tolist() == [5, 3, 0]
    assert sorted(_order(targets, 3)[targets == 1]) == list(range(7))


def test_by_default_shots_double_as_far_as_there_are_images(scattered: Scattered) -> None:
    assert few_shot(scattered, *pictures(44), seeds=1, methods=["linear probe"]).shots == (1, 2, 4)


def test_a_head_with_other_words_for_the_classes(scattered: Scattered) -> None:
    head = build_head(scattered, ["kitty", "hound", "vixen", "bird"], cache=False)  # type: ignore[arg-type]
    curve = few_shot(scattered, *pictures(60), classes=LABELS, head=head, shots=[1], seeds=1)
    assert curve.zero_shot < 0.7
    with pytest.raises(OptionError, match="head and prompts"):
        few_shot(scattered, *pictures(60), head=head, prompts="{}")
    with pytest.raises(LabelError, match="the head has 4 labels for 2 classes"):
        few_shot(scattered, ["cat 1", "dog 1"], ["cat", "dog"], head=head)


def test_features_are_what_linear_probes_read(clip: Any) -> None:
    rng = np.random.default_rng(0)
    images = [np.uint8(rng.integers(0, 255, (40, 40, 3)) // (1 + index % 2)) for index in range(24)]
    curve = few_shot(clip, images, ["light", "dark"] * 12, shots=[1, 4], seeds=2)
    assert curve.mean("linear probe")[-1] > 0.9
    plain = few_shot(clip, images, ["light", "dark"] * 12, shots=[4], seeds=1, space="embeddings")
    assert plain.accuracies["linear probe"].shape == (1, 1)


# ------------------------------------------------------------------------------------------------------------- result

CURVE = FewShotCurve(
    shots=(1, 2, 4),
    zero_shot=0.5,
    accuracies={
        "from zero-shot": np.array([[0.5, 0.6, 0.8], [0.6, 0.7, 0.8]]),
        "linear probe": np.array([[0.3] * 3] * 2),
    },
    seeds=(0, 1),
    n_test=100,
    n_classes=10,
    model="mini",
)


def test_means_and_spreads() -> None:
    np.testing.assert_allclose(CURVE.mean("from zero-shot"), [0.55, 0.65, 0.8])
    np.testing.assert_allclose(CURVE.spread("from zero-shot"), [0.1 / math.sqrt(2)] * 2 + [0])
    with pytest.raises(OptionError, match="method is 'probe'; expected one of 'from zero-shot', 'linear probe'"):
        CURVE.mean("probe")


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ([0.3, 0.4, 0.45], math.inf),
        ([0.6, 0.7, 0.8], 0.0),
        ([0.5, 0.7, 0.8], 1.0),
        ([0.4, 0.5, 0.8], 2.0),
        ([0.2, 0.4, 0.6], 2**1.5),
    ],
)
def test_shots_that_match_zero_shot(means: list[float], expected: float) -> None:
    curve = FewShotCurve((1, 2, 4), 0.5, {"linear probe": np.array([means])}, (0,), 10, 2, "mini")
    assert curve.shots_to_match("linear probe") == pytest.approx(expected)


def test_notebooks_show_the_table() -> None:
    shown = CURVE._repr_html_()
    assert "<p>mini, 10 classes, 100 test images, 2 draws of the shots</p>" in shown
    assert (
        "<tr><td>from zero-shot</td><td></td><td>55.0% ± 7.1</td><td>65.0% ± 7.1</td><td>80.0% ± 0.0</td></tr>" in shown
    )


def test_it_prints_a_table() -> None:
    assert str(CURVE) == (
        "mini, 10 classes, 100 test images, 2 draws of the shots\n"
        "\n"
        "shots a class        0             1             2             4\n"
        "zero-shot        50.0%\n"
        "from zero-shot           55.0% ± 7.1   65.0% ± 7.1   80.0% ± 0.0\n"
        "linear probe             30.0% ± 0.0   30.0% ± 0.0   30.0% ± 0.0"
    )


def test_it_becomes_json() -> None:
    told = json.loads(json.dumps(CURVE.to_dict()))
    assert told["accuracies"]["from zero-shot"] == [[0.5, 0.6, 0.8], [0.6, 0.7, 0.8]]
    assert (told["zero_shot"], told["shots"], told["model"]) == (0.5, [1, 2, 4], "mini")


def test_it_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (axes,) = CURVE.figure(title="digits").axes
    assert axes.get_title() == "digits"
    drawn = {line.get_label(): line.get_ydata() for line in axes.get_lines()}
    np.testing.assert_allclose(drawn["from zero-shot"], [55, 65, 80])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "4"]
    CURVE.save_figure(tmp_path / "curve.svg")
    assert "<svg" in (tmp_path / "curve.svg").read_text()


# ------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shots": [1, 32]}, OptionError, r"shots reach 32, and the class 'cat' has 8 images"),
        ({"shots": []}, OptionError, "shots is empty"),
        ({"shots": [0]}, OptionError, "shots is 0"),
        ({"seeds": 0}, OptionError, "seeds is 0"),
        ({"methods": ["coop"]}, OptionError, r"methods are \['coop'\]; expected some of 'from zero-shot'"),
        ({"methods": []}, OptionError, "expected some of"),
        ({"space": "pixels"}, OptionError, "space is 'pixels'"),
        ({"test": (["cat 1"], ["cat", "dog"])}, OptionError, "test images are 1, labels 2"),
        ({"classes": [*LABELS, "cow"]}, LabelError, "no image of the class 'cow'"),
    ],
)
def test_what_does_not_fit_is_told(
    scattered: Scattered, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        few_shot(scattered, *pictures(60), **options)


def test_images_and_labels_of_different_numbers(scattered: Scattered) -> None:
    with pytest.raises(OptionError, match="images are 3, labels 4"):
        few_shot(scattered, ["cat 1", "dog 1", "cat 2"], ["cat", "dog"] * 2)
    with pytest.raises(OptionError, match="an array was given"):
        few_shot(scattered, np.eye(8), ["cat", "dog"] * 4)


# ------------------------------------------------------------------------------------------- mini on real pictures


def example(name: str) -> Any:
    """Import a script of `examples/few_shot`."""
    path = Path(__file__).parents[1] / "examples" / "few_shot" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scripts_of_the_page_find_their_pictures() -> None:
    images, names = example("digits").digits(20)
    assert (len(images), sorted(set(names)), images[0].size) == (20, list("0123456789"), (64, 64))
    assert all(names.count(digit) == 2 for digit in "0123456789")
    images, names = example("photographs").pieces(2)
    assert (len(images), sorted(set(names))) == (8, ["cat", "clock", "cup of coffee", "rocket"])


@pytest.mark.extra
def test_mini_on_photographs_begins_at_zero_shot_and_rises() -> None:
    curve = few_shot("mini", *example("photographs").pieces(30), shots=[1, 4, 15], seeds=3)
    anchored = curve.mean("from zero-shot")
    assert curve.zero_shot > 0.85
    assert anchored[0] > curve.zero_shot - 1e-9  # the mean of equal numbers may round
    assert anchored[0] <= anchored[1] < anchored[2]


@pytest.mark.extra
def test_mini_on_scans_of_digits_rises_with_every_shot() -> None:
    curve = few_shot("mini", *example("digits").digits(200), prompts="mnist", shots=[1, 10], seeds=1)
    for method in METHODS:
        mean = curve.mean(method)
        assert curve.zero_shot <= mean[0] < mean[1]
    assert curve.mean("linear probe")[-1] > curve.zero_shot + 0.4
