"""Documents become points: templates, tokens, chunks, vectors.

Tokenization runs here, in the task's own thread, for a whole parcel at once and ahead of the model; the vectors come from
the batcher, which mixes this parcel's texts with those of all others.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gristmill.ledger import Claim
from gristmill.ledger.clock import LedgerClock
from gristmill.store.points import payload_of
from gristmill_schemas import ChunkContext, Chunking, CollectionSpec, LongTexts, PointSystem
from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_schemas.limits import MAX_CHUNKS
from gristmill_schemas.point import under_context
from gristmill_worker.batching.batcher import Batcher, Row, stacked
from gristmill_worker.batching.idle_clock import IdleClock, Stage
from gristmill_worker.encoder.base import Encoder, StaleTokens, TokenizedText
from gristmill_worker.encoder.pooling import cut
from gristmill_worker.pipeline.context import Contexts
from gristmill_worker.pipeline.fence import Task
from gristmill_worker.pipeline.sink import Point
from gristmill_worker.waiting.patience import Patience

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Tokens by which a text and its instruction may have more together than apart.
_SEAM = 4
#: Least tokens of a chunk, as in `Chunking.size`.
_LEAST_ROOM = 16

#: What ends the process or the wait, and says nothing about a text.
_NOT_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit, Unavailable)


@dataclass(slots=True)
class Prepared:
    """One document, encoded."""

    task: Task
    #: One per chunk, in order.
    points: tuple[Point, ...]
    #: What each point says of itself, by its id.
    systems: dict[str, PointSystem]
    #: Tokens that went through the model.
    tokens: int
    truncated: bool


@dataclass(slots=True)
class _Cut:
    """One document, tokenized."""

    task: Task
    #: Chunk by chunk, and of each as the collection's `vectors` have it: plain, then under each lens.
    texts: list[TokenizedText]
    #: Characters that each chunk covers.
    spans: list[tuple[int, int]]
    #: What stands above each chunk.
    above: Sequence[str]


class TextTooLong(EncodingFailed):
    """The collection refuses texts that do not fit, and this one does not."""


class Preparer:
    """Turns documents into points. Shared by all task threads."""

    def __init__(
        self,
        encoder: Encoder,
        batcher: Batcher,
        patience: Patience,
        idle: IdleClock,
        clock: LedgerClock,
        wait_s: float,
        encoded: Callable[[Claim, int], None],
    ) -> None:
        """Keep what all parcels share.

        Args:
            encoder: tokenizes here.
            batcher: gives vectors.
            patience: repeats what a server that is away has not answered.
            idle: told which stage this is.
            clock: says when a point was made.
            wait_s: longest wait of a task thread for a model server; what takes longer frees the thread, and comes back.
            encoded: told for each document of a claim, and with its tokens, that it has all its vectors.
        """
        self._encoded = encoded
        self._wait_s = wait_s
        self._clock = clock
        self._encoder = encoder
        self._contexts = Contexts(encoder)
        self._batcher = batcher
        self._patience = patience
        self._idle = idle

    def prepare(
        self, spec: CollectionSpec, tasks: Sequence[Task], claim: Claim
    ) -> tuple[list[Prepared], list[tuple[Task, EncodingFailed]]]:
        """Encode documents; returns those that have their vectors, and those that failed, with the reason."""
        if not tasks:
            return [], []
        with self._idle.stage(Stage.TOKENS):
            cuts, failed = self._tokenize(spec, tasks)
        progress = _counting(cuts, lambda tokens: self._encoded(claim, tokens))
        rows = iter(self._encode([text for each in cuts for text in each.texts], progress))
        encoded: list[_Cut] = []
        theirs: list[Row] = []
        for each in cuts:
            its = [next(rows) for _ in each.texts]
            error = next((row for row in its if isinstance(row, EncodingFailed)), None)
            if error is not None:
                failed.append((each.task, error))
            else:
                encoded.append(each)
                theirs += its
        vectors = cut(
            stacked(theirs, self._encoder.info.dimensions), spec.space.dimensions, normalize=spec.space.normalize
        )
        prepared = _points(spec, encoded, vectors, claim, self._clock.now())
        if stale := [task for task, error in failed if isinstance(error, StaleTokens)]:
            # Ends: what is tokenized now says whether it fits, and is stale again only if the window has shrunk again.
            anew, failed_anew = self.prepare(spec, stale, claim)
            return prepared + anew, [each for each in failed if not isinstance(each[1], StaleTokens)] + failed_anew
        return prepared, failed

    def _encode(self, texts: Sequence[TokenizedText], progress: Callable[[int], None]) -> list[Row]:
        """A row per text. While the model's server is away this waits, and then asks only for what is still missing."""
        rows: dict[int, Row] = {}

        def attempt() -> None:
            missing = [index for index in range(len(texts)) if index not in rows]
            told = self._batcher.submit([texts[i] for i in missing], encoded=lambda place: progress(missing[place]))
            answers = told.result()
            rows.update((i, row) for i, row in zip(missing, answers, strict=True) if not isinstance(row, Unavailable))
            if away := next((row for row in answers if isinstance(row, Unavailable)), None):
                raise away

        self._patience.call(attempt, at_most_s=self._wait_s)
        return [rows[index] for index in range(len(texts))]

    def _tokenize(
        self, spec: CollectionSpec, tasks: Sequence[Task]
    ) -> tuple[list[_Cut], list[tuple[Task, EncodingFailed]]]:
        policy, views = spec.chunking, _views(spec)
        read, failed = self._under_contexts(policy, tasks)
        tokens = self._tokens([view(under_context(line, task.document.text)) for task, line in read for view in views])
        whole = [tokens[start : start + len(views)] for start in range(0, len(tokens), len(views))]
        cuts: list[_Cut] = []
        for (task, line), found in zip(read, whole, strict=True):
            try:
                cuts.append(self._cut(spec, task, _all_of(found), line))
            except EncodingFailed as error:
                failed.append((task, error))
        return cuts, failed

    def _cut(self, spec: CollectionSpec, task: Task, texts: list[TokenizedText], line: str) -> _Cut:
        """One document by the collection's policy for long texts, given what it is as a whole: one text per vector."""
        policy, chunks = spec.chunking.long_texts, spec.chunking.long_texts is LongTexts.CHUNK
        limit = min(spec.chunking.size, spec.space.max_tokens)
        beyond = next((place for place, each in enumerate(texts) if each.truncated), None)
        # How a document is cut depends on its plain text, and not on how long the instructions of lenses are.
        fits = beyond is None and (not chunks or texts[0].n_tokens <= limit)
        if not fits and chunks:
            return self._chunk(spec, task, limit)
        if beyond is not None and policy is LongTexts.REFUSE:
            under = f" under lens {spec.vectors[beyond]!r}" if beyond else ""
            raise TextTooLong(
                f"text: expected at most {texts[beyond].n_tokens} tokens{under}, got more; it was refused"
            )
        return _Cut(task, texts, [(0, len(task.document.text))], [line])

    def _tokens(self, texts: Sequence[str]) -> list[TokenizedText | EncodingFailed]:
        """Tokens of each text, or why it has none."""
        try:
            return list(_native(lambda: self._encoder.tokenize(texts)))
        except EncodingFailed as error:
            if len(texts) == 1:
                return [error]
            log.warning("the tokenizer failed at one of %d texts: trying each alone", len(texts))
        return [each for text in texts for each in self._tokens([text])]

    def _chunk(self, spec: CollectionSpec, task: Task, limit: int) -> _Cut:
        text, policy = task.document.text, spec.chunking
        overlap, reserved = min(policy.overlap, limit // 2), self._contexts.reserved(policy) + self._reserved(spec)
        spans = _native(lambda: self._encoder.chunk(text, limit, overlap, policy.by, reserved))
        if len(spans) > MAX_CHUNKS:
            raise TextTooLong(f"text: expected at most {MAX_CHUNKS} chunks, got {len(spans)}")
        above = _native(lambda: self._contexts.of(policy, task.document, spans))
        texts = self._tokens_below(spec, text, spans, above)
        # What does not fit under its context, which is rare, goes without: only what stands above it may be left out.
        each = len(spec.vectors)
        beyond = [any(item.truncated for item in texts[at : at + each]) for at in range(0, len(texts), each)]
        if any(line and cut_off for line, cut_off in zip(above, beyond, strict=True)):
            above = ["" if cut_off else line for line, cut_off in zip(above, beyond, strict=True)]
            texts = self._tokens_below(spec, text, spans, above)
        return _Cut(task, texts, _closed(spans, len(text)), above)

    def _tokens_below(
        self, spec: CollectionSpec, text: str, spans: Sequence[tuple[int, int]], above: Sequence[str]
    ) -> list[TokenizedText]:
        views = _views(spec)
        parts = [under_context(line, text[a:b]) for line, (a, b) in zip(above, spans, strict=True)]
        return _native(lambda: self._encoder.tokenize([view(part) for part in parts for view in views]))

    def _under_contexts(
        self, policy: Chunking, tasks: Sequence[Task]
    ) -> tuple[list[tuple[Task, str]], list[tuple[Task, EncodingFailed]]]:
        """What stands above each document, were it not cut; and those of which it cannot be read."""
        if policy.context is ChunkContext.NONE:
            return [(task, "") for task in tasks], []
        read: list[tuple[Task, str]] = []
        failed: list[tuple[Task, EncodingFailed]] = []
        for task in tasks:
            document = task.document
            try:
                lines = _native(functools.partial(self._contexts.of, policy, document, [(0, len(document.text))]))
                read.append((task, lines[0]))
            except EncodingFailed as error:
                failed.append((task, error))
        return read, failed

    def _reserved(self, spec: CollectionSpec) -> int:
        """Tokens of the window that the longest instruction of a lens takes beyond what a plain document needs."""
        if not spec.lenses:
            return 0
        plain, *instructed = _native(lambda: self._encoder.tokenize([view("") for view in _views(spec)]))
        longest = max(range(len(instructed)), key=lambda place: instructed[place].n_tokens)
        reserved = max(instructed[longest].n_tokens - plain.n_tokens + _SEAM, 0)
        if instructed[longest].truncated or spec.space.max_tokens - reserved < _LEAST_ROOM:
            raise TextTooLong(
                f"lenses.{spec.lenses[longest].name}: its document instruction leaves less than {_LEAST_ROOM} of the "
                f"model's {spec.space.max_tokens} tokens for a text: a collection with a shorter one can hold this document"
            )
        return reserved


def _views(spec: CollectionSpec) -> list[Callable[[str], str]]:
    """What makes model input of a text, for each of the collection's vectors."""
    instructions = (None, *(lens.document for lens in spec.lenses))
    return [functools.partial(spec.space.templates.for_document, instruction=each) for each in instructions]


def _all_of(found: Sequence[TokenizedText | EncodingFailed]) -> list[TokenizedText]:
    """Texts of one document, or the error of one of them."""
    texts = []
    for each in found:
        if isinstance(each, EncodingFailed):
            raise each
        texts.append(each)
    return texts


def _counting(cuts: Sequence[_Cut], told: Callable[[int], None]) -> Callable[[int], None]:
    """A function of a text's place among all texts: tells the tokens of each document whose last text it is."""
    owners = [number for number, each in enumerate(cuts) for _ in each.texts]
    left = [len(each.texts) for each in cuts]

    def encoded(place: int) -> None:
        owner = owners[place]
        left[owner] -= 1
        if not left[owner]:
            told(sum(text.n_tokens for text in cuts[owner].texts))

    return encoded


def _native(call: Callable[[], T]) -> T:
    """Call native code of a tokenizer, which panics at some texts; a panic is no `Exception`, and would end the thread."""
    try:
        return call()
    except _NOT_OURS:
        raise
    except BaseException as error:
        raise EncodingFailed(f"the tokenizer failed: {type(error).__name__}: {error}") from error


def _closed(spans: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Spans that cover the whole text: white space that the splitter left out goes to the chunk before it.

    It is stored, not encoded: only so can the text be put together again from its chunks, character by character.
    """
    starts = [0, *(start for start, _ in spans[1:]), length]
    return [(start, max(end, after)) for start, (_, end), after in zip(starts, spans, starts[1:], strict=False)]


def _points(
    spec: CollectionSpec, cuts: Sequence[_Cut], vectors: npt.NDArray[np.float32], claim: Claim, stored_at: float
) -> list[Prepared]:
    """Documents with their vectors, float32 (sum of texts, D), as they are to be written."""
    rows = iter(vectors.reshape(-1, len(spec.vectors), spec.space.dimensions))
    # What all points of a parcel say alike; each is a changed copy, which costs a third of a record made anew.
    common = PointSystem(
        id="",
        version=0,
        chunk=0,
        text_hash="",
        etag="",
        space=spec.fingerprint,
        job=claim.parcel.job_id,
        stored_at=stored_at,
        attempts=claim.attempts,
    )
    return [_prepared(spec, each, [next(rows) for _ in each.spans], common) for each in cuts]


def _prepared(
    spec: CollectionSpec, each: _Cut, vectors: Sequence[npt.NDArray[np.float32]], common: PointSystem
) -> Prepared:
    task, document, spans = each.task, each.task.document, each.spans
    tokens = sum(text.n_tokens for text in each.texts)
    truncated = any(text.truncated for text in each.texts)
    points, systems = [], {}
    for chunk, (views, span, line) in enumerate(zip(vectors, spans, each.above, strict=True)):
        system = common.model_copy(
            update={
                "id": document.id,
                "tenant": document.tenant,
                "version": task.version,
                "chunk": chunk,
                "chunks": len(spans),
                "span": span if len(spans) > 1 else None,
                "context": line,
                "text_hash": task.text_hash,
                "etag": task.etag,
                "truncated": truncated,
                "tokens": tokens,
            }
        )
        point = task.point_id(chunk)
        payload = payload_of(spec, document, system)
        # The text goes a second time where Qdrant shall take its words from it, and what stands above it with it.
        size = task.metadata_bytes + len(payload[spec.text_key].encode()) * (1 + spec.keyword) + 4 * len(line)
        points.append(Point(point, views, payload, task.version, chunk, size))
        systems[point] = system
    return Prepared(task, tuple(points), systems, tokens, truncated)
