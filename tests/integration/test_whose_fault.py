"""Whose fault is it? Only the document's own may cost it anything; what is the system's waits, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from qdrant_client import models

from gristmill_schemas import CollectionSpec, Document
from gristmill_schemas.errors import StoreUnavailable
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.pipeline.handler import Handled
from gristmill_worker.waiting.fuse import MOST_DEATHS
from interleaving import Stage
from places import PLACES, store_of
from services import QdrantServer

pytestmark = pytest.mark.usefixtures("long_rests")


@pytest.fixture(params=PLACES)
def make_stage(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Callable[..., Stage]]:
    with ExitStack() as closing:

        def make(**options: Any) -> Stage:
            made = Stage(store_of(request), name=collection_name, **options)
            closing.callback(made.close)
            return made

        yield make


class Ailing:
    """A store that fails at every write in which a certain word is."""

    #: Not a server\'s client as it stands: every write goes through here.
    _client = None

    def __init__(self, store: Any, word: str, error: Exception) -> None:
        self._store, self._word, self._error = store, word, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def upsert(self, name: str, points: list[Any], **rest: Any) -> None:
        if any(self._word in str(point.payload) for point in points):
            raise self._error
        self._store.upsert(name, points, **rest)


INTERNAL = StoreUnavailable("INTERNAL: panicked", may_be_the_request=True)
AWAY = StoreUnavailable("UNAVAILABLE: connection refused")
LIMITED = StoreUnavailable("Qdrant limits our rate", retry_after_s=30)


def ends(stage: Stage) -> list[tuple[int, int, int]]:
    """Of each job: stored, dead, pending."""
    return [(report.stored, report.dead, report.pending) for report in stage.reports()]


def test_a_document_at_which_the_store_fails_for_ever_dies_while_others_are_stored(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(max_attempts=3)
    handler = stage.pipeline(Ailing(stage.store, "CURSED", INTERNAL))  # type: ignore[arg-type]  # a store, but for one call
    stage.accept([Document(id="bad", text="CURSED")])
    for number in range(5):
        handler.process()
        stage.accept([Document(id=str(number), text="fine")])
        stage.end_delays()
        handler.process()
        handler.process()
        stage.end_delays()
    stage.work_off(handler)
    assert ends(stage) == [(0, 1, 0)] + [(1, 0, 0)] * 5
    (letter,) = stage.ledger.dead_letters(10)
    assert (letter.error, letter.attempts) == ("AttemptsExhausted", 4)
    assert "INTERNAL: panicked" in letter.reason


@pytest.mark.parametrize("error", [INTERNAL, AWAY, LIMITED])
def test_while_nothing_of_the_collection_can_be_stored_nobody_spends_an_attempt(
    make_stage: Callable[..., Stage], error: StoreUnavailable
) -> None:
    stage = make_stage(max_attempts=3)
    handler = stage.pipeline(Ailing(stage.store, "text", error))  # type: ignore[arg-type]  # see above
    for number in range(3):
        stage.accept([Document(id=str(number), text=f"text {number}")])
    # What is away for this worker may not be away for others; what the store says of the collection it says to all.
    given_back = Handled.LATER if error is AWAY else Handled.DONE
    for _ in range(20):
        assert handler.process() is given_back
        assert handler.pause.lasts == (error is AWAY)
        stage.end_delays()
    assert ends(stage) == [(0, 0, 1)] * 3
    (notice,) = stage.notices(handler)
    assert str(error) in notice
    stage.work_off()
    assert ends(stage) == [(1, 0, 0)] * 3
    assert {system.attempts for system, _ in stage.points().values()} == {1}


def test_a_collection_that_fails_while_others_get_through_rests_and_holds_up_no_other(
    make_stage: Callable[..., Stage], collection_name: str
) -> None:
    stage = make_stage()
    other = f"{collection_name}_other"
    stage.collections.create(CollectionSpec(name=other, space=stage.encoder.info.space(), chunking=stage.spec.chunking))
    handler = stage.pipeline(Ailing(stage.store, "DENIED", AWAY))  # type: ignore[arg-type]  # see above
    try:
        stage.accept([Document(id="denied", text="DENIED")])
        assert handler.process() is Handled.LATER
        assert handler.pause.lasts, "nothing has got through yet, so anything may be away"
        refused, stage.name = stage.name, other
        stage.accept([Document(id="fine", text="fine")])
        for _ in range(2):
            handler.process()
        stage.name = refused
        handler.process()
        assert not handler.pause.lasts, "the other collection got through: the store is there"
        assert stage.ledger.backlog(stage.encoder.info.digest) == 0, "the refused one rests"
        assert ends(stage) == [(0, 0, 1), (1, 0, 0)]
    finally:
        stage.collections.delete(other)


def test_a_limited_collection_rests_as_long_as_it_was_asked_to(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    handler = stage.pipeline(Ailing(stage.store, "text", LIMITED))  # type: ignore[arg-type]  # see above
    for number in range(3):
        stage.accept([Document(id=str(number), text=f"text {number}")])
    handler.process()
    assert stage.ledger.backlog(stage.encoder.info.digest) == 0, "its other parcels rest too"
    assert handler.process() is Handled.NONE
    assert ends(stage) == [(0, 0, 1)] * 3


@pytest.mark.server
def test_a_collection_whose_vectors_were_changed_buries_nobody_and_goes_on_when_they_are_back(
    qdrant_server: QdrantServer, collection_name: str
) -> None:
    stage = Stage(qdrant_server.client(), name=collection_name)
    metadata = stage.store.get_collection(stage.name).config.metadata
    try:
        stage.store.delete_collection(stage.name)
        stage.store.create_collection(
            stage.name,
            vectors_config=models.VectorParams(size=7, distance=models.Distance.COSINE),
            metadata=metadata,
        )
        stage.accept([Document(id=str(n), text=f"text {n}") for n in range(20)])
        handler = stage.pipeline()
        for _ in range(5):
            assert handler.process() is Handled.DONE
            stage.end_delays()
        assert ends(stage) == [(0, 0, 20)]
        (notice,) = stage.notices(handler)
        assert "refuses even a plain point" in notice
        stage.store.delete_collection(stage.name)
        stage.collections.create(stage.spec)
        stage.work_off(handler)
        assert ends(stage) == [(20, 0, 0)]
        assert {system.attempts for system, _ in stage.points().values()} == {1}
    finally:
        stage.close()


def test_a_point_that_shows_whether_the_store_takes_points_is_not_left_behind(
    make_stage: Callable[..., Stage],
) -> None:
    from gristmill_schemas.errors import StoreRefused

    stage = make_stage()
    handler = stage.pipeline(Ailing(stage.store, "BAD", StoreRefused("it says no")))  # type: ignore[arg-type]  # see above
    stage.accept([Document(id="bad", text="BAD"), Document(id="b", text="fine")])
    stage.work_off(handler)
    assert ends(stage) == [(1, 1, 0)]
    assert [key for key, _ in stage.points().items()] == [("b", 0)]
    assert stage.collections.count(stage.name) == 1


class NoKernel(HashEncoder):
    """Well for short texts such as the canary's, broken for all others from some moment on."""

    broken = False

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        if self.broken and any(item.n_tokens > 2 for item in batch):
            raise RuntimeError("no kernel image")
        return super().encode(batch)


def test_what_is_skipped_beside_them_does_not_make_many_equal_deaths_the_documents_own(
    make_stage: Callable[..., Stage],
) -> None:
    encoder = NoKernel(16)
    stage = make_stage(encoder=encoder)
    known = [Document(id=f"known {n}", text=f"a known text {n}") for n in range(10)]
    stage.deliver(*known)
    encoder.broken = True
    for parcel in range(4):
        stage.accept([*known, *(Document(id=f"{parcel}.{n}", text=f"a new text {parcel} {n}") for n in range(50))])
    handler = stage.pipeline()
    for _ in range(8):
        handler.process()
        stage.end_delays()
    assert sum(report.dead for report in stage.reports()) < MOST_DEATHS
    (notice,) = stage.notices(handler)
    assert "none of them is given up: EncodingFailed: RuntimeError: no kernel image" in notice
    encoder.broken = False
    stage.work_off(handler)
    assert sum(report.stored for report in stage.reports()) >= 10 + 3 * 50


def test_a_point_of_a_newer_format_holds_up_its_own_document_and_no_neighbour(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage()
    stage.deliver(Document(id="newer", text="t"), Document(id="b", text="t"))
    (first, *_), _ = stage.store.scroll(stage.name, with_payload=True)
    system = {**(first.payload or {})["_gristmill"], "format": 99}
    stage.store.set_payload(stage.name, {"_gristmill": system}, points=[first.id])
    held = str(system["id"])
    stage.accept([Document(id="newer", text="new"), Document(id="b", text="new")])
    handler = stage.pipeline()
    for _ in range(6):
        handler.process()
    assert ends(stage)[-1] == (1, 0, 1)
    points, _ = stage.store.scroll(stage.name, with_payload=["text", "_gristmill.id"])
    texts = {(point.payload or {})["_gristmill"]["id"]: (point.payload or {})["text"] for point in points}
    assert texts == {held: "t", next(each for each in ("newer", "b") if each != held): "new"}
