"""The peer of the encoder benchmark: sentence-transformers at its defaults, same model, device and number format."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder.base import Vectors
from gristmill_worker.encoder.local.load import Loaded, quiet_loading
from gristmill_worker.encoder.model.find import locate
from gristmill_worker.encoder.model.recipe import write_sentence_transformers

Peer = Callable[[Sequence[str]], Vectors]


@contextlib.contextmanager
def sentence_transformers_peer(plain: Loaded, model: str, dtype: str, attention: str | None = None) -> Iterator[Peer]:
    """A call that encodes texts with sentence-transformers.

    Args:
        plain: the same model, untouched; written to a scratch folder if `model` is not a folder or hub id.
        model: as the benchmark got it.
        dtype: number format of its weights.
        attention: transformers' name of the one to use; None leaves the default.

    Raises:
        InvalidInput: sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InvalidInput("peer: sentence-transformers is not installed: pip install 'gristmill[bench]'") from error
    import torch

    with tempfile.TemporaryDirectory() as scratch:
        # The very files that we load, whatever name they go by.
        source = _written(plain, Path(scratch)) if model.startswith("random:") else str(locate(model).folder)
        kwargs = {"dtype": getattr(torch, dtype), **({"attn_implementation": attention} if attention else {})}
        with quiet_loading():
            peer: Any = SentenceTransformer(source, device=str(plain.device), model_kwargs=kwargs)
        peer.max_seq_length = plain.info.max_tokens
        # Its weights would stay on the card for as long as the peer is asked.
        del plain

        def encode(texts: Sequence[str]) -> Vectors:
            out = peer.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
            return np.asarray(out, dtype=np.float32)

        yield encode


def _written(plain: Loaded, folder: Path) -> str:
    from transformers import PreTrainedTokenizerFast

    with quiet_loading():
        plain.model.save_pretrained(folder)
    kind: Any = PreTrainedTokenizerFast
    end = "<|endoftext|>"
    kind(tokenizer_object=plain.tokenizer.backend, pad_token=end, eos_token=end).save_pretrained(folder)
    write_sentence_transformers(folder, plain.info)
    return str(folder)
