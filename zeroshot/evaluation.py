"""How good a classifier is on labelled images: metrics with intervals, confusions, and what could not be measured.

An image that cannot be read, a label that is none, a class that no prompt names: each is reported, and what is left is
measured. The mathematics is in `zeroshot.metrics`, what shows and keeps the result in `zeroshot.evaluation_result`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL
import torch

import zeroshot.metrics as formulas
from zeroshot.classifier import Classifier, ModelLike
from zeroshot.clip import Precision
from zeroshot.embeddings import Embeddings
from zeroshot.encoder import is_approximate
from zeroshot.errors import HeadError, ImageError, LabelError, OptionError, check_positive, levels_to_caller
from zeroshot.evaluation_result import EXAMPLES, images_in_words, number_or_none
from zeroshot.evaluation_result import ClassResult as ClassResult
from zeroshot.evaluation_result import Evaluation as Evaluation
from zeroshot.evaluation_result import Failure as Failure
from zeroshot.evaluation_result import LeftOut as LeftOut
from zeroshot.head import Head
from zeroshot.labelled import LabelledLike, load_labelled
from zeroshot.labelled_images import (
    LabelledBatch,
    LabelledImages,
    LabelledItem,
    Target,
    data_digest,
    embed_labelled,
)
from zeroshot.matching import Match, Matching, differing_pairs, match_classes, some_names, some_pairs
from zeroshot.metrics import Estimate, Ranked, estimate
from zeroshot.progress import progress_bar
from zeroshot.prompts import METRICS, Labels, LabelsLike, PromptSet, PromptsLike, as_prompt_set, parse_labels
from zeroshot.registry import DEFAULT_MODEL

DATA = "data"  # as `labels`: the names that the data has
# Metrics that need the score of every class, not only the order around the right one.
_OF_SCORES: dict[str, Callable[[Any, Any], float]] = {
    "mean_average_precision": formulas.mean_average_precision,
    "voc2007_mean_average_precision": formulas.voc2007_mean_average_precision,
    "roc_auc": formulas.roc_auc,
}
ClassifierLike: TypeAlias = "Classifier | Head | str | os.PathLike[str]"


class UnmeasuredWarning(UserWarning):
    """Of images that failed or were left out, so that a number is not taken for that of all.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     found = evaluate((["examples/images/cat.jpg", "nowhere.jpg"], ["cat", "dog"]), model="mini")
    >>> str(caught[0].message).partition(", such as")[0]
    'not every image was measured (1 image, 1 failed)'
    >>> found
    <Evaluation: top-1 accuracy 100.0% (100.0% to 100.0%) on 1 image, 1 failed>
    """


def evaluate(
    data: LabelledLike,
    classifier: ClassifierLike | None = None,
    *,
    model: ModelLike | None = None,
    prompts: PromptsLike | None = None,
    labels: LabelsLike | None = None,
    embeddings: Embeddings | str | os.PathLike[str] | None = None,
    match: Match = "auto",
    metric: str | None = None,
    classes: Sequence[str] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    separator: str | None = None,
    split: str | None = None,
    device: str | torch.device | None = None,
    dtype: Precision | torch.dtype = "float32",
    approximate: bool = False,
    compile: bool = False,
    batch_size: int = 32,
    workers: int | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measure a classifier on labelled images.

    Parameters
    ----------
    data : str, path-like, tuple, data set or LabelledImages
        A folder with one subfolder a class, a list (CSV, JSON lines, Parquet), webdataset archives, a Hugging Face data
        set, or a pair of images and labels: as `zeroshot.labelled.load_labelled` takes it.
    classifier : Classifier, Head or path of a saved head, optional
        In place of `prompts` and `labels`. A classifier with background classes is measured by the most probable label.
    model : str, path or Encoder, optional
        As `load` takes it; by default that of the head or of the embeddings, else the default model.
    prompts : str, path, sequence of str, callable or PromptSet, optional
        As for `Classifier`.
    labels : sequence of str, or mapping from name to synonyms, optional
        By default the classes of the prompt set, if it has some, else the names in the data, which ``"data"`` asks for
        in any case.
    embeddings : Embeddings or path, optional
        What `zeroshot embed` wrote of the same images: no image is read then. They are found by their names.
    match : {"auto", "name", "position"}
        How labels and classes of the data belong together: `zeroshot.matching.match_classes`.
    metric : str, optional
        Which one counts, a key of `Evaluation.metrics`; by default what the prompt set says, else ``top_1``, or
        ``mean_average_precision`` where images show several classes.
    classes, image_column, label_column, separator, split
        As for `zeroshot.labelled.load_labelled`.
    device, dtype, approximate, compile
        As for `load`.
    batch_size, workers
        As for `Classifier.stream`.
    level, resamples, seed
        Of the intervals: `zeroshot.metrics.bootstrap_interval`.
    progress : bool
        Show a progress bar in a terminal or a notebook.

    Returns
    -------
    Evaluation

    Raises
    ------
    LabelError
        If no class of the data has a label, or nothing names the classes.
    ImageError
        If no image can be measured; the message says what is wrong with the first.
    OptionError
        If options contradict each other or are out of their range.
    ZeroShotError
        As `load_labelled` and `Classifier` do.

    Warns
    -----
    UnmeasuredWarning
        If images failed or were left out.

    Examples
    --------
    >>> photographs = [f"examples/images/{name}.jpg" for name in ("cat", "clock", "coffee", "rocket")]
    >>> found = evaluate((photographs, ["cat", "clock", "cup of coffee", "rocket"]), model="mini")
    >>> found.metric, found.value, found.n_images
    ('top_1', 1.0, 4)
    """
    reading: dict[str, Any] = {
        "image_column": image_column,
        "label_column": label_column,
        "separator": separator,
        "split": split,
    }
    opened = load_labelled(data, classes=classes, **reading)
    kept = embeddings if embeddings is None or isinstance(embeddings, Embeddings) else Embeddings.load(embeddings)
    prompt_set = None if classifier is not None else as_prompt_set(prompts)
    if classifier is not None and any(given is not None for given in (prompts, labels)):
        raise OptionError("a classifier was given, and prompts or labels too; the classifier has its own")
    chosen = _choose_metric(metric, prompt_set, multi_label=opened.multi_label)
    parsed, matching = (None, None) if prompt_set is None else _choose_labels(opened, prompt_set, labels, match)

    loading: dict[str, Any] = {"device": device, "dtype": dtype, "approximate": approximate, "compile": compile}
    scorer = _scorer(classifier, model, kept, prompt_set, parsed, loading)
    parsed = parsed or Labels(scorer.head.labels, tuple((name,) for name in scorer.head.labels))
    matching = matching or match_classes(opened.classes, parsed, match=match, where=opened.name)

    gathered = _Gathered(opened, matching, len(parsed.names), keep_scores=opened.multi_label or chosen in _OF_SCORES)
    if kept is None:
        assert scorer.encoder is not None
        batches = embed_labelled(scorer.encoder, gathered.items(), batch_size=batch_size, workers=workers)
    else:
        batches = _kept_batches(kept, gathered)
    with progress_bar(unit="image", show=progress) as shown, contextlib.closing(batches):
        for batch in batches:
            gathered.add(batch, scorer.head)
            shown.update(len(batch.sources))
    gathered.check()

    options = {"level": level, "resamples": check_positive("resamples", resamples), "seed": seed}
    ranked = None if opened.multi_label else gathered.ranked()
    values = _measure(ranked, gathered, chosen, options)
    found = Evaluation(
        metric=chosen,
        metrics=values,
        labels=parsed.names,
        classes=_class_results(parsed.names, ranked, gathered),
        sources=tuple(gathered.sources),
        ranked=ranked,
        scores=gathered.scores() if gathered.keep_scores else None,
        shown=gathered.shown() if gathered.keep_scores else None,
        failed=tuple(gathered.failed),
        left_out=gathered.reasons(),
        notes=_notes(opened, parsed, matching, gathered),
        setup=_setup(
            scorer, prompt_set, parsed, opened, matching, gathered, kept, reading, {**options, "batch_size": batch_size}
        ),
        _data=opened,
        _ordinals=tuple(gathered.ordinals),
    )
    if found.failed or found.left_out:
        first = found.failed[0].message if found.failed else found.left_out[0].reason
        warnings.warn(
            f"not every image was measured ({images_in_words(found)}), such as: {first}; see failed and left_out of "
            "the result",
            UnmeasuredWarning,
            stacklevel=levels_to_caller(),
        )
    return found


# ----------------------------------------------------------------------------------------------------------- choices


def _choose_metric(metric: str | None, prompts: PromptSet | None, *, multi_label: bool) -> str:
    chosen = metric or (prompts.metric if prompts is not None else "")
    if not chosen:
        return "mean_average_precision" if multi_label else "top_1"
    if chosen not in METRICS or chosen == "expected_calibration_error":
        known = [name for name in METRICS if name != "expected_calibration_error"]
        raise OptionError(f"metric is {chosen!r}; expected one of {', '.join(known)}")
    if multi_label and chosen not in _OF_SCORES:
        if metric is None:
            return "mean_average_precision"
        raise OptionError(
            f"metric is {chosen!r}, and images show several classes; expected one of {', '.join(_OF_SCORES)}"
        )
    return chosen


def _choose_labels(
    data: LabelledImages, prompts: PromptSet, labels: LabelsLike | None, match: Match
) -> tuple[Labels, Matching]:
    if labels is not None and not (isinstance(labels, str) and labels == DATA):
        parsed = parse_labels(labels)
    elif labels is None and prompts.classes:
        parsed = prompts.labels
        try:
            return parsed, match_classes(data.classes, parsed, match=match, where=data.name)
        except LabelError as error:
            raise LabelError(
                f"{error}. These are the classes of the prompt set {prompts.name!r}; labels='data' puts the names of "
                "the data into its templates"
            ) from error
    elif data.classes:
        parsed = parse_labels(data.classes)
        return parsed, Matching(tuple(range(len(data.classes))), "position")
    else:
        raise LabelError(
            f"the labels of {data.name} are numbers, and nothing says what they stand for; give labels or classes, or "
            "a prompt set that has classes"
        )
    return parsed, match_classes(data.classes, parsed, match=match, where=data.name)


@dataclass(frozen=True, eq=False)
class _Scorer:
    """What scores embeddings, and what makes them, if they are not there already."""

    head: Head
    encoder: Any


def _scorer(
    classifier: ClassifierLike | None,
    model: ModelLike | None,
    kept: Embeddings | None,
    prompts: PromptSet | None,
    labels: Labels | None,
    loading: Mapping[str, Any],
) -> _Scorer:
    if isinstance(classifier, (str, os.PathLike)):
        classifier = Head.load(os.fspath(classifier))
    if isinstance(classifier, Head):
        if kept is None:
            classifier = Classifier.from_head(classifier, model=model, **loading)
        else:  # no encoder is needed at all
            return _Scorer(_check_kept(kept, classifier.fingerprint, classifier.model, classifier), None)
    elif classifier is None:
        chosen = model if model is not None else kept.model if kept is not None else DEFAULT_MODEL
        classifier = Classifier(labels, model=chosen, prompts=prompts, **loading)
    elif not isinstance(classifier, Classifier):
        raise OptionError(f"classifier is of type {type(classifier).__name__}; expected a Classifier, a Head or a path")
    head = classifier.head
    if kept is not None:
        _check_kept(kept, classifier.encoder.fingerprint, classifier.encoder.name, head)
    return _Scorer(head, classifier.encoder)


def _check_kept(kept: Embeddings, fingerprint: str, name: str, head: Head) -> Head:
    if kept.fingerprint != fingerprint:
        raise HeadError(
            f"{kept.path} was made with another state of {kept.model!r} than {name!r} is now (weights, configuration "
            "or dtype differ); load that one, or embed the images again"
        )
    return head


# --------------------------------------------------------------------------------------------------------- gathering


class _Gathered:
    """What comes of the images as they stream by: a few numbers for each, and what was not measured."""

    def __init__(self, data: LabelledImages, matching: Matching, n_classes: int, *, keep_scores: bool) -> None:
        self.data, self.matching, self.n_classes, self.keep_scores = data, matching, n_classes, keep_scores
        self.sources: list[str] = []
        self.ordinals: list[int] = []
        self.targets: list[Target] = []
        self.failed: list[Failure] = []
        self.in_data: list[tuple[str, Target]] = []  # what the digest is of
        self._left_out: dict[str, list[Any]] = {}  # reason -> number, first names
        self._given: list[int] = []  # ordinals of the items handed out, in order
        self._next = 0
        self._ranked: list[Ranked] = []
        self._scores: list[npt.NDArray[np.float32]] = []

    def items(self) -> Iterator[LabelledItem]:
        """Yield the images that can be measured, with positions of labels as targets."""
        for ordinal, item in enumerate(self.data.items()):
            target, problem = self._target(item)
            if target is None:
                self.leave_out(item.source, problem)
                continue
            self.in_data.append((self.data.relative(item.source), target))
            self._given.append(ordinal)
            yield replace(item, target=target)

    def leave_out(self, source: str, reason: str) -> None:
        entry = self._left_out.setdefault(reason, [0, []])
        entry[0] += 1
        if len(entry[1]) < EXAMPLES:
            entry[1].append(source)

    def add(self, batch: LabelledBatch, head: Head) -> None:
        """Score the embeddings of a batch."""
        targets: list[Target] = []
        for source, error, target in zip(batch.sources, batch.errors, batch.targets, strict=True):
            ordinal, self._next = self._given[self._next], self._next + 1
            if error is not None:
                self.failed.append(Failure(str(source), type(error).__name__, str(error)))
                continue
            self.sources.append(str(source))
            self.ordinals.append(ordinal)
            targets.append(target)
        if not targets:
            return
        self.targets += targets
        embeddings = torch.from_numpy(batch.embeddings)
        logits = head.logits(embeddings)[:, : self.n_classes].numpy()
        if self.keep_scores:
            self._scores.append(logits)
        if not self.data.multi_label:
            # The order is that of the logits: a softmax in float32 makes equal what is not.
            probabilities = head.probabilities(embeddings).numpy().astype(np.float64)
            ranked = formulas.rank_classes(logits, np.asarray(targets))
            own = np.take_along_axis(probabilities, ranked.predicted[:, None], axis=1)[:, 0]
            self._ranked.append(replace(ranked, confidence=own))

    def check(self) -> None:
        """Raise an error if nothing was measured."""
        if self.sources:
            return
        what = [f"{len(self.failed)} failed, such as {self.failed[0].message}"] if self.failed else []
        what += [f"{one.images} left out: {one.reason}" for one in self.reasons()[:EXAMPLES]]
        raise ImageError(f"no image of {self.data.name} can be measured: {'; '.join(what) or 'there is none'}")

    def ranked(self) -> Ranked:
        return Ranked(
            targets=np.concatenate([one.targets for one in self._ranked]),
            predicted=np.concatenate([one.predicted for one in self._ranked]),
            rank=np.concatenate([one.rank for one in self._ranked]),
            confidence=np.concatenate([one.confidence for one in self._ranked]),
            n_classes=self.n_classes,
        )

    def scores(self) -> npt.NDArray[np.float32]:
        return np.concatenate(self._scores)

    def shown(self) -> npt.NDArray[np.bool_]:
        shown = np.zeros((len(self.targets), self.n_classes), dtype=np.bool_)
        for row, target in zip(shown, self.targets, strict=True):
            row[list(target) if isinstance(target, tuple) else target] = True
        return shown

    def reasons(self) -> tuple[LeftOut, ...]:
        ordered = sorted(self._left_out.items(), key=lambda entry: -entry[1][0])
        return tuple(LeftOut(reason, count, tuple(examples)) for reason, (count, examples) in ordered)

    def _target(self, item: LabelledItem) -> tuple[Target | None, str]:
        if item.target is None:
            return None, item.problem
        if not isinstance(item.target, tuple):
            return self._position(item.target)
        # Other classes of the image can be measured where one has no label.
        return tuple(found for one in item.target if (found := self._position(one)[0]) is not None), ""

    def _position(self, position: int) -> tuple[int | None, str]:
        positions = self.matching.positions
        if not positions:
            if position < self.n_classes:
                return position, ""
            return None, f"the label {position} is no class; expected a position from 0 to {self.n_classes - 1}"
        found = positions[position]
        return found, "" if found is not None else f"no label for the class {self.data.classes[position]!r}"


def _kept_batches(kept: Embeddings, gathered: _Gathered) -> Generator[LabelledBatch, None, None]:
    """Go through embeddings in place of images, and find the target of each by its name."""
    wanted: dict[str, list[tuple[int, Target]]] = {}
    names: list[str] = []
    for item in gathered.items():
        assert item.target is not None
        wanted.setdefault(_path(item.source), []).append((gathered._given[-1], item.target))
        names.append(item.source)
    gathered._given.clear()
    for batch in kept.batches():
        rows = iter(batch.embeddings)
        sources, errors, targets, chosen = [], [], [], []
        for source, error in zip(batch.sources, batch.errors, strict=True):
            row = next(rows) if error is None else None
            for ordinal, target in wanted.pop(_path(source), []):
                gathered._given.append(ordinal)
                sources.append(source)
                errors.append(error)
                targets.append(target)
                if row is not None:
                    chosen.append(row)
        embeddings = np.stack(chosen) if chosen else np.empty((0, kept.dim), dtype=np.float32)
        yield LabelledBatch(batch.start, sources, errors, embeddings, targets)
    for name in names:
        if _path(name) in wanted:
            gathered.leave_out(name, f"not among the embeddings of {kept.path}")


def _path(source: Any) -> str:
    text = str(source)
    return text if "://" in text else os.path.abspath(text)  # noqa: PTH100  (not resolved: links keep their names)


# --------------------------------------------------------------------------------------------------------- measuring


def _measure(
    ranked: Ranked | None, gathered: _Gathered, chosen: str, options: Mapping[str, Any]
) -> dict[str, Estimate]:
    values: dict[str, Estimate] = {}
    if ranked is not None:
        found = formulas.evaluate_ranked(ranked, **options)
        values["top_1"] = found.top_1
        if found.top_5 is not None:
            values["top_5"] = found.top_5
        values["mean_per_class_recall"] = found.mean_per_class_recall
        values["macro_f1"] = found.macro_f1
        values["expected_calibration_error"] = Estimate(found.expected_calibration_error, np.nan, np.nan)
        if chosen == "mean_of_top_1_and_top_5":
            values[chosen] = estimate(_mean_of_top_1_and_top_5, ranked.rank, **options)
        elif chosen == "top_5" and found.top_5 is None:
            raise OptionError(f"metric is 'top_5' for {ranked.n_classes} classes; expected at least five classes")
    names = list(_OF_SCORES) if ranked is None else [chosen] if chosen in _OF_SCORES else []
    for name in names:
        scores, shown = gathered.scores(), gathered.shown()
        if ranked is not None and scores.shape[1] == 2:  # one against the other, as a softmax has it
            scores = scores - scores[:, ::-1]
        values[name] = estimate(_OF_SCORES[name], scores, shown, **options)
    return values


def _mean_of_top_1_and_top_5(rank: npt.NDArray[np.int64]) -> float:
    return float(((rank < 1).mean() + (rank < 5).mean()) / 2)


def _class_results(labels: Sequence[str], ranked: Ranked | None, gathered: _Gathered) -> tuple[ClassResult, ...]:
    count = len(labels)
    if ranked is None:
        scores, shown = gathered.scores(), gathered.shown()
        return tuple(
            ClassResult(
                index,
                label,
                int(shown[:, index].sum()),
                average_precision=number_or_none(
                    formulas.mean_average_precision(scores[:, [index]], shown[:, [index]])
                ),
            )
            for index, label in enumerate(labels)
        )
    images = np.bincount(ranked.targets, minlength=count)
    taken = np.bincount(ranked.predicted, minlength=count)
    right = np.bincount(ranked.targets[ranked.rank == 0], minlength=count)
    return tuple(
        ClassResult(
            index,
            label,
            int(images[index]),
            recall=float(right[index] / images[index]) if images[index] else None,
            precision=float(right[index] / taken[index]) if taken[index] else None,
            f1=float(2 * right[index] / (images[index] + taken[index])) if images[index] else None,
        )
        for index, label in enumerate(labels)
    )


def _notes(data: LabelledImages, labels: Labels, matching: Matching, gathered: _Gathered) -> tuple[str, ...]:
    notes = []
    if data.classes and tuple(data.classes) != labels.names:
        pairs = differing_pairs(data.classes, labels, matching) if matching.how == "position" else []
        such_as = f", such as {some_pairs(pairs, 'by')}" if pairs else ""
        notes.append(f"classes of the data and labels were matched by {matching.how}{such_as}")
    notes += matching.missing
    if data.classes:
        seen: set[int] = set()
        for target in (target for _, target in gathered.in_data):
            seen.update(target if isinstance(target, tuple) else [target])
        empty = [
            name
            for name, position in zip(data.classes, matching.positions, strict=True)
            if position is not None and position not in seen
        ]
        if empty:
            notes.append(
                f"no images of {some_names(empty)}: means over classes leave {'it' if len(empty) == 1 else 'them'} out"
            )
        others = len(labels.names) - len({position for position in matching.positions if position is not None})
        if others:
            notes.append(f"{others} label{'s' * (others > 1)} without a class in the data")
    return tuple(notes)


def _setup(
    scorer: _Scorer,
    prompts: PromptSet | None,
    labels: Labels,
    data: LabelledImages,
    matching: Matching,
    gathered: _Gathered,
    kept: Embeddings | None,
    reading: Mapping[str, Any],
    options: Mapping[str, Any],
) -> dict[str, Any]:
    head, encoder = scorer.head, scorer.encoder
    own_words = any(words != (name,) for name, words in zip(labels.names, labels.synonyms, strict=True))
    return {
        "versions": {
            "zeroshot": sys.modules["zeroshot"].__version__,  # the root stands above this module
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pillow": PIL.__version__,
        },
        "platform": platform.platform(),
        "model": {
            "name": head.model if encoder is None else encoder.name,
            "fingerprint": head.fingerprint,
            "device": None if encoder is None else str(encoder.device),
            "dtype": None if encoder is None else str(getattr(encoder, "dtype", "")).removeprefix("torch.") or None,
            "approximate": kept.approximate if kept is not None else is_approximate(encoder),
            "logit_scale": head.logit_scale,
            "logit_bias": head.logit_bias,
        },
        "prompts": {
            "name": prompts.name if prompts is not None else None,
            "digest": prompts.digest if prompts is not None else None,
            "templates": list(head.templates),
            "written": dict(prompts.written) if prompts is not None else {},
            "function": prompts is not None and prompts.function is not None,
        },
        "labels": [list(words) for words in labels.synonyms] if own_words else list(labels.names),
        "head": head.digest or head.contents,  # of probes and calibrated heads, what is in them
        "data": {
            "name": data.name,
            "kind": data.kind,
            "classes": list(data.classes),
            "images": len(gathered.in_data),
            "digest": data_digest(gathered.in_data),
            "multi_label": data.multi_label,
            "options": {name: value for name, value in reading.items() if value is not None},
        },
        "embeddings": None if kept is None else str(kept.path),
        "match": matching.how,
        "options": dict(options),
    }
