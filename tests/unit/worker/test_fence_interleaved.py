"""The newest version wins whatever the order: real pipelines, stage by stage, with kills, redelivery and takeovers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from qdrant_client import models

from gristmill_schemas import Deletion, Document, JobReport, PointSystem
from interleaving import CHUNK_WORDS, Order, Stage, play
from places import PLACES, store_of
from services import QdrantServer

IDS = ("a", "b")
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect")


@dataclass(frozen=True)
class Write:
    id: str
    version: int
    letter: str
    chunks: int
    tag: int

    @property
    def item(self) -> Document:
        return Document(
            id=self.id, text=text_of(self.letter, self.chunks), metadata={"tag": self.tag}, version=self.version
        )


@dataclass(frozen=True)
class Delete:
    id: str
    version: int

    @property
    def item(self) -> Deletion:
        return Deletion(id=self.id, version=self.version)


Parcel = Sequence[Write | Delete]


def text_of(letter: str, chunks: int) -> str:
    """A text of so many chunks."""
    return " ".join(f"{letter}{n}" for n in range(CHUNK_WORDS * chunks))


def writes(versions: st.SearchStrategy[int]) -> st.SearchStrategy[Write]:
    return st.builds(
        Write, st.sampled_from(IDS), versions, st.sampled_from("xy"), st.sampled_from([1, 1, 2, 3]), st.integers(0, 1)
    )


def parcels(versions: st.SearchStrategy[int]) -> st.SearchStrategy[list[Parcel]]:
    """Two to four parcels of writes or of deletions; like `enqueue`, each has a document once."""
    deletes = st.builds(Delete, st.sampled_from(IDS), versions)
    kinds: list[st.SearchStrategy[Parcel]] = [
        st.lists(kind, min_size=1, max_size=2, unique_by=lambda each: each.id) for kind in (writes(versions), deletes)
    ]
    return st.lists(st.one_of(kinds), min_size=2, max_size=4)


def run(plan: list[Parcel], data: st.DataObject, kills: int, thefts: int, stage: Stage | None = None) -> Stage:
    """Play a plan to its end; returns the stage as it stood then."""
    stage = stage or Stage()
    with closing(stage):
        actors = [stage.take(*(each.item for each in parcel)) for parcel in plan]
        play(stage, actors, lambda n: data.draw(st.integers(0, n - 1)), kills, thefts)
        stage.look_after()
        check(stage, plan)
    return stage


def check(stage: Stage, plan: list[Parcel]) -> None:
    points = stage.points()
    for document_id in IDS:
        chunks = {chunk: held for (held_id, chunk), held in points.items() if held_id == document_id}
        agrees_with_the_model(document_id, chunks, [each for parcel in plan for each in parcel])
    for report, parcel in zip(stage.reports(), plan, strict=True):
        assert report.accepted == report.finished == len(parcel)
        assert report.dead == 0
        counters_agree(report, parcel)


def counters_agree(report: JobReport, parcel: Parcel) -> None:
    """However often it was delivered, and whoever was killed over it."""
    chunks = [each.chunks for each in parcel if isinstance(each, Write)]
    assert report.chunks >= report.stored
    assert report.chunks <= sum(chunks)
    if report.stored == len(parcel):
        assert report.chunks == sum(chunks)
    assert report.tokens % CHUNK_WORDS == 0
    assert report.tokens <= CHUNK_WORDS * report.chunks
    assert report.truncated == 0
    assert bool(report.deleted + report.absent) <= (not chunks)


def agrees_with_the_model(
    document_id: str, chunks: dict[int, tuple[PointSystem, str]], done: list[Write | Delete]
) -> None:
    buried = max((each.version for each in done if isinstance(each, Delete) and each.id == document_id), default=-1)
    written = [each for each in done if isinstance(each, Write) and each.id == document_id and each.version > buried]
    newest = max((each.version for each in written), default=None)
    winners = [each for each in written if each.version == newest]
    if not winners:
        assert not chunks, "a deleted document was revived"
        return
    assert {system.version for system, _ in chunks.values()} == {newest}
    assert len({system.etag for system, _ in chunks.values()}) == 1
    (count,) = {system.chunks for system, _ in chunks.values()}
    assert sorted(chunks) == list(range(count)), "chunks are missing or left over"
    text = "".join(part for _, (_, part) in sorted(chunks.items()))
    assert text in {each.item.text for each in winners}


relaxed = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.fixture(params=PLACES)
def stage(request: pytest.FixtureRequest, collection_name: str) -> Iterator[Stage]:
    with closing(Stage(store_of(request), name=collection_name)) as made:
        yield made


def test_a_shorter_version_removes_the_chunks_of_one_written_after_it_had_looked(stage: Stage) -> None:
    newer, older = Write("a", 2, "x", 1, 0), Write("a", 1, "y", 3, 0)
    ahead = stage.take(newer.item).stop_before("upsert")
    stage.take(older.item).finish()
    ahead.finish()
    check(stage, [[newer], [older]])


def test_unchanged_text_is_written_again_where_a_dead_writer_has_replaced_some_of_its_chunks(stage: Stage) -> None:
    first, killed, third = (Write("a", n, letter, 3, 0) for n, letter in ((1, "x"), (2, "y"), (3, "x")))
    stage.take(first.item).finish()
    writer = stage.take(killed.item).stop_before("upsert", times=2)
    writer.step(Order.DIE_BEFORE)
    stage.take(third.item).finish()
    stage.deliver_again(writer).finish()
    check(stage, [[first], [killed], [third]])


def test_a_cancelled_update_whose_writer_was_killed_leaves_no_document_half_of_it(stage: Stage) -> None:
    first, killed = Write("a", 1, "x", 3, 0), Write("a", 2, "y", 3, 0)
    stage.take(first.item).finish()
    writer = stage.take(killed.item).stop_before("upsert", times=2)
    writer.step(Order.DIE_BEFORE)
    assert {system.version for system, _ in stage.points().values()} == {1, 2}
    assert stage.ledger.cancel(stage.jobs[-1])
    stage.deliver_again(writer).finish()
    check(stage, [[first], [killed]])


def test_a_cancelled_deletion_whose_deleter_was_killed_goes_to_its_end(stage: Stage) -> None:
    write, delete = Write("a", 1, "x", 1, 0), Delete("a", 2)
    stage.take(write.item).finish()
    deleter = stage.take(delete.item).stop_before("note_found")
    deleter.step(Order.DIE_BEFORE)
    assert stage.ledger.cancel(stage.jobs[-1])
    stage.deliver_again(deleter).finish()
    check(stage, [[write], [delete]])


def test_of_two_contents_under_one_version_one_survives_whole(stage: Stage) -> None:
    one, other = Write("a", 1, "x", 3, 0), Write("a", 1, "y", 2, 0)
    late = stage.take(one.item).stop_before("upsert", times=2)
    stage.take(other.item).finish()
    late.finish()
    check(stage, [[one], [other]])


def test_a_deletion_between_look_and_write_is_not_undone(stage: Stage) -> None:
    write, delete = Write("a", 1, "x", 2, 0), Delete("a", 1)
    late = stage.take(write.item).stop_before("upsert")
    stage.take(delete.item).finish()
    late.finish()
    check(stage, [[write], [delete]])


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("waves", [1, 2], ids=["further chunks only", "all"])
def test_what_a_worker_that_lost_its_lease_wrote_late_before_it_died_is_undone(
    stage: Stage, chunks: int, waves: int
) -> None:
    write, delete = Write("a", 1, "x", chunks, 0), Delete("a", 2)
    robbed = stage.take(write.item).stop_before("upsert")
    stage.deliver_again(robbed).finish()
    stage.take(delete.item).finish()
    for order in [Order.GO, Order.DIE_AFTER][-min(chunks, waves) :]:
        robbed.step(order)
    assert robbed.dead
    assert stage.points(), "the late write found nothing in its way"
    stage.look_after()
    check(stage, [[write], [delete]])


def test_chunks_that_were_written_late_beside_a_newer_version_are_undone(stage: Stage) -> None:
    late, newer = Write("a", 1, "x", 3, 0), Write("a", 2, "y", 1, 0)
    robbed = stage.take(late.item).stop_before("upsert")
    stage.deliver_again(robbed).finish()
    stage.take(newer.item).finish()
    robbed.step(Order.DIE_AFTER)
    assert len(stage.points()) == 3
    stage.look_after()
    check(stage, [[late], [newer]])


def test_what_is_late_and_alive_is_left_to_itself_and_nothing_is_kept_of_who_has_ended(stage: Stage) -> None:
    write, delete = Write("a", 1, "x", 1, 0), Delete("a", 2)
    robbed = stage.take(write.item).stop_before("upsert")
    stage.deliver_again(robbed).finish()
    assert len(stage.ledger.unfulfilled(10)) == 1
    stage.look_after()
    stage.take(delete.item).finish()
    robbed.finish()
    check(stage, [[write], [delete]])
    assert stage.ledger.unfulfilled(10) == []


def test_the_intents_of_a_collection_that_is_gone_are_forgotten(stage: Stage) -> None:
    robbed = stage.take(Write("a", 1, "x", 1, 0).item).stop_before("upsert")
    stage.deliver_again(robbed).finish()
    robbed.step(Order.DIE_AFTER)
    stage.collections.delete(stage.name)
    stage.look_after()
    assert stage.ledger.unfulfilled(10) == []


def test_a_deletion_and_a_write_that_comes_late_say_what_became_of_each(stage: Stage) -> None:
    write, delete = Write("a", 1, "x", 1, 0), Delete("a", 2)
    late = stage.take(write.item).stop_before("upsert")
    deleter = stage.take(delete.item).stop_before("retrieve", times=2)
    late.step()
    deleter.finish()
    late.finish()
    check(stage, [[write], [delete]])
    written, deleted = stage.reports()
    assert (written.superseded, deleted.deleted, deleted.superseded) == (1, 1, 0)


@relaxed
@given(parcels(st.integers(1, 6)), st.data())
def test_any_order_ends_in_the_newest_version(plan: list[Parcel], data: st.DataObject) -> None:
    run(plan, data, kills=0, thefts=0)


@relaxed
@given(parcels(st.integers(1, 6)), st.data(), st.integers(1, 3))
def test_killed_writers_and_deleters_leave_no_trace(plan: list[Parcel], data: st.DataObject, kills: int) -> None:
    run(plan, data, kills=kills, thefts=0)


@relaxed
@given(parcels(st.integers(1, 6)), st.data(), st.integers(0, 2))
def test_workers_that_lost_their_lease_do_no_harm(plan: list[Parcel], data: st.DataObject, kills: int) -> None:
    stage = run(plan, data, kills=kills, thefts=2)
    event(f"jobs {len(stage.jobs)}")


@pytest.mark.parametrize("over", ["server", "rest"])
@settings(relaxed, max_examples=10, suppress_health_check=list(HealthCheck))
@given(parcels(st.integers(1, 6)), st.data(), st.integers(0, 2), st.integers(0, 2))
def test_the_real_server_keeps_the_same_promises(
    qdrant_server: QdrantServer,
    collection_name: str,
    over: str,
    plan: list[Parcel],
    data: st.DataObject,
    kills: int,
    thefts: int,
) -> None:
    stage = Stage(qdrant_server.client(prefer_grpc=over == "server"), name=collection_name)
    # One collection for all examples: making one takes a server longer than all the rest.
    everything = models.FilterSelector(filter=models.Filter())
    stage.store.delete(collection_name, points_selector=everything, wait=True)
    run(plan, data, kills, thefts, stage)
