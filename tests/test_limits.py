"""Verdicts on drawn sets are those of exact tests."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats  # type: ignore[import-untyped]
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroshot.errors import OptionError
from zeroshot.limits import (
    ABOVE,
    BELOW,
    CHANCE,
    LIMITS,
    binomial_tail,
    clopper_pearson,
    find_limits,
)


class Oracle:
    """An encoder that knows the pictures: it says the right class, moved on by so many classes, or always the first."""

    name, dim, logit_scale, logit_bias, fingerprint = "oracle", 64, 50.0, None, "oracle"
    device = torch.device("cpu")

    def __init__(self, per_class: int, *, moved: int = 0, constant: bool = False, names: Sequence[str] = ()) -> None:
        self.answers: dict[bytes, str] = {}
        for limit in (LIMITS[name] for name in names):
            for image, target in zip(*limit.images(per_class), strict=True):
                said = 0 if constant else (target + moved) % len(limit.labels)
                self.answers[image.tobytes()] = limit.prompts[said]

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        rows = [np.random.default_rng(list(text.encode())).normal(size=self.dim) for text in texts]
        return torch.from_numpy(np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32))

    def encode_images(self, images: Any) -> torch.Tensor:
        return self.encode_texts([self.answers[image.tobytes()] for image in images])


# --------------------------------------------------------------------------------------------------------- statistics


@settings(max_examples=60)
@given(st.integers(1, 300), st.floats(0, 1), st.floats(0.01, 0.99))
def test_exact_tests_are_scipys(trials: int, part: float, share: float) -> None:
    successes = round(part * trials)
    expected = scipy.stats.binomtest(successes, trials, share, alternative="greater")
    assert binomial_tail(successes, trials, share) == pytest.approx(expected.pvalue, rel=1e-8, abs=1e-14)
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_the_interval_covers() -> None:
    # By the binomial distribution itself, not by simulation: at least 95% whatever the truth.
    for share in (0.05, 0.17, 0.5, 0.9):
        covered = 0.0
        for successes in range(41):
            low, high = clopper_pearson(successes, 40)
            chance = math.comb(40, successes) * share**successes * (1 - share) ** (40 - successes)
            covered += chance * (low <= share <= high)
        assert 0.95 <= covered < 1


# ------------------------------------------------------------------------------------------------------------ verdicts


@pytest.mark.parametrize("name", LIMITS)
def test_an_encoder_that_knows_is_above_chance_and_one_that_is_wrong_below(name: str) -> None:
    limit = LIMITS[name]
    right = find_limits(Oracle(6, names=[name]), sets=[name], per_class=6).results[0]
    assert (right.accuracy, right.verdict) == (1.0, ABOVE)
    assert right.n_images == 6 * len(limit.labels)
    assert right.chance == 1 / len(limit.labels)
    assert right.interval[1] == 1.0
    assert right.p_value < 0.001
    assert right.favourite_share == pytest.approx(right.chance)
    wrong = find_limits(Oracle(20, moved=1, names=[name]), sets=[name], per_class=20).results[0]
    assert (wrong.accuracy, wrong.verdict) == (0.0, BELOW)


def test_an_encoder_that_always_says_the_same_is_at_chance() -> None:
    found = find_limits(Oracle(5, constant=True, names=["counting"]), sets=["counting"], per_class=5).results[0]
    assert (found.accuracy, found.verdict) == (pytest.approx(1 / 6), CHANCE)
    assert (found.favourite, found.favourite_share) == ("one", 1.0)


def test_one_picture_said_differently_changes_the_figure() -> None:
    oracle = Oracle(5, names=["left_right"])
    key = LIMITS["left_right"].image(0, 3).tobytes()
    oracle.answers[key] = LIMITS["left_right"].prompts[1]
    assert find_limits(oracle, sets=["left_right"], per_class=5).results[0].accuracy == pytest.approx(0.9)


def test_sets_of_photographs() -> None:
    things = {name: f"examples/images/{name.split()[-1]}.jpg" for name in ("a cat", "a rocket", "a clock")}
    found = find_limits("mini", sets=["shapes"], photographs=things, per_class=4)
    assert [one.limit.name for one in found.results][1] == "photographs"
    assert found.results[1].verdict == ABOVE


def test_mini_on_drawings() -> None:
    # It knows photographs alone, and its card says that it cannot count.
    found = find_limits("mini", sets=["counting"], per_class=4)
    assert found.results[0].verdict == CHANCE
    assert found.model == "mini"


# ------------------------------------------------------------------------------------------------------------- showing


def test_the_table_the_page_and_the_dictionary(tmp_path: Path) -> None:
    names = ["colours", "left_right"]
    found = find_limits(Oracle(5, constant=True, names=names), sets=names, per_class=5)
    lines = str(found).splitlines()
    assert lines[2].split() == [
        "set",
        "classes",
        "images",
        "accuracy",
        "95%",
        "chance",
        "verdict",
        "says",
        "most",
        "often",
    ]
    assert "50.0%  no better than chance  'circle left', 100%" in lines[4]
    assert "A control failed (Colours)" in lines[-1]
    data = json.loads(json.dumps(found.to_dict()))
    assert data["sets"][1]["interval"] == list(found.results[1].interval)
    assert data["sets"][1]["prompts"][0] == "a circle to the left of a square."
    markdown = found.markdown()
    assert markdown.count("\n|") == 4
    assert "- **Colours** (a control): Which colour has the shape?" in markdown
    found.save_html(tmp_path / "limits.html", pictures=2)
    page = (tmp_path / "limits.html").read_text(encoding="utf-8")
    assert page.count("<img src=") == 2 * (6 + 2)
    assert "a circle to the left of a square." in page
    assert "<td>no better than chance</td>" in found._repr_html_()


def test_mistakes_are_told() -> None:
    with pytest.raises(OptionError, match=r"sets are \['telling time'\]; expected some of colours, shapes, counting"):
        find_limits("mini", sets=["telling time"])
    with pytest.raises(OptionError, match="per_class is 0"):
        find_limits("mini", per_class=0)
    with pytest.raises(OptionError, match="expected some of"):
        find_limits("mini", sets=[])
