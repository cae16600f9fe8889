"""Every error the library raises on purpose.

Each one is a `ZeroShotError` and also the built-in that a caller would expect::

    ZeroShotError (Exception)
    ├── LabelError            (ValueError)         empty, blank or malformed labels
    ├── PromptError           (ValueError)         a template or a prompt file that cannot be used
    │   └── PromptNotFoundError (FileNotFoundError)
    ├── ImageError            (ValueError)         an image that cannot be decoded or has an unusable shape
    │   └── ImageNotFoundError  (FileNotFoundError)
    ├── ModelNotFoundError    (LookupError)        a model name that is in no registry
    ├── CheckpointError       (ValueError)         weights or a configuration that do not fit
    │   └── CheckpointNotFoundError (FileNotFoundError)
    ├── HubError              (ConnectionError)    the weights hub cannot be reached
    ├── HeadError             (ValueError)         a head, or kept embeddings, damaged or of another encoder
    ├── DeviceError           (RuntimeError)       a device that this machine does not have
    ├── OptionError           (ValueError)         a keyword argument or option out of its range
    ├── MissingExtraError     (ImportError)        an optional dependency that is not installed
    └── InputTypeError        (TypeError)          an argument of a type that is never accepted

A message says what came, what was expected, and how to mend it.
"""

from __future__ import annotations

import operator


class ZeroShotError(Exception):
    """Base of every error raised on purpose by this library."""


class LabelError(ZeroShotError, ValueError):
    """The labels cannot be used: empty, blank, or one string in place of a list."""


class PromptError(ZeroShotError, ValueError):
    """A template or prompt file cannot be used."""


class PromptNotFoundError(PromptError, FileNotFoundError):
    """No prompt set of that name is shipped and no file of that path exists."""


class ImageError(ZeroShotError, ValueError):
    """An image cannot be decoded, or has a shape, dtype or size that cannot be used."""


class ImageNotFoundError(ImageError, FileNotFoundError):
    """No file at that path."""


class ModelNotFoundError(ZeroShotError, LookupError):
    """The model name is in no registry and is no path."""


class CheckpointError(ZeroShotError, ValueError):
    """Weights or configuration of a checkpoint cannot be used."""


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A checkpoint folder, or a file that it must hold, does not exist."""


class HubError(ZeroShotError, ConnectionError):
    """The weights hub cannot be reached, or does not have what was asked for."""


class HeadError(ZeroShotError, ValueError):
    """A saved head, or a file of embeddings, is damaged or does not belong to the encoder."""


class DeviceError(ZeroShotError, RuntimeError):
    """The device or precision asked for is not available."""


class OptionError(ZeroShotError, ValueError):
    """An option is out of its range."""


class MissingExtraError(ZeroShotError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class InputTypeError(ZeroShotError, TypeError):
    """An argument has a type that is never accepted there."""


def check_positive(name: str, value: object) -> int:
    """Return `value` as an int if it is a whole number of at least 1.

    Raises
    ------
    OptionError
        If it is not; the message has its name.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
        raise OptionError(f"{name} is {value!r}; expected a whole number of at least 1")
    return operator.index(value)
