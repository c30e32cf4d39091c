"""Promises 1 to 3 under kills, restarts, reordering, poison and meddling. Short runs always; long ones by `make chaos`."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.mill import Conclude, MakeMill, Mill, ingest, send_off, texts_of
from chaos.verdict import Verdict, add_up, buried, judge, settled
from gristmill import Chunking, Client, Document
from gristmill.ingest.packing import FIRST_GROUPS
from gristmill.settings import variable
from gristmill_schemas import point_id
from gristmill_schemas.limits import FIRST_PARCEL_DOCUMENTS, MAX_PARCEL_DOCUMENTS
from models import tiny_qwen3
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
SHORT_OR_LONG = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.soak)]


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_nothing_is_lost_whatever_is_killed(scale: int, mill: MakeMill, conclude: Conclude) -> None:
    hands = ["kill_worker"] * (3 if scale == 1 else 24) + ["restart_redis", "restart_qdrant"] * (1 if scale == 1 else 3)
    _kill_run(mill(workers=2 if scale == 1 else 4), 2_000 * scale, hands, conclude)


def test_nothing_is_lost_with_a_real_model(mill: MakeMill, conclude: Conclude, tmp_path: Path) -> None:
    model = str(tiny_qwen3(tmp_path / "tiny-qwen3"))
    made = mill(workers=2, model=model, environment={"GRISTMILL_DTYPE": "float32", "GRISTMILL_BUDGET_TOKENS": "1024"})
    _kill_run(made, 1_500, ["kill_worker"] * 2, conclude)


def _kill_run(mill: Mill, count: int, hands: list[str], conclude: Conclude) -> None:
    started, jobs = time.monotonic(), []  # type: tuple[float, list[str]]
    with mill.running(), mill.client(queue_max_documents=2_000) as client:
        client.create_collection("c", mill.model, wait_s=120)
        producer = threading.Thread(target=ingest, args=(client, count, jobs, mill.sizes()))
        producer.start()
        mill.wreak(hands, (0.2, 1.2))
        producer.join(300)
        reports = settled(client, jobs, deadline_s=180)
        verdict = judge(client, "c", {str(n): f"text of document {n}" for n in range(count)})
        assert [report.chunks for report in reports] == [report.stored for report in reports], "one chunk each"
        client.collections.delete("c")
    conclude(add_up(verdict, reports, mill.done, started))


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_the_newest_version_wins_in_any_order(scale: int, mill: MakeMill, conclude: Conclude) -> None:
    """Updates and deletions of few documents, shuffled and duplicated, over all workers, with kills among them."""
    made = mill(workers=2 if scale == 1 else 4)
    started, jobs = time.monotonic(), []  # type: tuple[float, list[str]]
    operations, expected = _updates(made, documents=100 * scale, versions=10)
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, chunking=Chunking(size=16, overlap=2), wait_s=60)
        hands = threading.Thread(target=made.wreak, args=(["kill_worker"] * (2 * scale), (0.5, 1.5)))
        hands.start()
        for group in _calls(operations):
            jobs += _send(client, group)
        hands.join()
        reports = settled(client, jobs, deadline_s=240)
        verdict = judge(client, "c", expected)
        client.collections.delete("c")
    conclude(add_up(verdict, reports, made.done, started))


Operation = tuple[str, int, str | None]


def _updates(mill: Mill, documents: int, versions: int) -> tuple[list[Operation], dict[str, str | None]]:
    """(id, version, text or None for a deletion), shuffled, some twice; and what must be there in the end."""
    operations: list[Operation] = []
    expected: dict[str, str | None] = {}
    for number in range(documents):
        for version in range(1, versions + 1):
            deleted = mill.random.random() < 0.15
            words = mill.random.choice([3, 10, 40, 90])  # one chunk or several, growing and shrinking
            text = None if deleted else " ".join(f"d{number}v{version}w{n}" for n in range(words))
            operations.append((str(number), version, text))
            expected[str(number)] = text
    operations += mill.random.sample(operations, k=len(operations) // 5)
    mill.random.shuffle(operations)
    return operations, expected


def _calls(operations: list[Operation], most: int = 200) -> Iterator[dict[str, Operation]]:
    """Cut the operations into calls in which each id occurs once."""
    group: dict[str, Operation] = {}
    for operation in operations:
        if operation[0] in group or len(group) == most:
            yield group
            group = {}
        group[operation[0]] = operation
    yield group


def _send(client: Client, group: dict[str, Operation]) -> Iterator[str]:
    documents = [Document(id=i, text=text, version=version) for i, version, text in group.values() if text is not None]
    if documents:
        yield client.enqueue("c", documents).id
    for document_id, version, text in group.values():
        if text is None:
            yield client.delete("c", [document_id], version=version).id


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_poison_fails_alone_and_can_be_replayed(scale: int, mill: MakeMill, conclude: Conclude, tmp_path: Path) -> None:
    cure = tmp_path / "cure"
    made = mill(workers=2 if scale == 1 else 4, environment={"GRISTMILL_TEST_CURE": str(cure)})
    count, started = 1_000 * scale, time.monotonic()
    kinds = {
        "POISON-RAISE": ("EncodingFailed", "poisoned"),
        "POISON-REFUSE": ("StoreRefused", "dimension"),
        "POISON-WIRE": ("StoreRefused", ""),
        "POISON-KILL": ("AttemptsExhausted", "its worker died"),
    }
    poison = _poison(made, count, list(kinds), 4 if scale == 1 else 20)
    texts = {str(n): f"document {n} {poison.get(n, 'is fine')}" for n in range(count)}
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        jobs = [client.enqueue("c", [{"id": key, "text": text} for key, text in texts.items()]).id]
        (report,) = settled(client, jobs, deadline_s=400)
        letters = buried(client)
        assert set(letters) == {str(n) for n in poison}, "exactly the poisoned ones are dead"
        for number, kind in poison.items():
            error, reason = kinds[kind]
            assert letters[str(number)].error == error, letters[str(number)]
            assert reason in letters[str(number)].reason
        assert report.stored == count - len(poison)
        assert (before := judge(client, "c", texts, bad={str(n) for n in poison})).sound, before
        cure.touch()
        replayed = client.dead.replay([letter.id for letter in letters.values()])
        reports = settled(client, [job.id for job in replayed], deadline_s=120)
        assert sum(each.stored for each in reports) == len(poison)
        assert client.dead.list() == []
        verdict = judge(client, "c", dict(texts))
        client.collections.delete("c")
    conclude(add_up(verdict, [report, *reports], made.done, started))


def test_a_document_that_kills_costs_its_255_neighbours_three_encodings_and_none_its_life(
    mill: MakeMill, conclude: Conclude, tmp_path: Path
) -> None:
    """It travels in a parcel of 256: that is tried three times, then each of them alone, one at a time."""
    encoded, first, started = tmp_path / "encoded", FIRST_GROUPS * FIRST_PARCEL_DOCUMENTS, time.monotonic()
    made = mill(workers=2, environment={"GRISTMILL_TEST_ENCODED": str(encoded)})
    texts = texts_of(first + MAX_PARCEL_DOCUMENTS, {first + 100: "POISON-KILL"})
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        job = send_off(client, texts)
        (report,) = settled(client, [job], deadline_s=400)
        assert (report.stored, report.dead) == (len(texts) - 1, 1)
        verdict = judge(client, "c", texts, bad={str(first + 100)})
        client.collections.delete("c")
    lines = [line.split(" ", 2) for line in encoded.read_text().splitlines()]
    of_each = Counter(text for _, _, text in lines)
    neighbours = [of_each[texts[str(n)]] for n in range(first, first + MAX_PARCEL_DOCUMENTS) if n != first + 100]
    killed = [float(at) for at, _, text in lines if "POISON" in text]
    alone = [float(at) for at, size, text in lines if size == "1" and text in set(texts.values())]
    sys.stdout.write(
        f"its neighbours were encoded {sum(neighbours) / len(neighbours):.2f} times, {max(neighbours)} at most; it killed "
        f"{len(killed)} workers in {killed[-1] - killed[0]:.1f} s; all alone took {alone[-1] - alone[0]:.1f} s\n"
    )
    assert max(neighbours) <= 4
    assert len(killed) == 5
    conclude(add_up(verdict, [report], made.done, started))


def _poison(mill: Mill, count: int, kinds: list[str], how_many: int) -> dict[int, str]:
    chosen = mill.random.sample(range(count), how_many)
    return {number: kinds[index % len(kinds)] for index, number in enumerate(chosen)}


def test_messages_stolen_from_the_queue_are_published_again(mill: MakeMill, conclude: Conclude) -> None:
    made, count, started = mill(workers=2), 2_000, time.monotonic()
    with made.client() as client:
        with made.running():
            client.create_collection("c", made.model, wait_s=60)
        # Nobody pulls now: the queue fills, and every tenth message disappears behind the ledger's back.
        jobs = [client.enqueue("c", [{"id": str(n), "text": f"text {n}"} for n in range(count)]).id]
        assert _steal(client, every=10) > 0
        again = mill(workers=2)
        again.prefix, again.done = made.prefix, made.done
        with again.running():
            reports = settled(client, jobs, deadline_s=60)
        verdict = judge(client, "c", {str(n): f"text {n}" for n in range(count)})
        client.collections.delete("c")
    conclude(add_up(verdict, reports, made.done, started))


def _steal(client: Client, every: int) -> int:
    redis = client._parts.ledger._redis  # type: ignore[attr-defined]  # a thief knows no privacy
    (key,) = redis.keys(f"{client._parts.settings.key_prefix}:bulk.*")
    messages = redis.lrange(key, 0, -1)
    return sum(redis.lrem(key, 1, message) for message in messages[::every])


#: A shell starts what it puts into the background deaf to SIGINT, and the test run may be such a child. Not by `preexec_fn`:
#: Python forks for that, and gRPC's threads, which it restarts in the fork, hold up one child in some.
_HEARS_CTRL_C = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
)


def test_an_interrupted_producer_can_simply_be_run_again(mill: MakeMill, conclude: Conclude, tmp_path: Path) -> None:
    """Ctrl-C in the middle of `gristmill ingest`, then the same command again: nothing twice, nothing missing."""
    made, count, started = mill(workers=2), 20_000, time.monotonic()
    file = tmp_path / "documents.jsonl"
    file.write_text("".join(f'{{"id": "{n}", "text": "text {n}"}}\n' for n in range(count)))
    command = [sys.executable, "-m", "gristmill", "ingest", str(file), "-c", "c", "--model", made.model, "--json"]
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        # With nobody who takes anything out of the queue, it cannot come to its end.
        made.signal_all(signal.SIGSTOP)
        first = subprocess.Popen(
            [sys.executable, "-c", _HEARS_CTRL_C, *command],
            env=made.worker_environment | {variable("queue_max_documents"): str(count // 2)},
            stdout=subprocess.PIPE,
        )
        eventually(client.jobs.list)
        first.send_signal(signal.SIGINT)
        out, _ = first.communicate(timeout=60)
        made.signal_all(signal.SIGCONT)
        assert first.returncode == 130, out
        second = subprocess.run(command, env=made.worker_environment, capture_output=True, timeout=120, check=False)
        assert second.returncode == 0, second.stderr
        reports = settled(client, [report.job_id for report in client.jobs.list()], deadline_s=60)
        assert len(reports) == 2
        verdict = judge(client, "c", {str(n): f"text {n}" for n in range(count)})
        client.collections.delete("c")
    conclude(add_up(verdict, reports, made.done, started))


def test_points_deleted_behind_its_back_are_stored_again_by_the_same_call(mill: MakeMill, conclude: Conclude) -> None:
    made, count, started = mill(workers=2), 1_000, time.monotonic()
    documents = [{"id": str(n), "text": f"text {n}"} for n in range(count)]
    with made.running(), made.client() as client:
        client.create_collection("c", made.model, wait_s=60)
        first = client.enqueue("c", documents).wait(60)
        gone = made.random.sample(range(count), count // 100)
        client._parts.store.delete("c", [point_id(str(n), None) for n in gone])
        again = client.enqueue("c", documents).wait(60)
        assert (again.stored, again.skipped) == (len(gone), count - len(gone))
        verdict = judge(client, "c", {str(n): f"text {n}" for n in range(count)})
        client.collections.delete("c")
    conclude(add_up(verdict, [first, again], made.done, started))


@pytest.mark.soak
def test_redis_restarts_cost_at_most_a_process_each(mill: MakeMill, conclude: Conclude) -> None:
    """How often the pinned Celery dies when Redis restarts under load, for `docs/explanation/celery.md`."""
    import celery

    made, started, jobs = mill(workers=2), time.monotonic(), []  # type: tuple[Mill, float, list[str]]
    restarts = 10
    with made.running(), made.client(queue_max_documents=2_000) as client:
        client.create_collection("c", made.model, wait_s=60)
        producer = threading.Thread(target=ingest, args=(client, 60_000, jobs, made.sizes()))
        producer.start()
        made.wreak(["restart_redis"] * restarts, (1.0, 2.0))
        producer.join(300)
        reports = settled(client, jobs, deadline_s=120)
        verdict = judge(client, "c", {str(n): f"text of document {n}" for n in range(60_000)})
        sys.stdout.write(
            f"celery {celery.__version__}: {made.done['restarts']} exits of 2 workers in {restarts} restarts\n"
        )
        client.collections.delete("c")
    conclude(add_up(verdict, reports, made.done, started))


@pytest.mark.soak
def test_a_million_documents_stay_below_the_high_water_mark(mill: MakeMill, conclude: Conclude) -> None:
    """Producer and Redis memory are bounded by the mark, not by the number of documents."""
    import resource

    made, count, started = mill(workers=2), 1_000_000, time.monotonic()
    mark_bytes, peak_bytes, peak_redis = 4 * 1024 * 1024, 0, 0
    with made.running(), made.client(queue_max_documents=100_000, queue_max_bytes=mark_bytes) as client:
        client.create_collection("c", made.model, wait_s=60)
        redis = client._parts.ledger._redis  # type: ignore[attr-defined]
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def look(_: int) -> None:
            nonlocal peak_bytes, peak_redis
            peak_bytes = max(peak_bytes, client._parts.ledger.load().bytes)
            peak_redis = max(peak_redis, redis.info("memory")["used_memory"])

        job = client.enqueue("c", ({"id": str(n), "text": f"t{n}"} for n in range(count)), progress=look)
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
        (report,) = settled(client, [job.id], deadline_s=600)
        assert peak_bytes <= mark_bytes
        sys.stdout.write(
            f"a million documents: ledger at most {peak_bytes:,} bytes, Redis at most {peak_redis:,} bytes, "
            f"the producer grew by {grown_mib:.0f} MiB\n"
        )
        assert grown_mib < 200
        verdict = Verdict(lost=count - client.collections.count("c"))
        client.collections.delete("c")
    conclude(add_up(verdict, [report], made.done, started))
