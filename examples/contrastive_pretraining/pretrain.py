"""Contrastive pre-training as in CLIP's paper, small: a CLIP out of image-text pairs, in minutes, on two cores.

    python examples/contrastive_pretraining/pretrain.py --out clip-of-scenes

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (2021), sections 2.3 to 2.5: an
image tower and a text tower learn to tell which of a batch's captions belongs to which of its images. The towers, the
tokenizer and the preprocessing are zeroshot's own, so what comes out is a checkpoint like any other.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from pairs import read_pairs
from scenes import COLOURS, PAIRINGS, SHAPES, Scenes, portrait
from torch import Tensor, nn

import zeroshot
from zeroshot.cache import write_atomically
from zeroshot.image import Preprocess
from zeroshot.nets.text import TextConfig, TextTower
from zeroshot.nets.transformer import TransformerConfig
from zeroshot.nets.vit import VisionTransformer, VisionTransformerConfig
from zeroshot.tokenizer import get_tokenizer

Pairs = Sequence[tuple[Any, str]]  # images as zeroshot takes them, and captions
Batch = tuple[Tensor, Tensor]  # pixels (n, 3, H, W), tokens (n, context)
Row = dict[str, float]
Tower = TypeVar("Tower", bound=nn.Module)

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # as OpenAI's checkpoints
LARGEST_SCALE = 100.0  # section 2.5: "clipped to prevent scaling the logits by more than 100"


@dataclass(frozen=True)
class Sizes:
    """Sizes of the two towers."""

    image_size: int = 48
    patch_size: int = 8
    image_width: int = 96
    image_layers: int = 3
    text_width: int = 96
    text_layers: int = 2
    head_width: int = 32
    context: int = 40
    dim: int = 96


@dataclass(frozen=True)
class Schedule:
    """How to train. `examples` are the pairs that are processed, repetitions included."""

    examples: int = 128_000
    batch_size: int = 128
    rate: float = 2e-3
    warm_up: float = 0.1  # share of the steps
    weight_decay: float = 0.2
    seed: int = 0

    @property
    def steps(self) -> int:
        """Number of batches."""
        return self.examples // self.batch_size

    def rate_at(self, step: int) -> float:
        """Return the learning rate: up in a straight line, then down to nothing on half a cosine (section 2.5)."""
        rise = max(round(self.warm_up * self.steps), 1)
        if step < rise:
            return self.rate * (step + 1) / rise
        return self.rate * (1 + math.cos(math.pi * (step - rise) / (self.steps - rise))) / 2


# ------------------------------------------------------------------------------------------------------ the model


class Clip(nn.Module):
    """Two towers and a learned temperature."""

    def __init__(self, vision: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.vision, self.text = vision, text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # learned as its logarithm

    def embed_images(self, pixels: Tensor) -> Tensor:
        """pixels: (n, 3, H, W) -> (n, dim), L2-normalised."""
        return F.normalize(self.vision(pixels), dim=-1)

    def embed_texts(self, tokens: Tensor) -> Tensor:
        """tokens: (n, context) -> (n, dim), L2-normalised."""
        return F.normalize(self.text(tokens), dim=-1)

    def loss(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return the loss of a batch of pairs."""
        return contrastive_loss(self.embed_images(pixels), self.embed_texts(tokens), self.logit_scale.exp())

    def scores(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Return how well each image goes with each text: (n_images, n_texts)."""
        images = torch.cat([self.embed_images(part) for part in pixels.split(250)])
        texts = torch.cat([self.embed_texts(part) for part in tokens.split(250)])
        return self.logit_scale.exp() * images @ texts.T

    @torch.no_grad()
    def clip_scale(self) -> None:
        """Keep the temperature in its bounds; to be called after each step."""
        self.logit_scale.clamp_(max=math.log(LARGEST_SCALE))


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric cross-entropy over a batch (figure 3): the i-th image and the i-th text are a pair.

    images, texts: (n, dim), L2-normalised; scale: () the inverse of the temperature.
    """
    logits = scale * images @ texts.T  # (n images, n texts)
    own = torch.arange(len(logits), device=logits.device)  # the right text of each image, and the other way round
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def vision_tower(sizes: Sizes) -> VisionTransformer:
    """Return a Vision Transformer with random weights."""
    stack = _stack(sizes.image_width, sizes.image_layers, sizes)
    square, patch = (sizes.image_size, sizes.image_size), (sizes.patch_size, sizes.patch_size)
    return initialise(VisionTransformerConfig(stack, square, patch, sizes.dim).build().to_empty(device="cpu"), stack)


def text_tower(sizes: Sizes) -> TextTower:
    """Return a text transformer with random weights."""
    stack, tokenizer = _stack(sizes.text_width, sizes.text_layers, sizes), get_tokenizer()
    config = TextConfig(stack, tokenizer.vocab_size, sizes.context, sizes.dim, tokenizer.end_id)
    return initialise(config.build().to_empty(device="cpu"), stack)


def _stack(width: int, layers: int, sizes: Sizes) -> TransformerConfig:
    return TransformerConfig(width, layers, width // sizes.head_width, mlp_width=4 * width, activation="gelu")


def initialise(tower: Tower, stack: TransformerConfig) -> Tower:
    """Draw the weights of a tower in place, as OpenAI's CLIP draws them (`initialize_parameters` in its model.py).

    It does so for the blocks of its text tower, and leaves those of the image tower to torch; here both are alike.
    """
    width = stack.width
    stds = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.01 if isinstance(tower, TextTower) else width**-0.5,
        "attn.in_proj_weight": width**-0.5,
        "attn.out_proj.weight": (2 * stack.layers * width) ** -0.5,  # what is added to the residual stream starts small
        "mlp.c_fc.weight": (2 * width) ** -0.5,
        "mlp.c_proj.weight": (2 * stack.layers * width) ** -0.5,
    }
    for name, parameter in tower.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "ln_" in name:
            nn.init.ones_(parameter)
        elif name == "conv1.weight":
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)  # of the numbers in a patch
        else:  # what is not in the table: the class token and the projections
            ending = next((ending for ending in stds if name.endswith(ending)), None)
            nn.init.normal_(parameter, std=stds[ending] if ending else width**-0.5)
    return tower


# ------------------------------------------------------------------------------------------------------- the data


@dataclass(frozen=True)
class Reader:
    """Pairs to tensors."""

    preprocess: Preprocess
    context: int

    def __call__(self, pairs: Pairs, indices: Sequence[int]) -> Batch:
        """Return the pixels and the tokens of some pairs."""
        images, captions = zip(*(pairs[i] for i in indices), strict=True)
        pixels = np.stack([self.preprocess.pixels(image) for image in images])  # (n, H, W, 3) uint8
        tokens = get_tokenizer().tokenize(captions, context=self.context)
        return torch.from_numpy(self.preprocess.normalize(pixels)), torch.from_numpy(tokens)


def reader(sizes: Sizes) -> Reader:
    """Return the reader for networks of these sizes."""
    return Reader(Preprocess((sizes.image_size, sizes.image_size), MEAN, STD), sizes.context)


def batches(pairs: Pairs, schedule: Schedule, read: Reader, *, first: int = 0, workers: int = 1) -> Iterator[Batch]:
    """Yield the batches from number `first` on, each pass over the pairs in an order of its own; reads ahead."""
    per_pass = len(pairs) // schedule.batch_size  # what is left over has its turn in another pass
    if not per_pass:
        raise SystemExit(
            f"{len(pairs)} pairs are less than a batch of {schedule.batch_size}; give a smaller --batch-size"
        )
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[Any] = deque()
        order: list[int] = []
        for number in range(first, schedule.steps):
            at = number % per_pass
            if at == 0 or not order:
                order = np.random.default_rng([schedule.seed, number // per_pass]).permutation(len(pairs)).tolist()
            rows = order[at * schedule.batch_size : (at + 1) * schedule.batch_size]
            ahead.append(pool.submit(read, pairs, rows))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


# --------------------------------------------------------------------------------------------------- the training


def make_optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Return Adam with decoupled weight decay on all weights that are not gains or biases (section 2.5)."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]  # gains, biases, the class token, the temperature
    groups = [
        {"params": matrices, "weight_decay": schedule.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.98), eps=1e-6, fused=True)  # table 18: ViT


def train(
    model: nn.Module,
    pairs: Pairs,
    schedule: Schedule,
    read: Reader,
    *,
    evaluate: Callable[[], Row],
    evaluations: int = 10,
    state_file: Path | None = None,
    workers: int = 1,
) -> Iterator[Row]:
    """Train, and yield a row of numbers before the first step and at equal distances after it.

    With a `state_file` all that the rest depends on is kept there at each row. A run that finds one goes on from it,
    yields the earlier rows again, and ends at the weights of a run that was never interrupted.
    """
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, schedule)
    first, clock, rows = 0, Clock(), [{"pairs": 0, "seconds": 0, "processor": 0, "loss": math.nan}]
    if state_file is not None and state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        if state["schedule"] != asdict(schedule):
            raise SystemExit(f"{state_file} is of a run with {state['schedule']}; give the same options, or remove it")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, clock, rows = state["step"], Clock(*state["clock"]), state["rows"]
    else:
        rows[0] |= evaluate()
    yield from rows

    losses = []
    stops = {round(schedule.steps * part / evaluations) for part in range(1, evaluations + 1)}
    clock.start()
    for step, (pixels, tokens) in enumerate(batches(pairs, schedule, read, first=first, workers=workers), start=first):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(step)
        loss = model.loss(pixels.to(device), tokens.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(model, Clip):
            model.clip_scale()
        losses.append(loss.detach())
        if step + 1 in stops:
            clock.stop()
            row = {"pairs": (step + 1) * schedule.batch_size, "seconds": clock.seconds, "processor": clock.processor}
            row |= {"loss": torch.stack(losses).mean().item()} | evaluate()
            rows.append(row)
            if state_file is not None:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": asdict(schedule)}
                state |= {"step": step + 1, "clock": (clock.seconds, clock.processor), "rows": rows}
                write_atomically(state_file, lambda temporary, state=state: torch.save(state, temporary))
            yield row
            losses = []
            clock.start()


@dataclass
class Clock:
    """Time spent in training, on the wall and by all processors; what is between `stop` and `start` is not counted."""

    seconds: float = 0
    processor: float = 0

    def start(self) -> None:
        """Go on."""
        self._started = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Add what has passed since `start`."""
        self.seconds += time.perf_counter() - self._started[0]
        self.processor += time.process_time() - self._started[1]


def retrieval(scores: Tensor) -> Row:
    """Return how often, in per cent, the right one is first, or among the first five, in both directions.

    scores: (n_images, n_texts), pairs on the diagonal. What ties with the right one counts as before it.
    """
    own = scores.diag()
    ranks = {
        "image→text": (~(scores < own[:, None])).sum(dim=1),  # 1 is first; so a score that is no number never is
        "text→image": (~(scores < own[None, :])).sum(dim=0),
    }
    return {f"{way} R@{k}": 100 * (rank <= k).float().mean().item() for way, rank in ranks.items() for k in (1, 5)}


# ------------------------------------------------------------------------------------------------- the checkpoint


def save_checkpoint(model: Clip, sizes: Sizes, folder: Path) -> None:
    """Write the folder that `zeroshot.load` and open_clip read: the configuration, then the weights, each at once."""
    config = {
        "model_cfg": {
            "embed_dim": sizes.dim,
            "vision_cfg": {
                "image_size": sizes.image_size,
                "layers": sizes.image_layers,
                "width": sizes.image_width,
                "head_width": sizes.head_width,
                "patch_size": sizes.patch_size,
            },
            "text_cfg": {
                "context_length": sizes.context,
                "vocab_size": get_tokenizer().vocab_size,
                "width": sizes.text_width,
                "heads": sizes.text_width // sizes.head_width,
                "layers": sizes.text_layers,
            },
        },
        "preprocess_cfg": {
            "size": [sizes.image_size, sizes.image_size],
            "mode": "RGB",
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }
    state = {f"visual.{name}": tensor for name, tensor in model.vision.state_dict().items()}
    state |= model.text.state_dict() | {"logit_scale": model.logit_scale.detach()}
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    weights = folder / "open_clip_model.safetensors"
    weights.unlink(missing_ok=True)  # those of an earlier run must not stand beside this configuration
    text = json.dumps(config, indent=2)
    write_atomically(folder / "open_clip_config.json", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    write_atomically(weights, lambda temporary: safetensors.torch.save_file(state, temporary))


# ------------------------------------------------------------------------------------------------ the command line


def main() -> None:
    """Train, print how retrieval rises, write the checkpoint, classify with it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; a run cut off goes on there")
    parser.add_argument("--data", help="pairs of your own: a CSV file, a folder or a tar file; see README.md")
    parser.add_argument("--test", type=int, default=1000, help="pairs that are kept aside")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=1, help="threads that draw or decode the next batches")
    for option in (*fields(Schedule), *fields(Sizes)):
        parser.add_argument(f"--{option.name.replace('_', '-')}", type=type(option.default), default=option.default)
    arguments = parser.parse_args()
    sizes = Sizes(**{field.name: getattr(arguments, field.name) for field in fields(Sizes)})
    schedule = Schedule(**{field.name: getattr(arguments, field.name) for field in fields(Schedule)})

    pairs: Pairs
    if arguments.data:
        own = read_pairs(arguments.data)
        random.Random(schedule.seed).shuffle(own)
        pairs, unseen = own[arguments.test :], {"unseen": own[: arguments.test]}
    else:
        pairs = Scenes(schedule.examples, seed=schedule.seed)  # each pair is seen once
        unseen = {
            "unseen": Scenes(arguments.test, seed=schedule.seed + 1),
            "new pairings": Scenes(arguments.test, seed=schedule.seed + 1, pairings="new"),
        }
    read = reader(sizes)
    tests = {
        name: [part.to(arguments.device) for part in read(some, range(len(some)))] for name, some in unseen.items()
    }

    torch.manual_seed(schedule.seed)
    model = Clip(vision_tower(sizes), text_tower(sizes)).to(arguments.device)

    @torch.no_grad()
    def evaluate() -> Row:
        row = {"scale": model.logit_scale.exp().item()}
        for name, batch in tests.items():
            found = retrieval(model.scores(*batch))
            times_chance = (found["image→text R@1"] + found["text→image R@1"]) / 2 / 100 * len(batch[0])
            row |= (found if name == "unseen" else {}) | {f"× chance, {name}": times_chance}
        return row

    state_file = arguments.out / "training.pt"
    print_table(
        train(model, pairs, schedule, read, evaluate=evaluate, state_file=state_file, workers=arguments.workers)
    )
    chance = 100 / arguments.test
    print(f"\nOf {arguments.test} pairs chance puts {chance:.2g}% first, and {5 * chance:.2g}% among the first five.")
    save_checkpoint(model, sizes, arguments.out)
    state_file.unlink()
    print(f"The checkpoint is in {arguments.out}.")
    if not arguments.data:
        classify(arguments.out)


def print_table(rows: Iterator[Row]) -> None:
    """Print rows in Markdown, each when it comes."""
    for number, row in enumerate(rows):
        if number == 0:
            print(f"| {' | '.join(row)} |\n|{'--:|' * len(row)}")
        cells = (f"{value:,.{2 if name == 'loss' else 1}f}".removesuffix(".0") for name, value in row.items())
        print(f"| {' | '.join(cells)} |", flush=True)


def classify(folder: Path, *, count: int = 500) -> None:
    """Load the checkpoint as one loads any other, and name the things in new images."""
    labels = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    classifier = zeroshot.Classifier(labels, model=folder, prompts="a photo of a(n) {}.")
    for name, kinds in PAIRINGS.items():
        rng = random.Random(f"classify {name}")
        things = [rng.choice(kinds) for _ in range(count)]
        found = classifier([portrait(rng, *thing) for thing in things])
        right = sum(prediction.label == " ".join(thing) for prediction, thing in zip(found, things, strict=True))
        print(f"Zero-shot among {len(labels)} classes, {name} pairings: {right / count:.1%} right; by chance 1%.")


if __name__ == "__main__":
    main()
