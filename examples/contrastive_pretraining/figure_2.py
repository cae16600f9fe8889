"""Figure 2 of CLIP's paper, small: from how many pairs does which objective learn to classify without examples?

    python examples/contrastive_pretraining/figure_2.py --out figure-2

Four networks with the same image tower see the same pairs in the same order. Two predict: every word of the caption in
turn (a language model, the paper's first attempt), or which words are in it, in whatever order. Two contrast: captions
as bags of words, as in the paper's figure, or read by a transformer, as in CLIP itself. Needs the extra `plot`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pretrain import Clip, Pairs, Row, Schedule, Sizes, reader, text_tower, train, vision_tower
from scenes import COLOURS, SHAPES, Scenes, portrait
from torch import Tensor, nn

import zeroshot
from zeroshot.cache import write_atomically
from zeroshot.figures import new_figure
from zeroshot.nets.text import TextTower
from zeroshot.tokenizer import get_tokenizer

CLASSES = [(colour, shape) for colour in COLOURS for shape in SHAPES]
LEVEL = 10  # per cent; chance is 1
SAMPLE = 2000  # captions whose words make the vocabulary of what predicts


class BagOfWords(nn.Module):
    """A text tower that knows no order: the mean of the words' vectors, projected."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(get_tokenizer().vocab_size, width)
        self.projection = nn.Linear(width, dim, bias=False)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (n, context) -> (n, dim), not normalised."""
        weights = is_word(tokens).float()  # (n, context)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
        return self.projection((self.token_embedding(tokens) * weights[:, :, None]).sum(dim=1))


class BagPrediction(nn.Module):
    """From the image, which words are in its caption (Joulin et al. 2016: one softmax over all words)."""

    def __init__(self, vision: nn.Module, dim: int, words: Tensor) -> None:
        super().__init__()
        self.vision, self.output = vision, nn.Linear(dim, len(words))
        self.register_buffer("words", words)

    def loss(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return the cross-entropy to the words of the captions, all of one caption alike."""
        bags = self._bags(tokens)
        return F.cross_entropy(self.output(self.vision(pixels)), bags / bags.sum(dim=1, keepdim=True).clamp(min=1))

    def scores(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-probability of the words of each text for each image: (n_images, n_texts)."""
        return F.log_softmax(self.output(self.vision(pixels)), dim=-1) @ self._bags(tokens).T

    def _bags(self, tokens: Tensor) -> Tensor:
        """Return which of the words are in each text: (n, n_words), 0 or 1."""
        return ((tokens[:, :, None] == self.words) & is_word(tokens)[:, :, None]).any(dim=1).float()


class CaptionPrediction(nn.Module):
    """From the image, its caption word by word: a language model whose first token is the image."""

    def __init__(self, vision: nn.Module, text: TextTower, dim: int, words: Tensor) -> None:
        super().__init__()
        width = text.config.transformer.width
        self.vision, self.text = vision, text  # of the text tower all but its projection
        self.image_token = nn.Linear(dim, width)
        self.output = nn.Linear(width, len(words) + 1)  # and the end of the text
        end = torch.tensor([get_tokenizer().end_id])
        self.register_buffer("words", torch.cat([words, end]))

    def loss(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return the mean over the words of -log p(word | image, words before it)."""
        log_likelihood, lengths = self._read(self.image_token(self.vision(pixels)), tokens)
        return -log_likelihood.sum() / lengths.sum()

    def scores(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-likelihood of each text for each image: (n_images, n_texts)."""
        images = self.image_token(self.vision(pixels))  # (n_images, width)
        columns = [self._read(images, text.expand(len(images), -1))[0] for text in tokens]
        return torch.stack(columns, dim=1)

    def _read(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """images: (n, width), tokens: (n, context) -> log-likelihood (n,) and number of the words (n,)."""
        end = (tokens == get_tokenizer().end_id).int().argmax(dim=1)  # (n,)
        length = int(end.max())
        words = self.text.token_embedding(tokens[:, 1:length])  # (n, length - 1, width)
        x = torch.cat([images[:, None], words], dim=1) + self.text.positional_embedding[:length]
        x = self.text.ln_final(self.text.transformer(x, causal=True))  # (n, length, width)
        log_p = F.log_softmax(self.output(x), dim=-1)  # (n, length, n_words + 1), of the next word
        is_next = tokens[:, 1 : length + 1, None] == self.words  # (n, length, n_words + 1)
        is_there = torch.arange(length, device=end.device) < end[:, None]  # (n, length)
        return ((log_p * is_next).sum(dim=-1) * is_there).sum(dim=1), is_there.sum(dim=1)


def is_word(tokens: Tensor) -> Tensor:
    """Return where the words are, between the start and the end token: (n, context) bool."""
    end = (tokens == get_tokenizer().end_id).int().argmax(dim=1, keepdim=True)
    position = torch.arange(tokens.shape[1], device=tokens.device)
    return (position > 0) & (position < end)


def vocabulary(pairs: Pairs) -> Tensor:
    """Return the tokens of the words that captions are made of."""
    tokens = torch.from_numpy(get_tokenizer().tokenize([pairs[i][1] for i in range(min(SAMPLE, len(pairs)))]))
    return tokens[is_word(tokens)].unique()


def objectives(sizes: Sizes, pairs: Pairs) -> dict[str, Callable[[], nn.Module]]:
    """Return what is compared: name -> how it is made."""
    words = vocabulary(pairs)
    return {
        "CLIP": lambda: Clip(vision_tower(sizes), text_tower(sizes)),
        "bag of words contrastive": lambda: Clip(vision_tower(sizes), BagOfWords(sizes.text_width, sizes.dim)),
        "bag of words prediction": lambda: BagPrediction(vision_tower(sizes), sizes.dim, words),
        "caption prediction": lambda: CaptionPrediction(vision_tower(sizes), text_tower(sizes), sizes.dim, words),
    }


def compare(
    schedule: Schedule, sizes: Sizes, folder: Path, *, images: int = 300, evaluations: int = 10
) -> dict[str, list[Row]]:
    """Train each network and return its rows, with the zero-shot accuracy among the hundred classes, in per cent.

    For what predicts, a class is the better the more probable its prompt is. What was done before is not done again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs, read = Scenes(schedule.examples, seed=schedule.seed, kinds=(1,)), reader(sizes)
    rng = random.Random("figure 2")
    targets = torch.tensor([rng.randrange(len(CLASSES)) for _ in range(images)])
    prompts = zeroshot.PromptSet(("a photo of a(n) {}.",)).expand([" ".join(kind) for kind in CLASSES])
    test = [(portrait(rng, *CLASSES[target]), "") for target in targets]
    pixels, _ = read(test, range(images))
    tokens = torch.from_numpy(get_tokenizer().tokenize([prompt for (prompt,) in prompts], context=sizes.context))

    results = {}
    for name, make in objectives(sizes, pairs).items():
        done = folder / f"{name.replace(' ', '-')}.json"
        if not done.exists():
            torch.manual_seed(schedule.seed)
            model = make()

            @torch.no_grad()
            def evaluate(model: nn.Module = model) -> Row:
                found = model.scores(pixels, tokens).argmax(dim=1)
                return {"accuracy": 100 * (found == targets).float().mean().item()}

            rows = []
            for row in train(
                model,
                pairs,
                schedule,
                read,
                evaluate=evaluate,
                evaluations=evaluations,
                state_file=done.with_suffix(".pt"),
            ):
                print(f"{name}: {row['pairs']:,} pairs, {row['processor']:.0f} s, {row['accuracy']:.1f}%", flush=True)
                rows.append(row)
            text = json.dumps(rows)
            write_atomically(done, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"))
            done.with_suffix(".pt").unlink()
        results[name] = json.loads(done.read_text(encoding="utf-8"))
    return results


def pairs_until(rows: list[Row], accuracy: float) -> float:
    """Return from how many pairs on a network was that good, on straight lines between the rows; infinity for never."""
    for before, row in itertools.pairwise(rows):
        if row["accuracy"] >= accuracy > before["accuracy"]:
            share = (accuracy - before["accuracy"]) / (row["accuracy"] - before["accuracy"])
            return before["pairs"] + share * (row["pairs"] - before["pairs"])
    return math.inf


def plot(results: dict[str, list[Row]], path: Path) -> None:
    """Draw accuracy over pairs."""
    figure, axes = new_axes(6, 3.6)
    for name, rows in results.items():
        axes.plot([row["pairs"] for row in rows], [row["accuracy"] for row in rows], marker="o", ms=3, label=name)
    axes.axhline(100 / len(CLASSES), color="grey", lw=0.8, ls=":", label="chance")
    axes.set(xlabel="pairs processed", ylabel=f"zero-shot accuracy, {len(CLASSES)} classes, %")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def new_axes(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure of this size in inches, and its axes."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def main() -> None:
    """Train all four, print the table, draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the figure and what is between")
    parser.add_argument("--examples", type=int, default=16_000, help="pairs that each network sees")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    new_axes(1, 1)  # rather now than after an hour
    schedule = Schedule(arguments.examples, batch_size=64, rate=1e-3, warm_up=0.2, seed=arguments.seed)
    results = compare(schedule, Sizes(), arguments.out)
    print(f"\n| objective | accuracy, % | pairs until {LEVEL}% | processor, s |\n|---|--:|--:|--:|")
    for name, rows in results.items():
        needed, last = pairs_until(rows, LEVEL), rows[-1]
        until = "not reached" if math.isinf(needed) else f"{needed:,.0f}"
        print(f"| {name} | {last['accuracy']:.1f} | {until} | {last['processor']:.0f} |")
    plot(results, arguments.out / "figure_2.png")


if __name__ == "__main__":
    main()
