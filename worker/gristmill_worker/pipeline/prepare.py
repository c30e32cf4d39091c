"""Documents become points: templates, tokens, chunks, vectors.

Tokenization runs here, in the task's own thread, for a whole parcel at once and ahead of the model; the vectors come from
the batcher, which mixes this parcel's texts with those of all others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gristmill.ledger import Claim
from gristmill.ledger.clock import LedgerClock
from gristmill.store.points import payload_of
from gristmill_schemas import CollectionSpec, PointSystem
from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.idle_clock import IdleClock, Stage
from gristmill_worker.batching.submission import Row, stacked
from gristmill_worker.encoder.base import Encoder, StaleTokens, TokenizedText
from gristmill_worker.encoder.pooling import cut
from gristmill_worker.metering.meter import ModelMeter, Source, Step
from gristmill_worker.pipeline.cutting import Cut, Cutter
from gristmill_worker.pipeline.fence import Task
from gristmill_worker.pipeline.sink import Point
from gristmill_worker.waiting.patience import Patience


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
        meter: ModelMeter | None = None,
        *,
        ready: Callable[[Claim], None] = lambda _: None,
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
            meter: of this model.
            ready: told of a claim whose documents go to the model now.
        """
        self._ready = ready
        self._meter = meter or ModelMeter()
        self._encoded = encoded
        self._wait_s = wait_s
        self._clock = clock
        self._encoder = encoder
        self._cutter = Cutter(encoder)
        self._batcher = batcher
        self._patience = patience
        self._idle = idle

    def prepare(
        self, spec: CollectionSpec, tasks: Sequence[Task], claim: Claim
    ) -> tuple[list[Prepared], list[tuple[Task, EncodingFailed]]]:
        """Encode documents; returns those that have their vectors, and those that failed, with the reason."""
        if not tasks:
            return [], []
        self._ready(claim)
        steps = self._meter.steps
        with self._idle.stage(Stage.TOKENS), steps[Step.TOKENIZE].timing():
            cuts, failed = self._cutter.cut(spec, tasks)
        progress = _counting(cuts, functools.partial(self._encoded, claim))
        with steps[Step.ENCODE].timing():
            rows = iter(self._encode([text for each in cuts for text in each.texts], progress))
        encoded: list[Cut] = []
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
            reading = self._meter.reading(Source.BULK)
            told = self._batcher.submit(
                [texts[i] for i in missing],
                # Mostly all are missing, and these are asked for one by one.
                encoded=progress if len(missing) == len(texts) else lambda place: progress(missing[place]),
                launched=reading.launched,
            )
            answers = told.result()
            done = [texts[i].n_tokens for i, row in zip(missing, answers, strict=True) if isinstance(row, np.ndarray)]
            reading.done(len(done), sum(done))
            rows.update((i, row) for i, row in zip(missing, answers, strict=True) if not isinstance(row, Unavailable))
            if away := next((row for row in answers if isinstance(row, Unavailable)), None):
                raise away

        self._patience.call(attempt, at_most_s=self._wait_s)
        return [rows[index] for index in range(len(texts))]


def _counting(cuts: Sequence[Cut], told: Callable[[int], None]) -> Callable[[int], None]:
    """A function of a text's place among all texts: tells the tokens of each document whose last text it is."""
    owners = [number for number, each in enumerate(cuts) for _ in each.texts]
    left = [len(each.texts) for each in cuts]

    def encoded(place: int) -> None:
        owner = owners[place]
        left[owner] -= 1
        if not left[owner]:
            told(cuts[owner].tokens)

    return encoded


def _points(
    spec: CollectionSpec, cuts: Sequence[Cut], vectors: npt.NDArray[np.float32], claim: Claim, stored_at: float
) -> list[Prepared]:
    """Documents with their vectors, float32 (sum of texts, D), as they are to be written."""
    rows = iter(vectors.reshape(-1, len(spec.vectors), spec.space.dimensions))
    # What all points of a parcel say alike; each is a changed copy.
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
    spec: CollectionSpec, each: Cut, vectors: Sequence[npt.NDArray[np.float32]], common: PointSystem
) -> Prepared:
    task, document, spans = each.task, each.task.document, each.spans
    tokens, truncated = each.tokens, each.truncated
    points, systems = [], {}
    for chunk, (views, span, line) in enumerate(zip(vectors, spans, each.above, strict=True)):
        system = common.varied(
            {
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
        text = payload[spec.text_key]
        text_bytes = len(text) if text.isascii() else len(text.encode())
        size = task.metadata_bytes + text_bytes * (1 + spec.keyword) + 4 * len(line)
        points.append(Point(point, views, payload, task.version, chunk, size))
        systems[point] = system
    return Prepared(task, tuple(points), systems, tokens, truncated)
