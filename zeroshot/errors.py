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
import sys


class ZeroShotError(Exception):
    """Base of every error raised on purpose by this library.

    Examples
    --------
    >>> import zeroshot
    >>> try:
    ...     zeroshot.load_prompts("food")
    ... except zeroshot.ZeroShotError as error:
    ...     print(type(error).__name__, isinstance(error, FileNotFoundError))
    PromptNotFoundError True
    """


class LabelError(ZeroShotError, ValueError):
    """The labels cannot be used: empty, blank, or one string in place of a list.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.classify("cat.jpg", "cat", model="mini")
    Traceback (most recent call last):
    ...
    zeroshot.errors.LabelError: labels is the string 'cat'; expected a list of names, such as ['cat', 'something else']
    """


class PromptError(ZeroShotError, ValueError):
    """A template or prompt file cannot be used.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.PromptSet(("a photo of a cat.",))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.PromptError: template 'a photo of a cat.' has 0 slots; expected exactly one {}, ...
    """


class PromptNotFoundError(PromptError, FileNotFoundError):
    """No prompt set of that name is shipped and no file of that path exists.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.load_prompts("food")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.PromptNotFoundError: 'food' is no shipped prompt set and no file; did you mean 'food101'? ...
    """


class ImageError(ZeroShotError, ValueError):
    """An image cannot be decoded, or has a shape, dtype or size that cannot be used.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.classify(b"no picture", ["cat", "dog"], model="mini")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.ImageError: the image of 10 bytes is no image that Pillow can read; ...
    """


class ImageNotFoundError(ImageError, FileNotFoundError):
    """No file at that path.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.classify("nowhere.jpg", ["cat", "dog"], model="mini")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.ImageNotFoundError: no image at 'nowhere.jpg'; check the path (the working folder is ...)
    """


class ModelNotFoundError(ZeroShotError, LookupError):
    """The model name is in no registry and is no path.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.load("ViT-B-32/opnai")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.ModelNotFoundError: no model is called 'ViT-B-32/opnai', ... Near names: ViT-B-32/openai, ...
    """


class CheckpointError(ZeroShotError, ValueError):
    """Weights or configuration of a checkpoint cannot be used.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.load("README.md")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.CheckpointError: README.md begins with ...; expected a safetensors file or an archive of torch. ...
    """


class CheckpointNotFoundError(CheckpointError, FileNotFoundError):
    """A checkpoint folder, or a file that it must hold, does not exist.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.load("./no/such/folder")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.CheckpointNotFoundError: ./no/such/folder does not exist; expected a checkpoint folder ...
    """


class HubError(ZeroShotError, ConnectionError):
    """The weights hub cannot be reached, or does not have what was asked for.

    Examples
    --------
    >>> import zeroshot
    >>> # without a network, and not in the cache:
    >>> zeroshot.load("ViT-B-32/openai")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.HubError: 'ViT-B-32/openai' is not in the cache, or not all of it, and could not be fetched ...
    """


class HeadError(ZeroShotError, ValueError):
    """A saved head, or a file of embeddings, is damaged or does not belong to the encoder.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.Head.load("README.md")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.HeadError: README.md cannot be read as a head: ...; build it again, or check the path
    """


class DeviceError(ZeroShotError, RuntimeError):
    """The device or precision asked for is not available.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.load("mini", device="cuda:99")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    zeroshot.errors.DeviceError: device 'cuda:99' is not available here: ...
    """


class OptionError(ZeroShotError, ValueError):
    """An option is out of its range.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.classify("cat.jpg", ["cat", "dog"], model="mini", top_k=0)
    Traceback (most recent call last):
    ...
    zeroshot.errors.OptionError: top_k is 0; expected a whole number of at least 1
    """


class MissingExtraError(ZeroShotError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it.

    Examples
    --------
    >>> issubclass(MissingExtraError, ImportError)  # "…: pip install 'zeroshot-clip[timm]'"
    True
    """


class InputTypeError(ZeroShotError, TypeError):
    """An argument has a type that is never accepted there.

    Examples
    --------
    >>> import zeroshot
    >>> zeroshot.classify("cat.jpg", 3, model="mini")
    Traceback (most recent call last):
    ...
    zeroshot.errors.InputTypeError: labels is 3 of type int; expected a list of names
    """


def check_positive(name: str, value: object) -> int:
    """Return `value` as an int if it is a whole number of at least 1.

    Parameters
    ----------
    name : str
        What the message calls it.
    value : object

    Returns
    -------
    int

    Raises
    ------
    OptionError
        If it is not; the message has its name.

    Examples
    --------
    >>> check_positive("top_k", 5)
    5
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
        raise OptionError(f"{name} is {value!r}; expected a whole number of at least 1")
    return operator.index(value)


def levels_to_caller() -> int:
    """Return how far up the stack the first frame outside this package is: the line that the person wrote.

    Returns
    -------
    int
        For `warnings.warn`, as its ``stacklevel``.

    Examples
    --------
    >>> levels_to_caller() >= 1
    True
    """
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame = frame.f_back
        level += 1
    return level
