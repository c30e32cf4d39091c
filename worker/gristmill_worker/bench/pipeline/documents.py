"""The documents of the benchmark: made once, kept in a file, read by every side; and points as they lie in Qdrant."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qdrant_client import QdrantClient

from gristmill.store.connection import store_errors
from gristmill_schemas import Document, EncoderInfo

#: Longer paragraphs would be cut into several points.
_LONGEST = 1_200
_PAGE = 256


def make_documents(encoder: str, count: int, tokens: int | None = None) -> list[Document]:
    """Always the same: short made-up texts for a stand-in, real paragraphs for a model. Each is one point.

    Args:
        encoder: what they are for.
        count: how many.
        tokens: of each, about, as `random:qwen3-0.6b` reads them; None takes texts as they come.
    """
    if tokens is not None:
        texts: Iterator[str] = _of_length(count, tokens)
    else:
        texts = map(_made_up, itertools.count()) if encoder.startswith("hash:") else _real()
    return [
        Document(id=str(number), text=text, metadata={"number": number, "lang": "en"})
        for number, text in zip(range(count), texts, strict=False)
    ]


def _of_length(count: int, tokens: int) -> Iterator[str]:
    from gristmill_worker.bench.corpus import even_texts
    from gristmill_worker.encoder.local.random_model import build_tokenizer

    texts = even_texts(count, tokens, build_tokenizer(2 * tokens).count)
    # Two of them may begin at one place.
    yield from (f"{number}: {text}" for number, text in enumerate(texts))


def _made_up(number: int) -> str:
    return f"Paragraph {number} of a text that is about as long as those that people embed most often. " * 3


def _real() -> Iterator[str]:
    from gristmill_worker.demo.paragraphs import paragraphs

    once = []
    for document in paragraphs():
        if len(document.text) <= _LONGEST:
            once.append(document.text)
            yield document.text
    for again in itertools.count(2):
        yield from (f"{text} ({again})" for text in once)


def share_of(documents: Sequence[Document], share: int, shares: int) -> list[Document]:
    """One of several shares, in its old order: each holds as many documents (one more or less), of the same lengths.

    By length, the longest first, they are dealt out to and fro: every second one may be much more work than the rest.
    """
    longest = sorted(range(len(documents)), key=lambda number: (-len(documents[number].text), number))
    turns = itertools.cycle([*range(shares), *reversed(range(shares))])
    own = sorted(number for number, turn in zip(longest, turns, strict=False) if turn == share)
    return [documents[number] for number in own]


def model_inputs(documents: Sequence[Document], info: EncoderInfo) -> list[str]:
    """What a worker has a model encode: of e5, two or three tokens more than the text in each."""
    return [info.templates.for_document(each.text) for each in documents]


def write_documents(path: Path, documents: Sequence[Document]) -> None:
    """One JSON object per line."""
    path.write_text("".join(f"{each.model_dump_json(exclude_none=True)}\n" for each in documents), encoding="utf-8")


def read_documents(path: Path) -> list[Document]:
    """What `write_documents` wrote."""
    with path.open(encoding="utf-8") as lines:
        return [Document.model_validate_json(line) for line in lines]


class PointsFile:
    """Points of a collection in a folder: ids, whole payloads, and vectors float32 (N, D)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._payloads, self._vectors = folder / "payloads.json", folder / "vectors.npy"

    def copy(self, store: QdrantClient, collection: str) -> None:
        """Take every point of the collection as it lies there."""
        pairs: list[tuple[str, Any]] = []
        vectors: list[npt.NDArray[np.float32]] = []
        page: Any = None
        while True:
            with store_errors(collection):
                points, page = store.scroll(collection, limit=_PAGE, offset=page, with_payload=True, with_vectors=True)
            pairs += [(str(point.id), point.payload) for point in points]
            vectors += [np.asarray(point.vector, dtype=np.float32) for point in points]
            if page is None:
                break
        self._payloads.write_text(json.dumps(pairs), encoding="utf-8")
        np.save(self._vectors, np.stack(vectors))

    def read(self) -> tuple[list[str], list[dict[str, Any]], npt.NDArray[np.float32]]:
        """Ids, payloads and vectors, in the same order."""
        pairs = json.loads(self._payloads.read_text(encoding="utf-8"))
        return [each for each, _ in pairs], [payload for _, payload in pairs], np.load(self._vectors)
