"""Text towers that are transformers': RoBERTa, XLM-RoBERTa, mT5, NLLB (the extra ``transformers``).

transformers builds the network; what open_clip puts behind it (its `HFTextEncoder`) is here, under the same names.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zeroshot.errors import CheckpointError, HubError, MissingExtraError

HF_POOLS = ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler")
HF_PROJECTIONS = ("linear", "mlp", "")


def hf_config(name: str) -> str:
    """Return the configuration of a network, as JSON; fetched from the hub if it is not in its cache.

    Parameters
    ----------
    name : str
        A repository or a folder that has a ``config.json``.

    Raises
    ------
    MissingExtraError
        If transformers is not installed.
    HubError
        If there is no such configuration, here or on the hub.
    """
    transformers = _transformers(name)
    read = transformers.AutoConfig.from_pretrained
    try:
        try:
            config = read(name, local_files_only=True)  # no request for what is cached
        except (OSError, ValueError):
            config = read(name)
        text: str = config.to_json_string(use_diff=False)
    except (OSError, ValueError, KeyError) as error:
        raise HubError(
            f"the configuration of the text tower {name!r} cannot be had: {str(error).splitlines()[0]}; try again with "
            "a connection, or put the path of a folder with its config.json in its place as 'hf_model_name'"
        ) from error
    return text


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            f"the text tower {name!r} is transformers'; pip install 'zeroshot-clip[transformers]' brings it"
        ) from error
    return transformers


@dataclass(frozen=True)
class HfTextConfig:
    """Which network, and what stands behind it.

    Attributes
    ----------
    config : str
        The network's own configuration, as JSON.
    pool : str
        One of `HF_POOLS`: the mean over the text, or its first token, through the network's own pooling layer where it
        has one (``cls_pooler``) or never.
    projection : {"linear", "mlp", ""}
    dim : int
        Size of the embedding that images and texts share.
    """

    config: str
    pool: str
    projection: str
    dim: int

    @property
    def vocab_size(self) -> int:
        """Rows of the token embedding."""
        return int(json.loads(self.config)["vocab_size"])

    def build(self) -> nn.Module:
        """Return the tower with random weights, on torch's default device."""
        settings = json.loads(self.config)
        transformers = _transformers(settings.get("model_type", ""))
        try:
            config = transformers.AutoConfig.for_model(**settings)
        except (ValueError, KeyError, TypeError) as error:
            reason = textwrap.shorten(str(error), 200, placeholder=" …")  # it may list all that there are
            raise CheckpointError(
                f"transformers {transformers.__version__} cannot build the text tower: {reason}"
            ) from error
        return HfTextTower(self, config, transformers)


class HfTextTower(nn.Module):
    """Token ids to embeddings, not normalised."""

    def __init__(self, config: HfTextConfig, network: Any, transformers: Any) -> None:
        super().__init__()
        self.config = config
        self.pad_id: int = network.pad_token_id
        if getattr(network, "is_encoder_decoder", False):
            network.decoder_layers = 1  # built along and thrown away
            self.transformer = transformers.AutoModel.from_config(network).encoder
        else:
            with_pool = config.pool == "cls_pooler"
            self.transformer = transformers.AutoModel.from_config(network, add_pooling_layer=with_pool)
        width = next(w for w in (getattr(network, key, None) for key in ("hidden_size", "d_model")) if w)
        if config.projection == "linear":
            self.proj: nn.Module = nn.Linear(width, config.dim, bias=False)
        elif config.projection == "mlp":
            hidden = (width + config.dim) // 2
            layers = (nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, config.dim, bias=False))
            self.proj = nn.Sequential(*layers)
        else:
            self.proj = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (n_texts, context) int64 -> (n_texts, dim), not normalised."""
        mask = tokens != self.pad_id
        length = max(int((mask * torch.arange(1, tokens.shape[1] + 1, device=tokens.device)).max()), 1)
        tokens, mask = tokens[:, :length], mask[:, :length]  # nobody looks at the padding behind the longest text
        out = self.transformer(input_ids=tokens, attention_mask=mask.long())
        embeddings: Tensor = self.proj(self._pool(out, mask.unsqueeze(-1)))
        return embeddings

    def _pool(self, out: Any, mask: Tensor) -> Tensor:
        hidden: Tensor = out.last_hidden_state
        pooled: Tensor | None = getattr(out, "pooler_output", None)
        if self.config.pool == "mean_pooler":
            return (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        if self.config.pool == "cls_pooler" and pooled is not None:
            return pooled
        return hidden[:, 0]
