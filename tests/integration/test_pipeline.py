"""One parcel's way through the worker, in Qdrant's local mode and on the real server: the same tests, the same answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pytest
from qdrant_client import models

from gristmill.store.connection import store_errors
from gristmill_schemas import (
    ChunkContext,
    CollectionSpec,
    Deletion,
    Document,
    JobReport,
    LongTexts,
    Outcome,
    PointSystem,
)
from gristmill_schemas.errors import StoreRefused, StoreUnavailable
from gristmill_worker.batching.canary import CANARY_TEXTS
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline.handler import Handled
from interleaving import CHUNK_WORDS, Order, Stage
from places import PLACES, store_of
from services import QdrantServer


class Counting(HashEncoder):
    """Counts the texts that it encodes; some it cannot."""

    def __init__(self) -> None:
        super().__init__(4, max_tokens=64)
        self.encoded: list[str] = []

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        if any("POISON" in item.text for item in batch):
            raise RuntimeError("it burns")
        self.encoded += [item.text for item in batch if item.text not in CANARY_TEXTS]
        return super().encode(batch)


MakeStage = Callable[..., Stage]


@pytest.fixture(params=PLACES)
def make_stage(request: pytest.FixtureRequest, collection_name: str) -> Iterator[MakeStage]:
    with ExitStack() as closing:

        def make(**options: Any) -> Stage:
            encoder = options.pop("encoder", None) or Counting()
            made = Stage(store_of(request), name=collection_name, encoder=encoder, **options)
            closing.callback(made.close)
            return made

        yield make


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    return make_stage()


def encoded(stage: Stage) -> list[str]:
    """What was encoded since the last look."""
    assert isinstance(stage.encoder, Counting)
    texts, stage.encoder.encoded = stage.encoder.encoded, []
    return texts


def counts(report: JobReport) -> dict[str, int]:
    """The outcomes that occurred."""
    assert report.pending == 0
    return {outcome.value: count for outcome in Outcome if (count := getattr(report, outcome))}


def words(count: int, letter: str = "w") -> str:
    return " ".join(f"{letter}{n}" for n in range(count))


def held(stage: Stage) -> dict[tuple[str, int], PointSystem]:
    return {key: system for key, (system, _) in stage.points().items()}


# storing


def test_a_new_document_is_stored_with_all_that_describes_it(stage: Stage) -> None:
    report = stage.deliver(Document(id="a", text="good rye", metadata={"lang": "en"}, tenant="t", version=7))
    assert counts(report) == {"stored": 1}
    assert (report.tokens, report.chunks) == (2, 1)
    (system,) = held(stage).values()
    assert (system.id, system.tenant, system.version, system.chunks) == ("a", "t", 7, 1)
    assert (system.space, system.job) == (stage.spec.space.fingerprint, report.job_id)
    (point,), _ = stage.store.scroll(stage.name, with_payload=True, with_vectors=True)
    assert point.payload is not None
    assert (point.payload["lang"], point.payload["text"]) == ("en", "good rye")
    vector = HashEncoder.encode(stage.encoder, stage.encoder.tokenize(["good rye"]))[0]  # type: ignore[arg-type]  # Counting
    assert point.vector == pytest.approx(vector.tolist(), abs=1e-6)


def test_an_unchanged_document_is_skipped_and_its_version_moves_up(stage: Stage) -> None:
    stage.deliver(Document(id="a", text="rye", version=1))
    encoded(stage)
    assert counts(stage.deliver(Document(id="a", text="rye", version=5))) == {"skipped": 1}
    assert encoded(stage) == []
    assert held(stage)["a", 0].version == 5
    assert counts(stage.deliver(Document(id="a", text="late", version=4))) == {"superseded": 1}


def test_changed_metadata_is_stored_without_encoding(stage: Stage) -> None:
    text = words(3 * CHUNK_WORDS)
    stage.deliver(Document(id="a", text=text, metadata={"old": 1}))
    encoded(stage)
    report = stage.deliver(Document(id="a", text=text, metadata={"new": {"deep": [2]}}))
    assert counts(report) == {"stored": 1}
    assert encoded(stage) == []
    points, _ = stage.store.scroll(stage.name, with_payload=True)
    payloads = [point.payload or {} for point in points]
    assert len(payloads) == 3
    assert all(payload["new"] == {"deep": [2]} and "old" not in payload for payload in payloads)
    assert {system.version for system in held(stage).values()} == {max(s.version for s in held(stage).values())}
    assert "".join(part for _, (_, part) in sorted(stage.points().items())) == text


def test_changed_text_replaces_the_old_one(stage: Stage) -> None:
    stage.deliver(Document(id="a", text=words(3 * CHUNK_WORDS)))
    assert counts(stage.deliver(Document(id="a", text="short"))) == {"stored": 1}
    assert [(key, text) for key, (_, text) in stage.points().items()] == [(("a", 0), "short")]


def test_an_older_version_is_superseded(stage: Stage) -> None:
    stage.deliver(Document(id="a", text="new", version=9))
    encoded(stage)
    assert counts(stage.deliver(Document(id="a", text="old", version=8))) == {"superseded": 1}
    assert encoded(stage) == []
    assert stage.points()["a", 0][1] == "new"


def test_every_outcome_within_one_parcel(stage: Stage) -> None:
    stage.deliver(Document(id="same", text="s"), Document(id="older", text="n", version=2**53 - 1))
    report = stage.deliver(
        Document(id="same", text="s"),
        Document(id="older", text="o"),
        Document(id="new", text="n"),
        Document(id="bad", text="POISON"),
    )
    assert counts(report) == {"stored": 1, "skipped": 1, "superseded": 1, "dead": 1}


def test_a_parcel_of_many_versions_is_stored(stage: Stage) -> None:
    documents = [Document(id=str(n), text=f"text {n}", version=n % 5) for n in range(64)]
    assert counts(stage.deliver(*documents)) == {"stored": 64}
    assert {key[0]: system.version for key, system in held(stage).items()} == {str(n): n % 5 for n in range(64)}


def test_tenants_do_not_share_documents(stage: Stage) -> None:
    stage.deliver(Document(id="a", text="mine", tenant="x"), Document(id="a", text="yours", tenant="y"))
    stage.deliver(Document(id="a", text="nobody's"))
    assert counts(stage.deliver(Deletion(id="a", tenant="x"))) == {"deleted": 1}
    points, _ = stage.store.scroll(stage.name, with_payload=True)
    assert sorted((point.payload or {})["text"] for point in points) == ["nobody's", "yours"]


def test_more_messages_than_parcels_count_once(stage: Stage) -> None:
    stage.accept([Document(id="a", text="rye")])
    pipeline = stage.pipeline()
    assert [pipeline.process() for _ in range(3)] == [Handled.DONE, Handled.NONE, Handled.NONE]
    assert len(encoded(stage)) == 1
    assert counts(stage.reports()[0]) == {"stored": 1}


def test_what_a_killed_worker_had_written_is_not_encoded_again(stage: Stage) -> None:
    killed = stage.take(Document(id="a", text="rye")).stop_before("finish")
    killed.step(Order.DIE_BEFORE)
    encoded(stage)
    stage.deliver_again(killed).finish()
    assert encoded(stage) == []
    assert counts(stage.reports()[0]) == {"stored": 1}


def test_what_a_killed_worker_had_written_is_counted_as_if_it_had_lived(stage: Stage) -> None:
    documents = [Document(id="short", text="rye"), Document(id="long", text=words(3 * CHUNK_WORDS))]
    lived = stage.deliver(*documents)
    stage.deliver(*(Deletion(id=each.id) for each in documents))
    killed = stage.take(*documents).stop_before("finish")
    killed.step(Order.DIE_BEFORE)
    stage.deliver_again(killed).finish()
    again = stage.reports()[-1]
    assert (again.stored, again.chunks, again.tokens) == (lived.stored, lived.chunks, lived.tokens) == (2, 4, 49)


def test_what_a_killed_worker_had_cut_is_counted_as_cut(make_stage: MakeStage) -> None:
    stage = make_stage(long_texts=LongTexts.TRUNCATE)
    killed = stage.take(Document(id="a", text=words(100))).stop_before("finish")
    killed.step(Order.DIE_BEFORE)
    stage.deliver_again(killed).finish()
    (report,) = stage.reports()
    assert (report.stored, report.truncated, report.chunks, report.tokens) == (1, 1, 1, 64)


def test_new_metadata_counts_the_documents_points_and_no_tokens_even_after_a_kill(stage: Stage) -> None:
    text = words(3 * CHUNK_WORDS)
    stage.deliver(Document(id="a", text=text, metadata={"n": 1}))
    killed = stage.take(Document(id="a", text=text, metadata={"n": 2})).stop_before("finish")
    killed.step(Order.DIE_BEFORE)
    stage.deliver_again(killed).finish()
    lived = stage.deliver(Document(id="a", text=text, metadata={"n": 3}))
    assert [(each.stored, each.chunks, each.tokens) for each in (stage.reports()[1], lived)] == [(1, 3, 0)] * 2


# deleting


def test_a_deletion_removes_every_chunk_and_holds_back_late_writes(stage: Stage) -> None:
    stage.deliver(Document(id="a", text=words(3 * CHUNK_WORDS), version=1))
    assert counts(stage.deliver(Deletion(id="a", version=5))) == {"deleted": 1}
    assert stage.points() == {}
    assert counts(stage.deliver(Document(id="a", text="late", version=5))) == {"superseded": 1}
    assert stage.points() == {}
    assert counts(stage.deliver(Document(id="a", text="reborn", version=6))) == {"stored": 1}


def test_a_late_deletion_spares_what_is_newer(stage: Stage) -> None:
    stage.deliver(Document(id="a", text="new", version=9))
    assert counts(stage.deliver(Deletion(id="a", version=8))) == {"superseded": 1}
    assert stage.points()["a", 0][1] == "new"


def test_deleting_what_is_not_there_is_no_error_and_no_deletion(stage: Stage) -> None:
    stage.deliver(Document(id="a", text="rye"), Document(id="b", text="rye", tenant="x"))
    report = stage.deliver(*(Deletion(id=each) for each in "abc"))
    assert counts(report) == {"deleted": 1, "absent": 2}
    assert counts(stage.deliver(Document(id="c", text="late", version=1))) == {"superseded": 1}


@pytest.mark.parametrize("last", ["batch_update_points", "retrieve", "finish"])
def test_what_a_killed_worker_had_deleted_is_counted_as_deleted(stage: Stage, last: str) -> None:
    stage.deliver(Document(id="a", text=words(3 * CHUNK_WORDS)))
    killed = stage.take(Deletion(id="a"), Deletion(id="b")).stop_before("note_found")
    killed.step()
    killed.stop_before(last).step(Order.DIE_AFTER if last != "finish" else Order.DIE_BEFORE)
    assert stage.points() == {}
    stage.deliver_again(killed).finish()
    assert counts(stage.reports()[-1]) == {"deleted": 1, "absent": 1}


def test_what_was_deleted_is_counted_as_deleted_also_by_the_parts_of_a_parcel(stage: Stage) -> None:
    stage.deliver(Document(id="a", text="rye"))
    killed = stage.take(Deletion(id="a"), Deletion(id="b")).stop_before("batch_update_points")
    killed.step(Order.DIE_AFTER)
    claim = stage.ledger.claim(stage.encoder.info.digest, 60) or killed.claim
    assert claim is not None
    assert stage.ledger.split(claim, claim.parcel.split(), attempts=1)
    stage.work_off()
    assert counts(stage.reports()[-1]) == {"deleted": 1, "absent": 1}


def test_who_lost_a_deletion_to_another_leaves_it_to_him(stage: Stage) -> None:
    stage.deliver(Document(id="a", text="rye"))
    robbed = stage.take(Deletion(id="a")).stop_before("note_found")
    other = stage.deliver_again(robbed).stop_before("retrieve")
    robbed.finish()
    assert stage.points(), "he would find nothing, and say that nothing was there"
    other.finish()
    assert (stage.points(), counts(stage.reports()[-1])) == ({}, {"deleted": 1})


# failing


def test_a_document_that_cannot_be_encoded_dies_alone_with_its_reason(stage: Stage) -> None:
    documents = [Document(id=str(n), text="POISON" if n == 7 else f"fine {n}") for n in range(20)]
    report = stage.deliver(*documents)
    assert counts(report) == {"stored": 19, "dead": 1}
    (letter,) = stage.ledger.dead_letters(10)
    assert letter.document == documents[7]
    assert (letter.error, letter.reason, letter.attempts) == ("EncodingFailed", "RuntimeError: it burns", 1)


def test_a_document_dies_if_one_of_its_chunks_cannot_be_encoded(stage: Stage) -> None:
    text = f"{words(2 * CHUNK_WORDS)} POISON {words(CHUNK_WORDS)}"
    assert counts(stage.deliver(Document(id="a", text=text), Document(id="b", text="fine"))) == {"stored": 1, "dead": 1}
    assert list(stage.points()) == [("b", 0)]


def test_a_text_over_the_window_is_refused_or_cut_as_the_collection_says(make_stage: MakeStage) -> None:
    refusing = make_stage(long_texts=LongTexts.REFUSE)
    assert counts(refusing.deliver(Document(id="a", text=words(65)), Document(id="b", text="ok"))) == {
        "stored": 1,
        "dead": 1,
    }
    assert refusing.ledger.dead_letters(1)[0].error == "TextTooLong"


def test_a_truncated_text_is_reported(make_stage: MakeStage) -> None:
    report = make_stage(long_texts=LongTexts.TRUNCATE).deliver(Document(id="a", text=words(65)))
    assert (counts(report), report.truncated, report.tokens) == ({"stored": 1}, 1, 64)


def test_the_documents_of_a_collection_that_was_deleted_on_purpose_are_gone_and_not_dead(stage: Stage) -> None:
    stage.accept([Document(id="a", text="t"), Document(id="b", text="t")])
    stage.collections.delete(stage.name)
    assert stage.pipeline().process() is Handled.DONE
    assert counts(stage.reports()[0]) == {"gone": 2}
    assert stage.ledger.dead_letters(10) == []


def test_a_collection_deleted_between_look_and_write_is_gone_too(stage: Stage) -> None:
    actor = stage.take(Document(id="a", text="t")).stop_before("upsert")
    stage.collections.delete(stage.name)
    actor.finish()
    stage.work_off()
    assert counts(stage.reports()[0]) == {"gone": 1}


@pytest.mark.usefixtures("long_rests")
def test_in_a_store_without_any_of_our_collections_everything_waits(stage: Stage) -> None:
    """A wrong address, or a wiped server: nobody has deleted anything on purpose."""
    stage.accept([Document(id="a", text="t")])
    stage.store.delete_collection(stage.name)
    handler = stage.pipeline()
    for _ in range(5):
        assert handler.process() is Handled.LATER
        assert handler.pause.lasts, "others may have it"
    (report,) = stage.reports()
    assert (report.pending, report.dead, report.gone) == (1, 0, 0)
    (notice,) = stage.notices(handler)
    assert "GRISTMILL_QDRANT_URL" in notice
    stage.collections.create(stage.spec)
    stage.work_off(handler)
    assert counts(stage.reports()[0]) == {"stored": 1}
    assert stage.notices(handler) == []


def test_a_parcel_of_a_collection_that_is_another_models_by_now_goes_to_that_models_queue(stage: Stage) -> None:
    stage.accept([Document(id="a", text="t")])
    stage.collections.delete(stage.name)
    other = HashEncoder(8)
    stage.collections.create(stage.spec.model_copy(update={"space": other.info.space()}))
    assert stage.pipeline().process() is Handled.DONE
    (report,) = stage.reports()
    assert (report.pending, report.dead) == (1, 0)
    assert stage.ledger.backlog(stage.encoder.info.digest) == 0
    claim = stage.ledger.claim(other.info.digest, 60)
    assert claim is not None
    assert (claim.parcel.model_digest, claim.attempts) == (other.info.digest, 1)


class Broken:
    """A store, one of whose methods fails so often."""

    #: Not a server\'s client as it stands: every write goes through here.
    _client = None

    def __init__(self, store: Any, method: str, error: Exception, times: int) -> None:
        self._store, self._method, self._error, self.left = store, method, error, times

    def __getattr__(self, name: str) -> Any:
        if name == self._method and self.left:
            self.left -= 1
            raise self._error
        return getattr(self._store, name)


@pytest.mark.parametrize("method", ["retrieve", "upsert", "batch_update_points"])
def test_a_store_that_is_away_costs_no_attempt_and_no_document(stage: Stage, method: str) -> None:
    stage.deliver(Document(id="a", text=words(2 * CHUNK_WORDS)))
    broken: Any = Broken(stage.store, method, StoreUnavailable("away", retry_after_s=0.001), times=3)
    stage.accept([Document(id="a", text="short"), Document(id="b", text="t")])
    assert stage.pipeline(broken, server_wait_s=60).process() is Handled.DONE
    assert broken.left == 0
    assert counts(stage.reports()[-1]) == {"stored": 2}
    assert {system.attempts for system in held(stage).values()} == {1}


def test_a_draining_worker_gives_back_what_waits_for_the_store_and_refunds_the_attempt(stage: Stage) -> None:
    draining = threading.Event()
    draining.set()
    broken: Any = Broken(stage.store, "retrieve", StoreUnavailable("away"), times=10**6)
    stage.accept([Document(id="a", text="t")])
    assert stage.pipeline(broken, draining=draining).process() is Handled.LATER
    assert stage.pipeline().process() is Handled.DONE
    assert held(stage)["a", 0].attempts == 1


class Buggy:
    """A store behind a bug of ours that shows at a certain text."""

    #: Not a server\'s client as it stands: every write goes through here.
    _client = None

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def upsert(self, name: str, points: list[Any], **rest: Any) -> None:
        if any("BUG" in str(point.payload) for point in points):
            raise ZeroDivisionError("in the sink")
        self._store.upsert(name, points, **rest)


def test_after_the_last_attempt_a_parcel_is_split_and_the_culprit_dies_with_the_last_error(
    make_stage: MakeStage,
) -> None:
    stage = make_stage(max_attempts=3)
    stage.accept([Document(id="bad", text="BUG"), *(Document(id=str(n), text=f"t{n}") for n in range(5))])
    buggy: Any = Buggy(stage.store)
    stage.work_off(stage.pipeline(buggy))
    assert counts(stage.reports()[0]) == {"stored": 5, "dead": 1}
    (letter,) = stage.ledger.dead_letters(10)
    assert (letter.error, letter.reason) == ("AttemptsExhausted", "ZeroDivisionError: in the sink")
    assert letter.document is not None
    assert letter.document.id == "bad"


def test_a_tokenizer_that_panics_costs_the_one_text_that_it_panics_at(make_stage: MakeStage) -> None:
    class Panic(BaseException):
        """As native code raises it."""

    class Panicking(Counting):
        def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
            if any("PANIC" in text for text in texts):
                raise Panic("index out of bounds")
            return super().tokenize(texts)

    stage = make_stage(encoder=Panicking())
    report = stage.deliver(Document(id="bad", text="PANIC"), *(Document(id=str(n), text=f"t{n}") for n in range(5)))
    assert counts(report) == {"stored": 5, "dead": 1}
    (letter,) = stage.ledger.dead_letters(10)
    assert (letter.error, letter.attempts) == ("EncodingFailed", 1)
    assert "Panic: index out of bounds" in letter.reason
    titled = stage.spec.chunking.model_copy(update={"context": ChunkContext.TITLE})
    stage.collections.update(stage.spec.model_copy(update={"chunking": titled}))
    documents = [Document(id=str(n), text=f"new {n}", metadata={"title": f"t{n}"}) for n in range(5)]
    bad = Document(id="bad", text="good", metadata={"title": "PANIC"})
    assert counts(stage.deliver(bad, *documents)) == {"stored": 5, "dead": 1}


class Refusing:
    """A store that refuses requests with a certain chunk, as Qdrant would a value that it cannot hold."""

    #: Not a server\'s client as it stands: every write goes through here.
    _client = None

    def __init__(self, store: Any, word: str) -> None:
        self._store, self._word = store, word

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def upsert(self, name: str, points: list[Any], **rest: Any) -> None:
        if any(self._word in str(point.payload) for point in points):
            raise StoreRefused("it says no")
        self._store.upsert(name, points, **rest)


@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_document_refused_in_part_leaves_no_part_behind(stage: Stage, chunk: int) -> None:
    picky: Any = Refusing(stage.store, f"w{chunk * CHUNK_WORDS} ")
    bad = Document(id="a", text=words(3 * CHUNK_WORDS))
    stage.accept([bad, Document(id="b", text="fine")])
    assert stage.pipeline(picky).process() is Handled.DONE
    assert counts(stage.reports()[0]) == {"stored": 1, "dead": 1}
    assert list(stage.points()) == [("b", 0)]
    letter = stage.ledger.dead_letters(1)[0]
    assert (letter.error, letter.reason) == ("StoreRefused", "it says no")
    assert counts(stage.deliver(bad.model_copy(update={"version": letter.version}))) == {"stored": 1}
    assert len(stage.points()) == 4


@pytest.mark.parametrize("over", ["server", "rest"])
def test_a_server_that_takes_only_small_requests_gets_small_ones(
    qdrant_server: QdrantServer, collection_name: str, over: str
) -> None:
    with closing(Stage(qdrant_server.client(prefer_grpc=over == "server"), name=collection_name)) as stage:
        strict = models.StrictModeConfig(enabled=True, upsert_max_batchsize=3)
        stage.store.update_collection(stage.name, strict_mode_config=strict)
        documents = [Document(id=str(n), text=f"text {n}") for n in range(20)]
        assert counts(stage.deliver(*documents)) == {"stored": 20}


@pytest.mark.parametrize("over", ["server", "rest"])
def test_a_server_that_limits_our_rate_says_when_to_come_back(
    qdrant_server: QdrantServer, collection_name: str, over: str
) -> None:
    with closing(Stage(qdrant_server.client(prefer_grpc=over == "server"), name=collection_name)) as stage:
        strict = models.StrictModeConfig(enabled=True, read_rate_limit=1)
        stage.store.update_collection(stage.name, strict_mode_config=strict)
        stage.store.retrieve(stage.name, ids=[1])
        with pytest.raises(StoreUnavailable, match="limit") as caught, store_errors(stage.name):
            stage.store.retrieve(stage.name, ids=[1])
        assert caught.value.retry_after_s is not None
        assert 0 < caught.value.retry_after_s <= 60


# newer


def test_a_parcel_whose_collection_is_a_newer_gristmills_waits_and_loses_no_attempt(stage: Stage) -> None:
    metadata = {**stage.spec.described(), "format": CollectionSpec.FORMAT + 1}
    stage.store.update_collection(stage.name, metadata={"gristmill": metadata})
    stage.accept([Document(id="a", text="t")])
    stage.pipeline().process()
    (kept,) = stage.ledger._parcels.values()
    assert (kept.attempts, stage.ledger.backlog(stage.encoder.info.digest)) == (0, 0)
    assert stage.reports()[-1].pending == 1
