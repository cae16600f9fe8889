"""Text towers that are transformers': embeddings equal what transformers' network and pooling by hand give.

What open_clip makes of them is compared in `tests/oracle`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from golden.checkpoints import SMALL, TOKENIZERS, Deviations
from torch import Tensor, nn

import zeroshot
from zeroshot.clip import ClipEncoder

IMAGES = SMALL["patch16"]  # whose image tower the checkpoints have
CONTEXT, WIDTH, DIM = 24, 48, 64
TEXTS = (
    "a photo of a cat.",
    "a photo of a dog.",
    "A BLURRY photo of “Ångström's café” 😀",
    "",
    "x",
    "the airplane, " * 30,
)
TOLERANCE, NOTICEABLE = 2e-6, 2e-5
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than .* tokens:UserWarning")  # one is, on purpose

_ROBERTA = {
    **{"vocab_size": 600, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"intermediate_size": 96, "max_position_embeddings": 40, "type_vocab_size": 1, "pad_token_id": 1},
}
_M2M = {
    **{"vocab_size": 600, "d_model": WIDTH, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 96},
    **{"decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 96, "max_position_embeddings": 40},
}
_MT5 = {"vocab_size": 600, "d_model": WIDTH, "d_kv": 12, "d_ff": 96, "num_layers": 2, "num_heads": 4}


@dataclass(frozen=True)
class Case:
    """A tower: transformers' configuration, what open_clip puts behind it, and the tokenizer."""

    network: Any
    pool: str
    projection: str
    tokenizer: str


CASES = {
    "roberta": Case(transformers.RobertaConfig(**_ROBERTA), "mean_pooler", "mlp", "hf_roberta"),
    "xlm-roberta": Case(transformers.XLMRobertaConfig(**_ROBERTA), "mean_pooler", "linear", "hf_xlm_roberta"),
    "xlm-roberta-pooler": Case(transformers.XLMRobertaConfig(**_ROBERTA), "cls_pooler", "mlp", "hf_xlm_roberta"),
    "xlm-roberta-first": Case(
        transformers.XLMRobertaConfig(**_ROBERTA), "cls_last_hidden_state_pooler", "linear", "hf_xlm_roberta"
    ),
    "nllb": Case(transformers.M2M100Config(**_M2M), "cls_pooler", "linear", "hf_nllb"),
    "mt5": Case(transformers.MT5Config(**_MT5), "mean_pooler", "mlp", "hf_xlm_roberta"),
}


def draw(module: nn.Module, seed: int) -> None:
    """Draw the weights of a network anew, large enough for the inputs to matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        inputs = parameter[0].numel() if parameter.ndim > 1 else 25
        parameter.data += torch.randn(parameter.shape, generator=generator) * inputs**-0.5
    module.eval()


class Tower(nn.Module):
    """The tower as a checkpoint of open_clip holds it, under the same names; pooled by hand, one text at a time."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        if case.network.is_encoder_decoder:
            self.transformer = transformers.AutoModel.from_config(case.network).get_encoder()
        else:
            with_pooler = case.pool == "cls_pooler"
            self.transformer = transformers.AutoModel.from_config(case.network, add_pooling_layer=with_pooler)
        if case.projection == "linear":
            self.proj: nn.Module = nn.Linear(WIDTH, DIM, bias=False)
        else:
            hidden = (WIDTH + DIM) // 2
            self.proj = nn.Sequential(
                nn.Linear(WIDTH, hidden, bias=False), nn.GELU(), nn.Linear(hidden, DIM, bias=False)
            )
        draw(self, seed=1)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (n_texts, context) int64 -> (n_texts, dim), normalised."""
        rows = []
        for text in tokens:
            ids = text[text != self.case.network.pad_token_id][None]  # without padding there is nothing to mask
            out = self.transformer(input_ids=ids)
            if self.case.pool == "mean_pooler":
                rows.append(out.last_hidden_state[0].mean(dim=0))
            elif self.case.pool == "cls_pooler" and "pooler_output" in out:
                rows.append(out.pooler_output[0])
            else:
                rows.append(out.last_hidden_state[0, 0])
        return F.normalize(self.proj(torch.stack(rows)), dim=-1)


def write(tower: Tower, folder: Path, **text_cfg: Any) -> Path:
    """Write a checkpoint into a new folder: the image tower of a golden model, and this text tower."""
    case, network = tower.case, folder.with_name(f"{folder.name} network")
    case.network.save_pretrained(network)

    def state(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if not name.startswith(("visual.", "logit_"))]:
            del tensors[name]
        tensors.update({f"text.{name}": tensor.numpy() for name, tensor in tower.state_dict().items()})

    def config(settings: dict[str, Any]) -> None:
        settings["model_cfg"]["text_cfg"] = {
            "hf_model_name": str(network),
            "hf_tokenizer_name": case.tokenizer,
            "hf_pooler_type": case.pool,
            "hf_proj_type": case.projection,
            "context_length": CONTEXT,
            **text_cfg,
        }

    IMAGES.write(folder, state=state, config=config)
    shutil.copytree(TOKENIZERS / case.tokenizer, folder, dirs_exist_ok=True)
    return folder


def compare(encoder: ClipEncoder, tower: Tower) -> Deviations:
    """Encode pictures and texts, and compare with the golden file and with the tower."""
    images, texts = encoder.encode_images(IMAGES.pictures), encoder.encode_texts(TEXTS)
    expected = torch.from_numpy(IMAGES.values["images"])
    with torch.inference_mode():
        theirs = tower(torch.from_numpy(encoder.tokenize(TEXTS)))
    return Deviations(
        images=float((images - expected).abs().max()),
        texts=float((texts - theirs).abs().max()),
        logits=float((images @ texts.T - expected @ theirs.T).abs().max()),
    )


def deviations(folder: Path) -> Iterator[tuple[str, Deviations]]:
    """Yield each tower's name and how far it is from transformers; `folder` is an empty one to work in."""
    for name, case in CASES.items():
        tower = Tower(case)
        yield name, compare(_load(write(tower, folder / name)), tower)


def _load(folder: Path, **options: Any) -> ClipEncoder:
    return zeroshot.load(folder, device="cpu", **options)


@pytest.fixture(params=CASES)
def tower(request: pytest.FixtureRequest) -> Tower:
    """Run the test once for each tower, with random weights."""
    return Tower(CASES[request.param])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that does not exist yet."""
    return tmp_path / "checkpoint"


def test_embeddings_equal_those_of_transformers(tower: Tower, folder: Path) -> None:
    encoder = _load(write(tower, folder))
    assert max(compare(encoder, tower)) < TOLERANCE
    rows = encoder.encode_texts(TEXTS)
    assert (rows[:, None] - rows).abs().amax(dim=-1).fill_diagonal_(1).min() > 100 * TOLERANCE


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 3e-3), ("bfloat16", 2e-2)])
def test_half_precision(precision: str, tolerance: float, tower: Tower, folder: Path) -> None:
    encoder = _load(write(tower, folder), dtype=precision)
    assert 1e-5 < compare(encoder, tower).texts < tolerance


def test_one_changed_weight_is_noticed(tower: Tower, folder: Path) -> None:
    encoder = _load(write(tower, folder))
    ours, tokens = encoder.encode_texts(TEXTS), torch.from_numpy(encoder.tokenize(TEXTS))
    generator = torch.Generator().manual_seed(2)
    quiet = []
    for name, parameter in tower.named_parameters():
        kept = parameter.data
        parameter.data = kept + torch.randn(kept.shape, generator=generator) / 4
        with torch.inference_mode():
            if (tower(tokens) - ours).abs().max() < NOTICEABLE:
                quiet.append(name)
        parameter.data = kept
    # A key's bias adds the same to all scores of a query.
    assert [name for name in quiet if not name.endswith(("key.bias", "k_proj.bias"))] == []


@pytest.mark.parametrize("tower", ["xlm-roberta"], indirect=True)
def test_another_pooling_is_noticed(tower: Tower, folder: Path) -> None:
    encoder = _load(write(tower, folder, hf_pooler_type="cls_last_hidden_state_pooler"))
    assert compare(encoder, tower).texts > NOTICEABLE


@pytest.mark.parametrize("tower", ["xlm-roberta"], indirect=True)
def test_another_padding_is_noticed(tower: Tower, folder: Path) -> None:
    """The tokens are others, so those of the right tokenizer are what the tower is asked for."""
    tokens = _load(write(tower, folder)).tokenize(TEXTS)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token": "<unk>"}))
    with torch.inference_mode():
        theirs = tower(torch.from_numpy(tokens))
    assert (_load(folder).encode_texts(TEXTS) - theirs).abs().max() > NOTICEABLE
