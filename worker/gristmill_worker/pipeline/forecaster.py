"""What would become of documents: the pipeline's reading, deciding and cutting, without encoding and writing.

    look ─► decide ─► tokenize, cut
    Qdrant  fence     `cutting`, with the model's tokenizer and none of its weights

Where the model's tokenizer cannot be had here, or is another model's, lengths are estimated, and `inexact` says why.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

from qdrant_client import QdrantClient

from gristmill.ingest.estimating.forecast import Forecast
from gristmill.ledger import Ledger
from gristmill.settings import ClientSettings, load_settings
from gristmill_schemas import CollectionSpec, Document, EncoderInfo, Outcome, PointSystem, VectorSpace
from gristmill_schemas.errors import EncodingFailed, GristmillError
from gristmill_worker.batching.idle_clock import IdleClock
from gristmill_worker.encoder.base import TextReader
from gristmill_worker.encoder.model.recipe import Overrides
from gristmill_worker.encoder.open import open_reader
from gristmill_worker.encoder.rough import RoughReader
from gristmill_worker.pipeline.cutting import Cut, Cutter
from gristmill_worker.pipeline.fence import Action, Held, Task, decide
from gristmill_worker.pipeline.pipeline import held, squatted
from gristmill_worker.pipeline.sink import Sink
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting.patience import Patience

#: No job has it: what is there already was stored by another.
_NO_JOB = ""
#: What of a text beyond the window is looked at, to find out how much of it is read.
_MOST_CHARS_PER_TOKEN = 16
_ENDS = {Action.YIELD: Outcome.SUPERSEDED, Action.SETTLE: Outcome.SKIPPED, Action.TOUCH: Outcome.SKIPPED}


class WorkerForecaster:
    """See `gristmill.ingest.estimating.forecast.Forecaster`."""

    def __init__(
        self, spec: CollectionSpec, reader: TextReader, inexact: str | None, sink: Sink | None, ledger: Ledger
    ) -> None:
        """Nothing is read yet.

        Args:
            spec: the collection.
            reader: counts and cuts.
            inexact: why what it counts is an estimate.
            sink: reads what is there; None where the collection is not.
            ledger: knows deletions, and the time.
        """
        self.inexact = inexact
        self._spec = spec
        self._reader = reader
        self._cutter = Cutter(reader)
        self._sink = sink
        self._ledger = ledger
        #: Of documents that bring none.
        self._version = int(ledger.now() * 1_000_000)

    def forecast(self, documents: Sequence[Document]) -> list[Forecast]:
        """See the protocol."""
        tasks = [self._task(document) for document in documents]
        ended: dict[str, Forecast] = {}
        for task, there in zip(tasks, self._held(tasks), strict=True):
            if (end := self._without_encoding(task, there)) is not None:
                ended[task.key] = end
        cuts, failed = self._cutter.cut(self._spec, [task for task in tasks if task.key not in ended])
        ended |= {each.task.key: self._stored(each) for each in cuts}
        ended |= {task.key: _dead(task.document, _told(error)) for task, error in failed}
        return [ended[task.key] for task in tasks]

    def _task(self, document: Document) -> Task:
        version = self._version if document.version is None else document.version
        return Task(document, version, _NO_JOB, self._spec.chunking)

    def _held(self, tasks: Sequence[Task]) -> list[Held]:
        if self._sink is None:
            return [Held(None, None) for _ in tasks]
        older = {task.key: task.version for task in tasks}
        sightings = self._sink.look(self._spec, tasks, leftovers=False, unchanged=older)
        return held(tasks, sightings, self._ledger.tombstones(self._spec.key, [task.key for task in tasks]))

    def _without_encoding(self, task: Task, there: Held) -> Forecast | None:
        if there.squatter is not None:
            return _dead(task.document, f"ForeignPoint: {squatted(there.squatter)}")
        action = decide(task, there, self._spec.fingerprint)
        if action is Action.ENCODE:
            return None
        if action is Action.METADATA and isinstance(there.stored, PointSystem):
            stored = there.stored
            return Forecast(task.document, Outcome.STORED, chunks=stored.chunks, truncated=stored.truncated)
        return Forecast(task.document, _ENDS[action])

    def _stored(self, each: Cut) -> Forecast:
        return Forecast(
            each.task.document,
            Outcome.STORED,
            each.tokens,
            len(each.spans),
            each.truncated,
            written=True,
            stored_chars=sum([end - start for start, end in each.spans]),
            inputs=functools.partial(self._inputs, each),
        )

    def _inputs(self, each: Cut) -> list[tuple[str, int]]:
        return [(item.text, item.n_tokens) if not item.truncated else self._read_part(item.text) for item in each.texts]

    def _read_part(self, text: str) -> tuple[str, int]:
        """Of a text beyond the window about as much as is read: queries are never cut, so it would be refused whole."""
        window = self._reader.info.max_tokens
        start, end = self._reader.chunk(text[: _MOST_CHARS_PER_TOKEN * window], window, 0)[0]
        (part,) = self._reader.tokenize([text[start:end]])
        return part.text, part.n_tokens


class WorkerForecasting:
    """See `gristmill.ingest.estimating.forecast.Forecasting`."""

    def __init__(self, settings: ClientSettings) -> None:
        given = {name: getattr(settings, name) for name in settings.model_fields_set}
        self._settings = settings if isinstance(settings, WorkerSettings) else load_settings(WorkerSettings, **given)

    def info(self, model: str) -> EncoderInfo:
        """See the protocol. The weights have to be here, since they decide the model's digest."""
        own = self._settings
        overrides = Overrides(own.pooling, max_tokens=own.max_tokens, trust_remote_code=own.trust_remote_code)
        return self._read(model, own.revision, overrides).info

    def open(self, spec: CollectionSpec, store: QdrantClient | None, ledger: Ledger) -> WorkerForecaster:
        """See the protocol."""
        reader, inexact = self._reader(spec.space)
        # No wait for a store that is away: whoever asks is there to hear it.
        sink = None if store is None else Sink(store, Patience(threading.Event()), IdleClock(), 0.0)
        return WorkerForecaster(spec, reader, inexact, sink, ledger)

    def _reader(self, space: VectorSpace) -> tuple[TextReader, str | None]:
        """What counts as the workers do; or what estimates, and why."""
        code = self._settings.trust_remote_code
        overrides = Overrides(space.pooling, space.normalize, space.max_tokens, trust_remote_code=code)
        try:
            reader = self._read(space.model, space.revision, overrides, space.model_digest)
        except GristmillError as error:
            return RoughReader(_info(space)), str(error)
        return reader, None

    def _read(self, model: str, revision: str | None, overrides: Overrides, digest: str | None = None) -> TextReader:
        key = self._settings.remote_api_key
        secret = key.get_secret_value() if key else None
        return open_reader(model, revision=revision, overrides=overrides, api_key=secret, digest=digest)


def _info(space: VectorSpace) -> EncoderInfo:
    return EncoderInfo(
        model=space.model,
        digest=space.model_digest,
        pooling=space.pooling,
        dimensions=space.dimensions,
        max_tokens=space.max_tokens,
        templates=space.templates,
    )


def _told(error: EncodingFailed) -> str:
    return f"{type(error).__name__}: {error}"


def _dead(document: Document, reason: str) -> Forecast:
    return Forecast(document, Outcome.DEAD, reason=reason)
