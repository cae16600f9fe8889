"""The archives of `make_openai.py`, byte for byte as torch wrote them: what was left out is filled in again."""

from __future__ import annotations

import gzip
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from golden import weights

FOLDER = Path(__file__).parent
GOLDEN: dict[str, Any] = json.loads((FOLDER / "openai.json").read_text(encoding="ascii"))
MODELS: dict[str, dict[str, Any]] = GOLDEN["models"]


@lru_cache(maxsize=2)  # each has some ten megabytes
def openai_archive(name: str) -> bytes:
    """Return the content of an archive: a key of `MODELS`."""
    content = bytearray(gzip.decompress((FOLDER / f"openai_{name}.pt.gz").read_bytes()))
    for tensor, (dtype, shape, offset) in MODELS[name]["tensors"].items():
        values = weights.fill(tensor, shape).astype(dtype).tobytes()
        content[offset : offset + len(values)] = values
    digest = hashlib.sha256(content).hexdigest()
    assert digest == MODELS[name]["sha256"], "the weights were filled otherwise than when the archive was made"
    return bytes(content)
