"""torch's layers without their initialisation: here weights always come from a checkpoint.

Besides the work that it saves, drawing random numbers on the meta device makes torch import its compiler, 1.5 seconds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`nn.Linear`, not initialised."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`, not initialised."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class Embedding(nn.Embedding):
    """`nn.Embedding`, not initialised."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm`, not initialised."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are."""


class BatchNorm2d(nn.Module):
    """Batch norm by the statistics of training; torch's own also counts batches, which only training needs."""

    eps = 1e-5  # torch's default, which the published networks have
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, C, H, W) -> (n, C, H, W)."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
