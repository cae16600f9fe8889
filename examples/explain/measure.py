"""Do the heat maps of `mini` show what it goes by? The deletion and insertion tests, and where the heat is.

    apt-get download tuxpaint-stamps-default && dpkg -x tuxpaint-stamps-default_*.deb stamps
    pip download --no-deps scikit-image && unzip scikit_image-*.whl 'skimage/data/*'
    python examples/explain/measure.py stamps/usr/share/tuxpaint/stamps skimage/data --json measured.json

The pictures are the four example photographs, the two of scikit-learn, and 24 photographs of things, cut out by the
authors of Tux Paint's stamps, which are put somewhere on scikit-image's photographs of grass, gravel and bricks. Of the
latter it is known which pixels are the thing's. For `compare.py` there are another 30 photographs, of animals and
monuments, which come with GCompris:

    apt-get download gcompris-qt-data && dpkg -x gcompris-qt-data_*.deb gcompris
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import zeroshot
from zeroshot.faithfulness import Faithfulness, evaluate_maps

PHOTOGRAPHS = {"cat": "cat", "clock": "clock", "coffee": "cup of coffee", "rocket": "rocket"}
SAMPLES = {"china": "temple", "flower": "flower"}  # scikit-learn's
STAMPS = {  # things that ImageNet has a class for
    "animals/marsupials/koala": "koala",
    "animals/mammals/rodents/squirrel": "squirrel",
    "animals/mammals/equines/zebra": "zebra",
    "animals/mammals/elephant": "elephant",
    "animals/mammals/hippopotamus": "hippopotamus",
    "animals/mammals/cats/tiger": "tiger",
    "animals/mammals/cats/lion": "lion",
    "animals/birds/penguin": "penguin",
    "animals/birds/peacock": "peacock",
    "animals/birds/pelican": "pelican",
    "animals/birds/ostrich": "ostrich",
    "animals/birds/pink_flamingo": "flamingo",
    "animals/fish/lobster": "lobster",
    "animals/lizards/iguana": "iguana",
    "food/fruit/pineapple": "pineapple",
    "food/fruit/banana": "banana",
    "food/fruit/strawberry": "strawberry",
    "food/fruit/lemon": "lemon",
    "food/vegetables/broccoli": "broccoli",
    "food/vegetables/mushroom": "mushroom",
    "household/dishes/teapot": "teapot",
    "household/tools/hammer": "hammer",
    "vehicles/emergency/firetruck": "fire engine",
    "vehicles/wheel_tractor": "tractor",
}
TEXTURES = {"grass": "grass", "gravel": "gravel", "brick": "brick wall"}
LABELS = [*PHOTOGRAPHS.values(), *SAMPLES.values(), *STAMPS.values(), *TEXTURES.values()]
ANIMALS = {  # GCompris: all that its two activities about animals show
    "farm_animals": ["cat", "chicken", "cow", "dog", "duck", "horse", "owl", "pig", "sheep"],
    "world_animals": [
        *("bison", "chameleon", "crocodile", "dragon", "giraffe", "hedgehog", "jaguar", "kangaroo", "koala", "lemur"),
        *("moose", "narwhal", "panda", "polar_bear", "scarlet_macaw"),
    ],
}
MONUMENTS = {  # GCompris: one for each class of buildings that ImageNet has
    "germany/neuschwansteinCastle": "castle",
    "france/reimsCathedral": "church",
    "wonders/tajMahal": "mosque",
    "germany/brandenburgGate": "triumphal arch",
    "france/pontduGard": "aqueduct",
    "india/mysorePalace": "palace",
}
NAMES = {"chicken": "hen", "dragon": "Komodo dragon", "polar_bear": "polar bear", "scarlet_macaw": "macaw"}
MORE = [NAMES.get(name, name) for names in ANIMALS.values() for name in names] + [*MONUMENTS.values()]
SIDE, THING = 512, 230  # pixels of the background, and of a thing's longer side


def photographs() -> list[Image.Image]:
    """Return the whole photographs, in the order of their labels."""
    from sklearn.datasets import load_sample_image

    folder = Path(__file__).parents[1] / "images"
    images = [Image.open(folder / f"{name}.jpg").convert("RGB") for name in PHOTOGRAPHS]
    return images + [Image.fromarray(load_sample_image(f"{name}.jpg")) for name in SAMPLES]


def scenes(stamps: Path, textures: Path, *, seed: int = 0) -> list[tuple[Image.Image, npt.NDArray[np.bool_]]]:
    """Return each thing somewhere on a background, and its pixels: (height, width) bool."""
    rng = np.random.default_rng(seed)
    found = []
    for position, name in enumerate(STAMPS):
        texture = list(TEXTURES)[position % len(TEXTURES)]
        picture = Image.open(textures / f"{texture}.png").convert("RGB").resize((SIDE, SIDE))
        thing = Image.open(stamps / f"{name}.png").convert("RGBA")
        thing = thing.crop(thing.getchannel("A").getbbox())
        thing.thumbnail((THING, THING))
        place = tuple(int(rng.integers(SIDE - length + 1)) for length in thing.size)
        picture.paste(thing, place, thing)
        alpha = Image.new("L", picture.size)
        alpha.paste(thing.getchannel("A"), place)
        found.append((picture, np.asarray(alpha) > 127))
    return found


def gcompris(folder: Path) -> list[Image.Image]:
    """Return the photographs of animals and monuments, in the order of `MORE`."""
    wanted = [(f"explore_{kind}", f"animals/{name}") for kind, names in ANIMALS.items() for name in names]
    wanted += [("explore_monuments", name) for name in MONUMENTS]
    files = {activity: dict(resources(folder / f"{activity}.rcc")) for activity, _ in wanted}
    blobs = [files[activity][f"/gcompris/src/activities/{activity}/resource/{name}.webp"] for activity, name in wanted]
    return [Image.open(io.BytesIO(blob)).convert("RGB") for blob in blobs]


def resources(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of one of Qt's resource archives, and where each would be."""
    data = path.read_bytes()
    version, tree, contents, names = struct.unpack(">4x4I", data[:20])
    size = 22 if version > 1 else 14  # of an entry

    def walk(index: int, place: str) -> Iterator[tuple[str, bytes]]:
        entry = tree + size * index
        name, flags, first, second = struct.unpack(">IHII", data[entry : entry + 14])
        if index:
            (length,) = struct.unpack(">H", data[names + name : names + name + 2])
            place += "/" + data[names + name + 6 : names + name + 6 + 2 * length].decode("utf-16-be")
        if flags & 2:  # a folder
            for child in range(second, second + first):
                yield from walk(child, place)
        else:
            start = contents + second + 4
            (length,) = struct.unpack(">I", data[start - 4 : start])
            content = data[start : start + length]
            yield place, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def share_of_heat(explanation: object, mask: npt.NDArray[np.bool_]) -> float:
    """Return which part of the heat is on the thing."""
    heat = np.nan_to_num(explanation.map).clip(min=0)  # type: ignore[attr-defined]
    return float(heat[mask].sum() / heat.sum())


def join(parts: list[Faithfulness]) -> Faithfulness:
    """Return several results as one."""
    areas = [
        {kind: np.concatenate([getattr(part, test)[kind] for part in parts]) for kind in parts[0].deletion}
        for test in ("deletion", "insertion")
    ]
    labels = tuple(label for part in parts for label in part.labels)
    scores = np.concatenate([part.scores for part in parts])
    return replace(parts[0], deletion=areas[0], insertion=areas[1], labels=labels, scores=scores)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Deletion and insertion tests of heat maps.")
    parser.add_argument("stamps", type=Path, help="Tux Paint's folder of stamps")
    parser.add_argument("textures", type=Path, help="scikit-image's folder of pictures")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all numbers there, picture by picture")
    arguments = parser.parse_args()
    classifier = zeroshot.Classifier(LABELS, model=arguments.model, prompts="photo")
    pictures: list[tuple[Image.Image, npt.NDArray[np.bool_] | None]] = [(image, None) for image in photographs()]
    pictures += scenes(arguments.stamps, arguments.textures)
    parts, rows = [], []
    for position, (picture, mask) in enumerate(pictures):
        part = evaluate_maps(classifier, [picture], steps=arguments.steps, draws=arguments.draws, seed=position)
        parts.append(part)
        row = part.to_dict() | {"is": LABELS[position]}
        if mask is not None:
            explanation = classifier.explain(picture, position)
            peak = np.unravel_index(np.nanargmax(explanation.map), mask.shape)
            row |= {"area": float(mask.mean()), "heat": share_of_heat(explanation, mask), "peak": bool(mask[peak])}
        rows.append(row)
        print(f"{position + 1:>2} {LABELS[position]}: {part.labels[0]} {part.scores[0]:.1%}", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"\n{join(parts)}")
    things = [row for row in rows if "heat" in row]
    print(f"\nThe {len(things)} things cover {np.mean([row['area'] for row in things]):.1%} of their pictures;")
    print(
        f"{np.mean([row['heat'] for row in things]):.1%} of the heat for their names is on them, and the hottest pixel"
    )
    print(f"on {sum(row['peak'] for row in things)} of {len(things)}.")


if __name__ == "__main__":
    main()
