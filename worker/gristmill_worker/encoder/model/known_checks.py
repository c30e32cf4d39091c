"""Published results of known models: proof that weights, templates, pooling and kernels are as their authors meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gristmill_worker.encoder.base import Encoder
from gristmill_worker.encoder.model.families import QWEN3_TASK


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A check that a model's authors published."""

    #: Hub id, matched by its last part.
    model: str
    task: str
    queries: tuple[str, ...]
    documents: tuple[str, ...]
    #: Cosines, one row per query.
    scores: tuple[tuple[float, ...], ...]


#: From the model card of Qwen/Qwen3-Embedding-0.6B.
KNOWN_MODELS: Final = (
    KnownModel(
        "Qwen/Qwen3-Embedding-0.6B",
        QWEN3_TASK,
        ("What is the capital of China?", "Explain gravity"),
        (
            "The capital of China is Beijing.",
            "Gravity is a force that attracts two bodies towards each other. It gives weight to physical objects and is "
            "responsible for the movement of planets around the sun.",
        ),
        ((0.7646, 0.1414), (0.1355, 0.6000)),
    ),
)
#: Largest difference from a published score, by number format; the card's own were computed in float16 or bfloat16.
TOLERANCE: Final = {"float32": 0.01, "bfloat16": 0.02, "float16": 0.01}


@dataclass(frozen=True, slots=True)
class KnownCheck:
    """How a loaded model compares with what its authors published."""

    model: str
    expected: tuple[tuple[float, ...], ...]
    #: Cosines that this encoder gives, float32 rounded to four digits.
    got: tuple[tuple[float, ...], ...]
    #: Largest absolute difference.
    worst: float
    ok: bool

    def describe(self) -> str:
        """One line for people."""
        verdict = "as published" if self.ok else "NOT as published: wrong weights, template, pooling or kernel"
        return f"{self.model}: scores {self.got}, published {self.expected}, off by {self.worst:.4f}: {verdict}"


def check_known_model(encoder: Encoder) -> KnownCheck | None:
    """Repeat the published check of a loaded model; None where none is known for it."""
    known = known_model(encoder.info.model)
    return None if known is None else run_check(encoder, known)


def known_model(model: str) -> KnownModel | None:
    """The published check of the model that a hub id or a folder's name tells of."""
    name = model.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
    return next((item for item in KNOWN_MODELS if item.model.rsplit("/", 1)[-1].lower() in name), None)


def run_check(encoder: Encoder, known: KnownModel) -> KnownCheck:
    """Encode a check's queries and documents through the encoder's own templates and compare the cosines."""
    templates = encoder.info.templates
    texts = [templates.for_query(query, known.task) for query in known.queries]
    texts += [templates.for_document(document) for document in known.documents]
    vectors = encoder.encode(encoder.tokenize(texts))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    cosines = unit[: len(known.queries)] @ unit[len(known.queries) :].T
    worst = float(np.abs(cosines - np.array(known.scores)).max())
    got = tuple(tuple(round(float(value), 4) for value in row) for row in cosines)
    return KnownCheck(known.model, known.scores, got, worst, worst <= TOLERANCE.get(encoder.dtype, 0.02))
