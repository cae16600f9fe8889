"""Classify images by naming the classes.

>>> import zeroshot
>>> zeroshot.classify("examples/images/cat.jpg", ["cat", "dog", "car"], model="mini").label
'cat'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroshot import adapters as adapters
    from zeroshot import engines as engines
    from zeroshot import errors as errors
    from zeroshot import metrics as metrics
    from zeroshot import tokenizer as tokenizer
    from zeroshot.classifier import Classifier as Classifier
    from zeroshot.classifier import classify as classify
    from zeroshot.clip import load as load
    from zeroshot.encoder import Encoder as Encoder
    from zeroshot.errors import ZeroShotError as ZeroShotError
    from zeroshot.evaluation import evaluate as evaluate
    from zeroshot.head import Head as Head
    from zeroshot.head import build_head as build_head
    from zeroshot.prediction import Match as Match
    from zeroshot.prediction import Prediction as Prediction
    from zeroshot.probe import fit_probe as fit_probe
    from zeroshot.prompts import PromptSet as PromptSet
    from zeroshot.prompts import available_prompts as available_prompts
    from zeroshot.prompts import load_prompts as load_prompts
    from zeroshot.registry import available_models as available_models

__version__ = "0.1.0"

# Name -> module. Resolved at first use, so that `import zeroshot` costs next to nothing and does not import torch.
_HOME = {
    "Classifier": "zeroshot.classifier",
    "Encoder": "zeroshot.encoder",
    "Head": "zeroshot.head",
    "Match": "zeroshot.prediction",
    "Prediction": "zeroshot.prediction",
    "PromptSet": "zeroshot.prompts",
    "ZeroShotError": "zeroshot.errors",
    "available_models": "zeroshot.registry",
    "available_prompts": "zeroshot.prompts",
    "build_head": "zeroshot.head",
    "classify": "zeroshot.classifier",
    "evaluate": "zeroshot.evaluation",
    "fit_probe": "zeroshot.probe",
    "load": "zeroshot.clip",
    "load_prompts": "zeroshot.prompts",
}
_MODULES = ("adapters", "engines", "errors", "metrics", "tokenizer")

__all__ = [
    "Classifier",
    "Encoder",
    "Head",
    "Match",
    "Prediction",
    "PromptSet",
    "ZeroShotError",
    "adapters",
    "available_models",
    "available_prompts",
    "build_head",
    "classify",
    "engines",
    "errors",
    "evaluate",
    "fit_probe",
    "load",
    "load_prompts",
    "metrics",
    "tokenizer",
]


if not TYPE_CHECKING:  # a type checker would take it for a promise of any name, and let misspelt ones pass

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            value = getattr(import_module(_HOME[name]), name)
        elif name in _MODULES:
            value = import_module(f"zeroshot.{name}")
        else:
            raise AttributeError(f"module 'zeroshot' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
