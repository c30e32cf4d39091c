"""A digest of all that decides a model's vectors, and of nothing else: a hub snapshot, a copy and a mount have the same.

Weights are read whole, since a merged adapter, or a layer trained further, may differ in a few tensors only; they count by
what they are and not by how they are stored (`tensors.py`). Settings count without their spelling (`spelling.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from gristmill_schemas import Pooling
from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.encoder.model import spelling
from gristmill_worker.encoder.model.hashing import FileHashes
from gristmill_worker.encoder.model.modules import read_json
from gristmill_worker.encoder.model.tensors import combined, tensors_digest


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers loads: safetensors before `.bin`, one file before shards."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            return _shards(folder / f"{name}.index.json")
    return []


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelUnavailable(f"{index}: expected weight_map, the file of each tensor; fetch it again")
    files = [index.parent / str(name) for name in sorted(set(names.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise ModelUnavailable(
            f"{index.parent}: of {len(files)} weight files that {index.name} names, {len(missing)} are missing: "
            f"{', '.join(missing[:3])}; fetch the folder again"
        )
    return files


def model_digest(
    transformer: Path, layers: Iterable[Path] = (), *, code: bool = False, hashes: FileHashes | None = None
) -> str:
    """128 bits in hex over configuration, tokenizer and all weights of a model.

    Args:
        transformer: the folder of the transformer, or of static embeddings.
        layers: folders of the layers after pooling that have weights, in order.
        code: count the folder's Python files, which run.
        hashes: digests of files; None means those remembered in the user's cache folder.

    Raises:
        ModelUnavailable: a file cannot be read, or an index names files that are missing.
    """
    hashes = hashes or FileHashes()
    try:
        parts = {
            "settings": spelling.model_settings(read_json(transformer / "config.json"), own=code),
            "tokenizer": spelling.tokenizer_settings(transformer),
            "vocabulary": [_vocabulary(path, hashes) for path in spelling.vocabulary_files(transformer)],
            "weights": _weights(transformer, hashes),
            "layers": [_weights(layer, hashes) for layer in layers],
            "code": hashes.of(sorted(transformer.glob("**/*.py"))) if code else [],
        }
    except OSError as error:
        raise ModelUnavailable(f"{transformer}: expected readable files: {error}") from error
    return hashlib.sha256(spelling.canonical(parts)).hexdigest()[:32]


def _weights(folder: Path, hashes: FileHashes) -> str:
    return combined(hashes.of_value(path, partial(tensors_digest, path)) for path in weight_files(folder))


def _vocabulary(path: Path, hashes: FileHashes) -> str:
    return hashes.of_value(path, lambda: hashlib.sha256(spelling.vocabulary(path)).hexdigest())


def encoder_digest(content: str, pooling: Pooling, normalize: bool, max_tokens: int, *more: object) -> str:
    """128 bits in hex over a model's content and all that an override or a setting may change about its vectors.

    It names the queue, so two workers with the same files and different overrides never share one.
    """
    steps = json.dumps([content, pooling, normalize, max_tokens, *map(str, more)])
    return hashlib.sha256(steps.encode()).hexdigest()[:32]
