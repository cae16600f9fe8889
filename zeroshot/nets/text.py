"""The text tower of CLIP and its kin: a transformer over tokens, read at one of them.

One class serves the published families, which differ in what a token sees and in where the tower is read:

==================  =========================  ==================================
family              attention                  read at
==================  =========================  ==================================
CLIP, MetaCLIP 2    to the past                the first end token
MobileCLIP          to everything              the first end token
SigLIP, CLIPA       to everything              the last position
CoCa                to the past                a class token behind the text
==================  =========================  ==================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from zeroshot.nets.layers import Embedding, LayerNorm, Linear
from zeroshot.nets.transformer import Transformer, TransformerConfig

TextPool = Literal["end", "last", "first", "class"]
TextProjection = Literal["matrix", "linear", "none"]


@dataclass(frozen=True)
class TextConfig:
    """Sizes of a text tower.

    Attributes
    ----------
    transformer : TransformerConfig
    vocab_size : int
        Rows of the token embedding.
    context : int
        Longest sequence, in tokens, start and end included.
    dim : int
        Size of the embedding that images and texts share.
    end_id : int
        Id of the token that ends a text.
    causal : bool
        Whether a token sees those before it alone, or all, padding included.
    pool : {"end", "last", "first", "class"}
        Where the tower is read: at the first end token, at the last or first position, or at a class token that is
        put behind the text (CoCa).
    projection : {"matrix", "linear", "none"}
        What leads into the joint space: a matrix, a matrix and a bias, or nothing.
    pad_id : int
        Id of the padding, which the class token does not see.
    """

    transformer: TransformerConfig
    vocab_size: int
    context: int
    dim: int
    end_id: int
    causal: bool = True
    pool: TextPool = "end"
    projection: TextProjection = "matrix"
    pad_id: int = 0

    @property
    def shares_prefixes(self) -> bool:
        """Whether the tower never looks ahead, so that texts which start alike share activations."""
        return self.causal and self.pool == "end"

    def build(self) -> TextTower:
        """Return the tower, without weights."""
        with torch.device("meta"):
            return TextTower(self)


class TextTower(nn.Module):
    """Token ids to embeddings, not normalised."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.transformer.width
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, width)
        positions = config.context
        if config.pool == "class":
            self.cls_emb = nn.Parameter(torch.empty(width))
            positions += 1
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.transformer = Transformer(config.transformer)
        self.ln_final = LayerNorm(width, eps=config.transformer.norm_eps)
        self.text_projection: nn.Parameter | nn.Module
        if config.projection == "matrix":
            self.text_projection = nn.Parameter(torch.empty(width, config.dim))
        else:
            self.text_projection = Linear(width, config.dim) if config.projection == "linear" else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: (n_texts, context) int64 -> (n_texts, dim), not normalised."""
        config = self.config
        if config.pool == "class":
            return self._read_class_token(tokens)
        if config.pool == "end":
            at = (tokens == config.end_id).int().argmax(dim=1)  # (n_texts,)
        else:
            at = torch.full((len(tokens),), config.context - 1 if config.pool == "last" else 0, device=tokens.device)
        if config.causal:  # what stands behind the last position that is read is not computed
            tokens = tokens[:, : int(at.max()) + 1]
        x = self.token_embedding(tokens) + self.positional_embedding[: tokens.shape[1]]
        return self.project(self.transformer.pooled(x, at, causal=config.causal))

    def project(self, x: Tensor) -> Tensor:
        """From the last block to the joint space: (n, width) -> (n, dim), not normalised."""
        x = self.ln_final(x)
        projection = self.text_projection
        embeddings: Tensor = x @ projection if isinstance(projection, Tensor) else projection(x)
        return embeddings

    def _read_class_token(self, tokens: Tensor) -> Tensor:
        """CoCa's way: a learned token at the last position, whatever the length of the text.

        The published weights were trained with a mask that is off by one (open_clip's `build_cls_mask`): a key counts
        as padding if the token *before* it is. So the class token sees the text, the first padding behind it, and
        itself only if the text fills the context. Later padding is seen by nobody and not computed. A token within the
        text may have the id of padding too: it is 0, which is ``!`` before other punctuation.
        """
        n, context = tokens.shape
        is_text = tokens != self.config.pad_id
        last = int((is_text * torch.arange(context, device=tokens.device)).max())
        length = min(last + 2, context)  # with the first padding behind the longest text
        x = self.token_embedding(tokens[:, :length]) + self.positional_embedding[:length]
        class_token = (self.cls_emb + self.positional_embedding[-1]).expand(n, 1, -1)
        x = torch.cat([x, class_token], dim=1)  # (n_texts, length + 1, width)
        first = torch.ones(n, 1, dtype=torch.bool, device=tokens.device)
        seen = torch.cat([first, is_text[:, : length - 1], is_text[:, -1:]], dim=1)
        past = torch.ones(length + 1, length + 1, dtype=torch.bool, device=tokens.device).tril()
        visible = (seen[:, None, :] & past)[:, None]  # (n_texts, 1, length + 1, length + 1)
        at = torch.full((n,), length, device=tokens.device)
        return self.project(self.transformer.pooled(x, at, visible=visible))
