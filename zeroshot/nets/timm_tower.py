"""Image towers that are timm's: EVA02, ConvNeXt, FastViT, ViTamin and others (the extra ``timm``).

timm builds the network; what open_clip puts behind it (its `TimmModel`) is here, under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zeroshot.errors import CheckpointError, MissingExtraError
from zeroshot.nets.layers import ForeignConv2d

# Behind the network: a linear layer, two with a GELU between them, nothing, or the network's own classifier.
TIMM_PROJECTIONS = ("linear", "mlp", "none", "")


@dataclass(frozen=True)
class TimmConfig:
    """Which network, and what stands behind it.

    Attributes
    ----------
    name : str
        The network's name in timm.
    pool : str
        timm's name of the pooling; empty for the network's own.
    projection : {"linear", "mlp", "none", ""}
    projection_bias : bool
    image_size : tuple of int
        Height and width of the input, in pixels.
    dim : int
        Size of the embedding that images and texts share.
    """

    name: str
    pool: str
    projection: str
    projection_bias: bool
    image_size: tuple[int, int]
    dim: int

    def build(self) -> nn.Module:
        """Return the tower with random weights, on torch's default device.

        Raises
        ------
        MissingExtraError
            If timm is not installed.
        CheckpointError
            If timm does not know the network.
        """
        try:
            import timm
        except ImportError as error:
            raise MissingExtraError(
                f"the image tower {self.name!r} is timm's; pip install 'zeroshot-clip[timm]' brings it"
            ) from error
        if not timm.is_model(self.name):
            raise CheckpointError(f"timm {timm.__version__} has no network {self.name!r}; a newer release may have it")
        return TimmTower(self, timm)


class TimmTower(nn.Module):
    """Pixels to embeddings, not normalised."""

    def __init__(self, config: TimmConfig, timm: Any) -> None:
        super().__init__()
        self.config = config
        head: dict[str, nn.Module] = {}
        if config.projection in ("linear", "mlp"):
            self.trunk = timm.create_model(config.name)
            self.trunk.reset_classifier(0, **({"global_pool": config.pool} if config.pool else {}))
            features = self.trunk.num_features
            if config.projection == "linear":
                head["proj"] = nn.Linear(features, config.dim, bias=config.projection_bias)
            else:
                sizes = (features, 2 * config.dim, config.dim)
                head["mlp"] = timm.layers.Mlp(*sizes, bias=(True, config.projection_bias))
        else:
            classes = 0 if config.projection == "none" else config.dim
            self.trunk = timm.create_model(config.name, num_classes=classes, global_pool=config.pool)
        for module in self.trunk.modules():
            if type(module) is nn.Conv2d:
                module.__class__ = ForeignConv2d
        self.head = nn.Sequential()
        for name, layer in head.items():
            self.head.add_module(name, layer)
        sizes_of_features = {"none": config.dim, "": self.trunk.head_hidden_size}  # "": what the classifier reads
        self.feature_dim: int = sizes_of_features.get(config.projection, self.trunk.num_features)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (n_images, 3, H, W), normalised -> (n_images, dim), not normalised."""
        embeddings: Tensor = self.head(self.trunk(pixels))
        return embeddings

    def features(self, pixels: Tensor) -> Tensor:
        """What is projected: (n_images, 3, H, W) -> (n_images, feature_dim)."""
        if self.config.projection == "":
            features: Tensor = self.trunk.forward_head(self.trunk.forward_features(pixels), pre_logits=True)
        else:
            features = self.trunk(pixels)
        return features
