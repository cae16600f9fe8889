"""Weights for the templates of an ensemble, from images without labels.

Zero-shot prompt weighting, ZPE: Allingham, Ren, Dusenberry, Gu, Cui, Tran, Liu and Lakshminarayanan, A Simple Zero-shot
Prompt Weighting Technique to Improve Prompt Ensembling in Text-Image Models, ICML 2023 (arXiv:2302.06235).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from zeroshot.encoder import Encoder, check_encoder, dtype_name
from zeroshot.errors import OptionError, PromptError
from zeroshot.head import Head
from zeroshot.image import as_image_list
from zeroshot.prompts import DEFAULT_TEMPLATE, Labels, LabelsLike, PromptSet, PromptsLike, as_prompt_set, choose_labels


@dataclass(frozen=True, eq=False)
class TemplateWeights:
    """Templates, what they weigh, and the head that they make together.

    Attributes
    ----------
    templates : tuple of str
        In the order of the prompt set.
    scores : ndarray of shape (n_templates,), float32
        Mean over the images of the largest corrected logit, at least 0 without images of pretraining.
    weights : ndarray of shape (n_templates,), float32
        Softmax of `scores`: in (0, 1], sum 1.
    head : Head
        Rows are the L2-normalised weighted means over the templates; for `Classifier.from_head`. It does not come from
        the cache of heads, nor go there, since it depends on the images.
    n_images, n_pretraining : int
        Images that the scores are from, and images of pretraining that the correction is from as well.

    Examples
    --------
    >>> import zeroshot
    >>> photographs = ["examples/images/cat.jpg", "examples/images/rocket.jpg"]
    >>> templates = ["a photo of a {}.", "a drawing of a {}."]
    >>> weighted = weigh_templates(zeroshot.load("mini"), photographs, ["cat", "rocket"], templates)
    >>> weighted.templates[weighted.weights.argmax()], weighted.n_images
    ('a photo of a {}.', 2)
    >>> zeroshot.Classifier.from_head(weighted.head)(photographs[1]).label
    'rocket'
    """

    templates: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    head: Head
    n_images: int
    n_pretraining: int = 0

    def __str__(self) -> str:
        """What was done, and the templates by weight, the heaviest first."""
        order = np.argsort(-self.weights, kind="stable")
        pretraining = f"and {self.n_pretraining} images of pretraining" if self.n_pretraining else "alone"
        return "\n".join(
            [
                f"images: {self.n_images}, classes: {len(self.head.labels)}, model: {self.head.model}",
                f"Zero-shot prompt weighting (ZPE), logits corrected by their average over these images {pretraining};",
                f"equal weights would be {1 / len(self.templates):.2%}.",
                "",
                f"{'weight':>7}  {'score':>7}  template",
                *(f"{self.weights[i]:>7.2%}  {self.scores[i]:>7.3f}  {self.templates[i]}" for i in order),
            ]
        )


def weigh_templates(
    encoder: Encoder, images: Any, labels: LabelsLike | None, prompts: PromptsLike, *, pretraining: Any = None
) -> TemplateWeights:
    """Weigh the templates of a prompt set by how surely they tell images apart; no labels are needed.

    With ``logit[i, t, c]`` the scaled similarity of image i to class c in template t (section 3 of the paper, and
    ``get_weights`` of the authors' notebook in google/uncertainty-baselines, experimental/multimodal)::

        corrected[i, t, c] = logit[i, t, c] - (E_pretraining[t, c] + E_test[t, c]) / 2
        score[t]           = mean over i of max over c of corrected[i, t, c]
        weight[t]          = softmax over t of score[t]

    where E is the average of the logit over images. The correction takes out what raises the logits of a prompt
    whatever the image shows: words that were frequent in pretraining (``E_pretraining``), and words for what all of
    these images have in common (``E_test``); without it the score prefers such prompts.

    Images of pretraining are seldom at hand (the authors took 20,000 of LAION-400M). Without them this is the half of
    the correction that the images themselves give, ``logit - E_test``: the authors' ablation ``debias_mode="test"``,
    not the published method. The missing half must not be replaced by 0, which would leave half of the bias in. The
    authors' variant that selects the templates whose scores stand out from the median is left out: its threshold is 0.5
    for some of their data sets and 2 for others, and without labels nothing says which.

    Parameters
    ----------
    encoder : Encoder
    images : iterable of images
        Such as will be classified, at least 2; some dozens or more. All classes should be among them.
    labels : sequence of str, or mapping from name to synonyms, or None
        None for the classes of the prompt set. Synonyms count together as one prompt of their template.
    prompts : str, path, sequence of str or PromptSet
        A set with templates; not a function, and no whole prompts.
    pretraining : iterable of images, optional
        Some of those that the checkpoint was trained on, or like them; with these it is the published method.

    Returns
    -------
    TemplateWeights

    Raises
    ------
    PromptError
        If the set has no templates to weigh, or whole prompts beside them.
    LabelError
        If the labels are not usable.
    OptionError
        If there are fewer than 2 images, or none of pretraining in a list of them.

    Examples
    --------
    >>> import zeroshot
    >>> photographs = ["examples/images/cat.jpg", "examples/images/rocket.jpg"]
    >>> templates = ["a photo of a {}.", "a drawing of a {}."]
    >>> weighted = weigh_templates(zeroshot.load("mini"), photographs, ["cat", "rocket"], templates)
    >>> weighted.weights.shape, round(float(weighted.weights.sum()), 5)
    ((2,), 1.0)
    """
    check_encoder(encoder)
    prompt_set = _check_templates(as_prompt_set(prompts))
    parsed = choose_labels(labels, prompt_set)
    images = as_image_list(images)
    others = [] if pretraining is None else as_image_list(pretraining)
    _check_images(len(images), None if pretraining is None else len(others))

    classes = _embed_classes(encoder, prompt_set, parsed)
    embeddings = _embed_images(encoder, images)
    centre = embeddings.mean(dim=0)
    if others:
        centre = (centre + _embed_images(encoder, others).mean(dim=0)) / 2
    # A logit is linear in the image: taking its average off is the same as centring the images. A bias falls out.
    centred = embeddings - centre
    similarities = [_max_similarity(centred, F.normalize(rows.double(), dim=-1)) for rows in classes]
    scores = encoder.logit_scale * torch.stack(similarities)
    weights = scores.softmax(dim=0)
    head = Head(
        weight=F.normalize(torch.tensordot(weights.float(), classes, dims=1), dim=-1),
        labels=parsed.names,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
        model=encoder.name,
        fingerprint=encoder.fingerprint,
        dtype=dtype_name(encoder),
        templates=prompt_set.templates,
    )
    return TemplateWeights(
        templates=prompt_set.templates,
        scores=scores.numpy().astype(np.float32),
        weights=weights.numpy().astype(np.float32),
        head=head,
        n_images=len(images),
        n_pretraining=len(others),
    )


def _embed_classes(encoder: Encoder, prompts: PromptSet, labels: Labels) -> Tensor:
    """Embed each class in each template: (n_templates, n_classes, dim) float32 on the CPU, means over synonyms.

    The means are not normalised again, so that with equal weights the head is that of `build_head`.
    """
    expanded = prompts.expand(labels)
    embeddings = encoder.encode_texts([prompt for texts in expanded for prompt in texts]).cpu()
    parts = torch.split(embeddings, [len(texts) for texts in expanded])
    rows = [part.reshape(-1, len(prompts.templates), part.shape[-1]).mean(dim=0) for part in parts]
    return torch.stack(rows, dim=1)


def _embed_images(encoder: Encoder, images: list[Any]) -> Tensor:
    return encoder.encode_images(images).cpu().double()  # differences of near vectors lose digits in float32


def _max_similarity(centred: Tensor, rows: Tensor) -> Tensor:
    """Mean over images of the largest similarity to a class: (n_images, dim), (n_classes, dim) -> ()."""
    return (centred @ rows.T).amax(dim=1).mean()


def _check_templates(prompts: PromptSet) -> PromptSet:
    if prompts.function is not None:
        came = "a function, which has no templates"
    elif prompts.written:
        came = f"the prompt set {prompts.name!r}, which has whole prompts for {len(prompts.written)} classes"
    else:
        return prompts
    raise PromptError(f"prompts is {came}; expected templates to weigh, such as [{DEFAULT_TEMPLATE!r}, 'a {{}}']")


def _check_images(count: int, pretraining: int | None) -> None:
    if count < 2:
        raise OptionError(
            f"images are {count}; expected at least 2, better some dozens: the logits of a single image are their own "
            "average, and nothing is left of them"
        )
    if pretraining == 0:
        raise OptionError("pretraining is empty; expected images, or None to do without")
