"""What any encoder can be asked: published scores, example pairs, instructions, memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from gristmill_worker.encoder.base import REMOTE, Encoder, Vectors
from gristmill_worker.encoder.model.known_checks import TOLERANCE, KnownModel, run_check
from gristmill_worker.verify.pairs import LANGUAGES, Pair
from gristmill_worker.verify.rows import Row, at_least, at_most, not_applicable

#: Largest cosine between the vectors of one text under two instructions.
MAX_SAME: Final = 0.9999
_LENSES: Final = ("Given a complaint, find the department that answers it", "Group texts by the language they are in")
#: Names of models whose weights mean nothing.
_MEANINGLESS: Final = ("random:", "hash:", "card:")


def published(encoder: Encoder, known: KnownModel | None) -> Row:
    """The model card's own example, through our templates."""
    if known is None:
        return not_applicable("published scores", "no published check known for this model")
    found = run_check(encoder, known)
    return at_most("published scores", found.worst, TOLERANCE.get(encoder.dtype, 0.02), "off", found.describe())


def retrieval(encoder: Encoder, pairs: Sequence[Pair], bound: float) -> Iterator[Row]:
    """For each language, how many questions find their own passage first among all passages."""
    if encoder.info.model.startswith(_MEANINGLESS):
        yield not_applicable("example pairs", f"the weights of {encoder.info.model} mean nothing")
        return
    templates = encoder.info.templates
    questions = _unit(encoder, [templates.for_query(pair.question) for pair in pairs])
    passages = _unit(encoder, [templates.for_document(pair.passage) for pair in pairs])
    first = (questions @ passages.T).argmax(axis=1)
    for language in dict.fromkeys(pair.language for pair in pairs):
        places = [place for place, pair in enumerate(pairs) if pair.language == language]
        missed = [pairs[place].question for place in places if first[place] != place]
        share = 1 - len(missed) / len(places)
        why = f"{len(places)} questions, {len(pairs)} passages" + (f"; missed: {' | '.join(missed)}" if missed else "")
        yield at_least(f"example pairs, {LANGUAGES[language]}", share, bound, "found first", why)


def lenses(encoder: Encoder) -> Row:
    """One text under two instructions has two vectors, as a query and as a document."""
    if not encoder.info.instruction_aware:
        return not_applicable("lenses", "the model was not trained to follow instructions")
    templates, text = encoder.info.templates, "The parcel came late, and the box was open."
    kinds = (templates.for_query, templates.for_document)
    vectors = _unit(encoder, [kind(text, lens) for kind in kinds for lens in _LENSES])
    cosine = max(float(vectors[0] @ vectors[1]), float(vectors[2] @ vectors[3]))
    return at_most("lenses", cosine, MAX_SAME, "cosine", "one text under two instructions, as query and as document")


def memory(encoder: Encoder, bound_gb: float) -> Row:
    """The most memory so far: of the card where the model runs on one, else of this process.

    To find the budget, batches many times as large are tried on a card: that is over when the first text comes.
    """
    if encoder.device == REMOTE:
        return not_applicable("memory", "the model runs behind a server")
    if encoder.device.startswith("cuda"):
        import torch

        used = torch.cuda.max_memory_allocated(encoder.device)
        return at_most("memory", used / 1e9, bound_gb, "GB", "allocated on the card, measuring the budget left out")
    unit = 1 if sys.platform == "darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return at_most("memory", used / 1e9, bound_gb, "GB", "resident, the whole process, start-up included")


def _unit(encoder: Encoder, texts: list[str]) -> Vectors:
    from gristmill_worker.batching.batcher import encode_all

    vectors = encode_all(encoder, encoder.tokenize(texts))
    unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
