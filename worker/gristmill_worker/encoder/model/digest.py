"""A content digest of a model folder: the same files give the same digest in a hub snapshot, a copy or a mount.

Weights are sampled, not read whole: each safetensors header (names, shapes, offsets) and 16 blocks of 64 KiB spread
over each file. Fine-tuning moves every tensor, so another model has another digest; an edit that misses all blocks
would not be seen. About 1 ms per gigabyte instead of a second, so that a worker starts quickly.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from gristmill_schemas import Pooling

_BLOCK_BYTES: Final = 64 * 1024
_BLOCKS: Final = 16
#: Everything that decides how text becomes tokens.
_TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
#: Keys of config.json that change with the tool that wrote it and not with the model.
_VOLATILE: Final = frozenset(
    {"_name_or_path", "transformers_version", "torch_dtype", "dtype", "_attn_implementation_autoset"}
)


def weight_files(folder: Path) -> list[Path]:
    """The weight files that transformers would load, sorted by name: safetensors if there are any, else `.bin`."""
    found = sorted(folder.glob("model*.safetensors"))
    return found or sorted(folder.glob("pytorch_model*.bin"))


def _module_weights(folder: Path) -> list[Path]:
    """Weights of the modules that have a folder of their own: `2_Dense`, `0_StaticEmbedding`."""
    return sorted(
        path for name in ("model.safetensors", "pytorch_model.bin") for path in folder.glob(f"[0-9]*_*/{name}")
    )


def model_digest(folder: Path) -> str:
    """128 bits in hex over configuration, tokenizer, post-processing modules and sampled weights of a model folder."""
    state = hashlib.sha256()
    for name, content in sorted(_small_parts(folder).items()):
        state.update(f"{name}:{len(content)}\n".encode())
        state.update(content)
    for path in [*weight_files(folder), *_module_weights(folder)]:
        _add_weights(state, path)
    return state.hexdigest()[:32]


def encoder_digest(content: str, pooling: Pooling, normalize: bool, max_tokens: int, *more: object) -> str:
    """128 bits in hex over a model's content and all that an override or a setting may change about its vectors.

    It names the queue, so two workers with the same files and different overrides never share one.
    """
    return hashlib.sha256(":".join(map(str, (content, pooling, normalize, max_tokens, *more))).encode()).hexdigest()[
        :32
    ]


def _small_parts(folder: Path) -> dict[str, bytes]:
    parts = {name: (folder / name).read_bytes() for name in _TOKENIZER_FILES if (folder / name).is_file()}
    for name in ("config.json", "modules.json", "1_Pooling/config.json"):
        if (folder / name).is_file():
            parts[name] = _canonical(folder / name)
    return parts


def _canonical(path: Path) -> bytes:
    """A JSON file without what depends on the writing tool, so that re-saving does not make another model."""
    value: Any = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(value, dict):
        value = {key: item for key, item in value.items() if key not in _VOLATILE}
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add_weights(state: hashlib._Hash, path: Path) -> None:
    size = path.stat().st_size
    state.update(f"{path.name}:{size}\n".encode())
    with path.open("rb") as file:
        if path.suffix == ".safetensors":
            # Layout: 8 bytes little-endian header length, then the JSON header.
            length = int.from_bytes(file.read(8), "little")
            state.update(file.read(min(length, size)))
        for index in range(_BLOCKS):
            file.seek(index * max(0, size - _BLOCK_BYTES) // (_BLOCKS - 1))
            state.update(file.read(_BLOCK_BYTES))
