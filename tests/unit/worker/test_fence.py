"""The fence alone: what is decided from what is held, over everything that can be held."""

from __future__ import annotations

import dataclasses

from hypothesis import assume, given
from hypothesis import strategies as st

from gristmill_schemas import ChunkContext, Chunking, Document, Outcome, PointSystem
from gristmill_worker.pipeline.fence import Action, Held, Task, decide, leaves_chunks, outcome

SPACE = "space"
VERSIONS = st.integers(0, 3)
JOBS = st.sampled_from(["mine", "other"])
#: Few enough texts, labels and versions that all of their relations come up.
CONTENTS = st.builds(
    lambda text, tag: Document(id="a", text=text, metadata={"tag": tag}), st.sampled_from("xy"), st.integers(0, 1)
)
TASKS = st.builds(Task, CONTENTS, VERSIONS, JOBS)
ACTIONS = st.sampled_from(list(Action))


def chunk_of(task: Task, chunk: int = 0, chunks: int = 1, space: str = SPACE) -> PointSystem:
    """One chunk as this task writes it."""
    return PointSystem(
        id=task.document.id,
        version=task.version,
        chunk=chunk,
        chunks=chunks,
        span=(0, 1),
        text_hash=task.document.text_hash,
        etag=task.etag,
        space=space,
        job=task.job_id,
        stored_at=0,
    )


def written_by(task: Task, chunks: int = 1, space: str = SPACE, tombstone: int | None = None) -> Held:
    """A document as this task leaves it, whole."""
    first, *others = (chunk_of(task, chunk, chunks, space) for chunk in range(chunks))
    return Held(first, tombstone, tuple(others))


@st.composite
def holds(draw: st.DrawFn) -> Held:
    """Anything that the store can be found in: absent, whole, torn, mixed, of another space, buried."""
    tombstone = draw(st.none() | VERSIONS)
    if draw(st.integers(0, 4)) == 0:
        return Held(None, tombstone)
    space = draw(st.sampled_from([SPACE, SPACE, "other space"]))
    held = written_by(draw(TASKS), draw(st.integers(1, 3)), space, tombstone)
    assert held.stored is not None
    others = tuple(
        chunk if draw(st.booleans()) else chunk_of(draw(TASKS), chunk.chunk, chunk.chunks)
        for chunk in held.others
        if draw(st.integers(0, 3))
    )
    if draw(st.integers(0, 3)) == 0:
        others = (*others, chunk_of(draw(TASKS), held.stored.chunks, held.stored.chunks + 1))
    return dataclasses.replace(held, others=others)


# what is decided


@given(TASKS, holds())
def test_nothing_is_written_where_something_newer_is_or_where_it_was_deleted(task: Task, held: Held) -> None:
    newer = held.stored is not None and held.newest > task.version
    buried = held.tombstone is not None and held.tombstone >= task.version
    if newer or buried:
        assert decide(task, held, SPACE) is Action.YIELD


@given(TASKS, holds())
def test_only_something_at_least_as_new_makes_a_writer_yield(task: Task, held: Held) -> None:
    if decide(task, held, SPACE) is Action.YIELD:
        assert max(held.newest, -1 if held.tombstone is None else held.tombstone) >= task.version


@given(TASKS, holds())
def test_the_model_is_spared_only_where_every_chunk_is_there_with_the_same_text_in_the_same_space(
    task: Task, held: Held
) -> None:
    if decide(task, held, SPACE) in (Action.METADATA, Action.TOUCH, Action.SETTLE):
        assert held.stored is not None
        assert held.whole
        assert held.stored.text_hash == task.document.text_hash
        assert held.stored.space == SPACE


@given(TASKS, holds())
def test_unchanged_means_the_same_text_and_the_same_metadata(task: Task, held: Held) -> None:
    action = decide(task, held, SPACE)
    if action in (Action.TOUCH, Action.SETTLE):
        assert held.stored is not None
        assert held.stored.etag == task.etag
        assert (held.stored.version == task.version) == (action is Action.SETTLE)
    if action is Action.METADATA:
        assert held.stored is not None
        assert held.stored.etag != task.etag


@given(TASKS)
def test_what_is_absent_is_encoded_unless_it_was_deleted_since(task: Task) -> None:
    assert decide(task, Held(None, None), SPACE) is Action.ENCODE
    assert decide(task, Held(None, task.version), SPACE) is Action.YIELD
    if task.version:
        assert decide(task, Held(None, task.version - 1), SPACE) is Action.ENCODE


@given(TASKS, holds(), VERSIONS)
def test_who_yields_at_a_version_yields_at_every_older_one(task: Task, held: Held, older: int) -> None:
    assume(older <= task.version)
    if decide(task, held, SPACE) is Action.YIELD and held.newest > task.version:
        assert decide(dataclasses.replace(task, version=older), held, SPACE) is Action.YIELD


@given(TASKS, TASKS, st.integers(1, 3))
def test_of_two_writers_one_yields_whichever_came_first(one: Task, other: Task, chunks: int) -> None:
    """Never both, else both would be lost; never neither, else they would overwrite each other for ever."""
    assume((one.version, one.etag) != (other.version, other.etag))
    after_other = decide(one, written_by(other, chunks), SPACE) is Action.YIELD
    after_one = decide(other, written_by(one, chunks), SPACE) is Action.YIELD
    if one.version == other.version:
        assert after_other
        assert after_one, "under one version the first stays"
    else:
        assert after_other == (one.version < other.version)
        assert after_one == (other.version < one.version)


@given(TASKS, st.integers(1, 3), st.data())
def test_a_document_with_a_chunk_missing_is_written_again_by_whoever_wrote_it(
    task: Task, chunks: int, data: st.DataObject
) -> None:
    held = written_by(task, chunks + 1)
    gone = data.draw(st.sampled_from(held.others))
    torn = dataclasses.replace(held, others=tuple(each for each in held.others if each is not gone))
    assert not torn.whole
    assert decide(task, torn, SPACE) is Action.ENCODE


# what became of it


@given(TASKS, ACTIONS, holds())
def test_only_what_has_come_to_an_end_has_an_outcome(task: Task, action: Action, held: Held) -> None:
    became = outcome(task, action, held, SPACE)
    match decide(task, held, SPACE):
        case Action.YIELD:
            assert became is Outcome.SUPERSEDED
        case Action.SETTLE:
            assert became in (Outcome.STORED, Outcome.SKIPPED)
        case _:
            assert became is None, "there is work left: it is tried again"


@given(TASKS, ACTIONS, holds())
def test_nobody_is_told_stored_unless_the_whole_document_is_there(task: Task, action: Action, held: Held) -> None:
    if outcome(task, action, held, SPACE) is Outcome.STORED:
        assert held.stored is not None
        assert held.whole
        assert (held.stored.version, held.stored.etag) == (task.version, task.etag)
        assert held.tombstone is None or held.tombstone < task.version


@given(TASKS, st.integers(1, 3))
def test_a_second_delivery_gives_the_outcome_of_the_first(task: Task, chunks: int) -> None:
    """Killed between its write and its report, it finds its own work: stored, not skipped."""
    after = written_by(task, chunks)
    assert outcome(task, Action.ENCODE, after, SPACE) is Outcome.STORED
    assert decide(task, after, SPACE) is Action.SETTLE
    assert outcome(task, Action.SETTLE, after, SPACE) is Outcome.STORED
    stranger = dataclasses.replace(task, job_id="a third")
    assert outcome(stranger, Action.SETTLE, after, SPACE) is Outcome.SKIPPED


def test_content_and_not_the_policy_of_the_day_decides_whether_a_document_is_unchanged() -> None:
    document = Document(id="a", text="grain", metadata={"title": "Mill"})
    plain, titled = (
        Task(document, 7, "j", Chunking(context=context)) for context in (ChunkContext.NONE, ChunkContext.TITLE)
    )
    assert plain.etag == titled.etag
    assert plain.text_hash != titled.text_hash
    for stored, now in ((plain, titled), (titled, plain)):
        held = Held(chunk_of(stored).model_copy(update={"text_hash": stored.text_hash}), None)
        assert decide(now, held, SPACE) is Action.SETTLE
        assert decide(dataclasses.replace(now, version=8), held, SPACE) is Action.TOUCH
        other = dataclasses.replace(
            now, document=document.model_copy(update={"metadata": {"title": "Stone"}}), version=8
        )
        assert decide(other, held, SPACE) is Action.ENCODE
    renamed = Document(id="a", text="grain", metadata={"title": "Mill", "lang": "en"})
    held = Held(chunk_of(titled).model_copy(update={"text_hash": titled.text_hash}), None)
    assert decide(Task(renamed, 8, "j", titled.chunking), held, SPACE) is Action.METADATA


# what must be cleaned up


@given(TASKS, holds(), holds())
def test_losers_and_second_deliveries_always_clean_up(task: Task, before: Held, after: Held) -> None:
    """Their chunks, or those of their earlier life, may stand where the winner has none."""
    assert leaves_chunks(Action.YIELD, before, after)
    assert leaves_chunks(Action.SETTLE, before, after)


@given(TASKS, TASKS, st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_a_version_that_replaces_a_longer_one_cleans_up(
    newer: Task, older: Task, chunks: int, longer: int, missing: int
) -> None:
    """Also where chunk 1 is gone already, so that nothing foreign is in sight beyond the end."""
    assume(older.version < newer.version)
    before = written_by(older, chunks + longer)
    before = dataclasses.replace(before, others=tuple(each for each in before.others if each.chunk != missing))
    assert leaves_chunks(Action.ENCODE, before, written_by(newer, chunks))


@given(TASKS, st.integers(1, 3), TASKS)
def test_foreign_chunks_in_sight_are_cleaned_up_unless_they_are_newer(task: Task, chunks: int, other: Task) -> None:
    assume(other.etag != task.etag)
    leftover = chunk_of(other, chunks, chunks + 1)
    after = dataclasses.replace(written_by(task, chunks), others=(*written_by(task, chunks).others, leftover))
    for action in (Action.ENCODE, Action.METADATA, Action.TOUCH):
        assert leaves_chunks(action, Held(None, None), after) == (other.version <= task.version)


@given(TASKS, st.integers(1, 3))
def test_the_first_write_of_a_document_costs_no_clean_up(task: Task, chunks: int) -> None:
    assert not leaves_chunks(Action.ENCODE, Held(None, None), written_by(task, chunks))
    assert not leaves_chunks(Action.TOUCH, written_by(task, chunks), written_by(task, chunks))


def test_one_content_has_one_etag_and_tenants_and_labels_change_it() -> None:
    document = Document(id="a", text="x", metadata={"k": 1, "l": 2})
    tasks = [
        Task(document, 1, "j"),
        Task(document.model_copy(update={"text": "y"}), 1, "j"),
        Task(document.model_copy(update={"metadata": {"k": 2}}), 1, "j"),
        Task(document.model_copy(update={"tenant": "t"}), 1, "j"),
        Task(document.model_copy(update={"id": "b"}), 1, "j"),
    ]
    assert len({task.etag for task in tasks}) == len(tasks)
    again = Document(id="a", text="x", metadata={"l": 2, "k": 1}, version=7)
    assert Task(again, 2, "other").etag == tasks[0].etag
