"""What an encoder on this machine is held against: the untouched model, and sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from gristmill_worker.batching.batcher import encode_all
from gristmill_worker.bench.encoder_bench import cosine_error
from gristmill_worker.encoder.base import Encoder, Vectors
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.load import Loaded, load, quiet_loading
from gristmill_worker.encoder.local.parity import MAX_DISTANCE, PINNED_TEXTS, cosine_distance
from gristmill_worker.encoder.model.prompts import PROMPT_END
from gristmill_worker.verify.rows import Row, at_most, not_applicable

#: Largest cosine distance to sentence-transformers, both in float32.
MAX_PEER_DISTANCE: Final = 1e-4
#: Tokens per pass of the float32 encoder, which is not there to be fast.
_BUDGET: Final = 1_024


def parity(encoder: Encoder, model: str, revision: str | None) -> Row:
    """The pass that runs, against the untouched model in float32 with one text at a time."""
    if not isinstance(encoder, TransformersEncoder):
        return not_applicable("parity", "the model does not run in this process")
    plain = load(model, revision=revision, device=encoder.device, dtype="float32")
    if isinstance(plain.model, torch.nn.EmbeddingBag):
        return not_applicable("parity", "static embeddings have one pass")
    worst = cosine_error(encoder, plain, list(PINNED_TEXTS))
    way = "packed" if encoder.packed else "padded"
    bound = MAX_DISTANCE[getattr(torch, encoder.dtype)]
    return at_most("parity", worst, bound, "cosine distance", f"{way} in {encoder.dtype} against float32 one by one")


def peer(encoder: Encoder, folder: Path | None, model: str, revision: str | None) -> Row:
    """encode_query and encode_document of sentence-transformers, in float32."""
    check = "sentence-transformers"
    if folder is None or not isinstance(encoder, TransformersEncoder):
        return not_applicable(check, "the model has no folder that it could load")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return not_applicable(check, "not installed: pip install 'gristmill[bench]'")
    ours = _exact(encoder, model, revision)
    try:
        with quiet_loading():
            theirs = SentenceTransformer(
                str(folder), device=encoder.device, local_files_only=True, model_kwargs={"dtype": torch.float32}
            )
    except Exception as error:  # noqa: BLE001  # whatever it raises at a folder, then there is nothing to compare with
        return not_applicable(check, f"it cannot load the model: {type(error).__name__}: {error}")
    worst = max(_distance(ours, theirs, query=query) for query in (True, False))
    why = "encode_query and encode_document, both sides in float32"
    return at_most(check, worst, MAX_PEER_DISTANCE, "cosine distance", why)


def _exact(encoder: TransformersEncoder, model: str, revision: str | None) -> TransformersEncoder:
    """The same model in float32."""
    if encoder.dtype == "float32":
        return encoder
    loaded: Loaded = load(model, revision=revision, device=encoder.device, dtype="float32")
    return TransformersEncoder(loaded, _BUDGET)


def _distance(ours: TransformersEncoder, theirs: Any, *, query: bool) -> float:
    templates = ours.info.templates
    fill = templates.for_query if query else templates.for_document
    name, encode = ("query", theirs.encode_query) if query else ("document", theirs.encode_document)
    # Prompts that a folder leaves unsaid we know from the model's card; sentence-transformers has to be told.
    prompt = None if theirs.prompts.get(name) else fill("").replace(PROMPT_END, "")
    theirs.max_seq_length = ours.info.max_tokens
    expected: Vectors = np.asarray(
        encode(list(PINNED_TEXTS), prompt=prompt, batch_size=1, show_progress_bar=False), dtype=np.float32
    )
    got = encode_all(ours, ours.tokenize([fill(text) for text in PINNED_TEXTS]))
    return max(0.0, cosine_distance(torch.from_numpy(got), torch.from_numpy(expected)))
