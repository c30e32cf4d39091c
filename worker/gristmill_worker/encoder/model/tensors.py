"""A digest of weights by what they are: name, number format, shape and bytes of each tensor.

How they are stored does not count: one file or shards, in which order, safetensors or a pickle of tensors. Each tensor has
its SHA-256; a file's digest is their sum, and a model's the sum over its files, so that neither order nor borders matter.
(The hub's own SHA-256 is one of a whole file, which another cut or another header changes.) Costs about half a second per
gigabyte the first time; `hashing.py` remembers it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

#: Of safetensors' own names for number formats, those that pickles hold.
_FORMATS: Final = {
    "bfloat16": "BF16", "bool": "BOOL", "float16": "F16", "float32": "F32", "float64": "F64", "int16": "I16",
    "int32": "I32", "int64": "I64", "int8": "I8", "uint8": "U8",
}  # fmt: skip
_THREADS: Final = 4
_MODULUS: Final = 1 << 256

#: A tensor's name, number format and shape, and its bytes.
Tensor = tuple[str, str, list[int], Any]


def tensors_digest(path: Path) -> str:
    """256 bits in hex over the tensors of a file; over the file itself where it is broken, which loading will say."""
    try:
        return _sum(_stored(path) if path.suffix == ".safetensors" else _pickled(path))
    except OSError:
        raise
    except Exception:  # noqa: BLE001  # a broken header or pickle raises whatever it likes
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def combined(digests: Iterable[str]) -> str:
    """The digest of several files as that of one that holds all their tensors."""
    return f"{sum(int(digest, 16) for digest in digests) % _MODULUS:064x}"


def _sum(tensors: Iterable[Tensor]) -> str:
    with ThreadPoolExecutor(_THREADS, "gristmill-hashing") as threads:
        return combined(threads.map(_one, tensors))


def _one(tensor: Tensor) -> str:
    name, kind, shape, content = tensor
    digest = hashlib.sha256(json.dumps([name, kind, shape]).encode())
    digest.update(content)
    return digest.hexdigest()


def _stored(path: Path) -> Iterator[Tensor]:
    """A safetensors file: the length of the header in 8 bytes, the header as JSON, then the tensors' bytes."""
    content = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(content[:8].tobytes(), "little")
    header = json.loads(content[8:start].tobytes())
    header.pop("__metadata__", None)
    for name, each in header.items():
        first, last = each["data_offsets"]
        yield name, each["dtype"], each["shape"], content[start + first : start + last]


def _pickled(path: Path) -> Iterator[Tensor]:
    import torch

    for name, tensor in torch.load(path, map_location="cpu", weights_only=True, mmap=True).items():
        kind = str(tensor.dtype).removeprefix("torch.")
        content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        yield name, _FORMATS.get(kind, kind), [*tensor.shape], content
