"""Labelled images from Hugging Face data sets: objects, saved folders, several labels, streams."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zeroshot
from zeroshot.errors import ImageError, OptionError
from zeroshot.image import open_image
from zeroshot.labelled import load_labelled

pytestmark = [pytest.mark.extra, pytest.mark.filterwarnings("default")]  # its warnings are its own
COLOURS = {"blue": (0, 0, 250), "green": (0, 250, 0), "red": (250, 0, 0)}
PHOTOGRAPHS = Path(__file__).parents[2] / "examples" / "images"


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return module


def colours(datasets: Any, label: Any, labels: list[Any]) -> Any:
    """Make a data set of three pictures."""
    features = datasets.Features({"image": datasets.Image(), "label": label})
    images = [Image.new("RGB", (8, 8), colour) for colour in COLOURS.values()]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


def shown(data: Any) -> list[str]:
    """Return the colours that the images really have."""
    pixels = [open_image(one.image() if callable(one.image) else one.image).getpixel((0, 0)) for one in data.items()]
    return [next(name for name, colour in COLOURS.items() if colour == pixel) for pixel in pixels]


def test_class_labels(datasets: Any, tmp_path: Path) -> None:
    dataset = colours(datasets, datasets.ClassLabel(names=["rose", "sea", "grass"]), [1, 2, 0])
    dataset.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": dataset.select([0]), "test": dataset}).save_to_disk(str(tmp_path / "parts"))
    for data in (
        load_labelled(dataset),
        load_labelled(tmp_path / "saved"),
        load_labelled(tmp_path / "parts", split="test"),
        load_labelled(datasets.DatasetDict({"test": dataset})),
        load_labelled(dataset.to_iterable_dataset()),
    ):
        assert (data.kind, data.classes, data.multi_label) == ("datasets", ("rose", "sea", "grass"), False)
        assert [one.target for one in data.items()] == [1, 2, 0]
        assert shown(data) == ["blue", "green", "red"]
    with pytest.raises(OptionError, match=r"has the splits 'train', 'test'; none was given"):
        load_labelled(tmp_path / "parts")
    with pytest.raises(OptionError, match="there is no 'val'"):
        load_labelled(tmp_path / "parts", split="val")
    with pytest.raises(ImageError, match=r"'datasets:.*' cannot be loaded"):
        load_labelled(f"datasets:{tmp_path / 'nowhere'}")


def test_names_numbers_and_several_labels(datasets: Any) -> None:
    text = load_labelled(colours(datasets, datasets.Value("string"), ["sea", "grass", "rose"]))
    assert (text.classes, [one.target for one in text.items()]) == (("grass", "rose", "sea"), [2, 0, 1])
    numbers = load_labelled(colours(datasets, datasets.Value("int64"), [0, 2, 1]))
    assert (numbers.classes, [one.target for one in numbers.items()]) == ((), [0, 2, 1])
    names = datasets.ClassLabel(names=["a", "b"])
    several = load_labelled(colours(datasets, datasets.Sequence(names), [[0, 1], [], [1]]))
    assert several.multi_label
    assert [one.target for one in several.items()] == [(0, 1), (), (1,)]


def test_pictures_stay_upright_and_a_broken_one_is_told_of(datasets: Any) -> None:
    # The library itself would hand out decoded pictures; ours are decoded as everywhere else.
    upright, file = Image.new("RGB", (20, 10), (0, 0, 250)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(file, "JPEG", exif=exif)
    cells = [{"bytes": file.getvalue(), "path": None}, {"bytes": b"no image", "path": None}]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    dataset = datasets.Dataset.from_dict({"image": cells, "label": ["blue", "red"]}, features=features)
    items = list(load_labelled(dataset).items())
    assert open_image(items[0].image()).size == (10, 20)
    with pytest.raises(ImageError):
        open_image(items[1].image())
    found = zeroshot.evaluate(dataset, model="mini")
    assert (found.n_images, len(found.failed)) == (1, 1)


def test_photographs_give_what_their_files_give(datasets: Any) -> None:
    names = ["cat", "clock", "coffee", "rocket"]
    files = [str(PHOTOGRAPHS / f"{name}.jpg") for name in names]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    dataset = datasets.Dataset.from_dict({"image": files, "label": [0, 1, 2, 3]}, features=features)
    ours, theirs = (zeroshot.evaluate(data, model="mini") for data in ((files, names), dataset))
    assert ours.metrics == theirs.metrics
    assert ours.ranked is not None
    assert theirs.ranked is not None
    np.testing.assert_array_equal(ours.ranked.confidence, theirs.ranked.confidence)
