"""Workers that are stopped: by SIGSTOP for longer than their lease, and by SIGTERM while everything around them hangs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from signal import SIGCONT, SIGSTOP, SIGTERM

import pytest

from chaos.device import Ward
from chaos.mill import Conclude, MakeMill, Mill, end, send, send_off, texts_of
from chaos.verdict import add_up, judge, settled
from gristmill import Chunking, Client
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import ModelServer
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
ONCE_OR_OFTEN = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.soak)]
#: After SIGTERM, a worker has so long, and a little for its farewell.
DRAIN_S, FAREWELL_S = 5.0, 25.0


@pytest.mark.parametrize("times", ONCE_OR_OFTEN)
def test_a_worker_stopped_beyond_its_lease_undoes_nothing_when_it_goes_on(
    times: int, mill: MakeMill, conclude: Conclude, ward: Ward
) -> None:
    """It is stopped between its look at what is there and its write; what it holds is updated or deleted meanwhile."""
    made, started = (
        mill(workers=2, environment={"GRISTMILL_LEASE_S": "1"}, each={0: ward.environment}),
        time.monotonic(),
    )
    expected: dict[str, str | None] = {}
    jobs: list[str] = []
    with made.client() as client:
        with made.running():
            client.create_collection("c", made.model, chunking=Chunking(size=16, overlap=2), wait_s=60)
            for turn in range(times):
                ward.hold()
                words = send_until_held(client, turn, jobs, ward)
                made.signal_worker(0, SIGSTOP)
                ward.release()
                jobs += change(client, turn, words, expected)
                settled(client, jobs, deadline_s=60)
                made.signal_worker(0, SIGCONT)
                eventually(lambda: ward.released, 60)
        # The workers have ended, so whatever came late has come.
        conclude(add_up(judge(client, "c", expected), settled(client, jobs, 10), made.done, started))
        client.collections.delete("c")


def long_texts(turn: int, words: int) -> dict[str, str]:
    """Texts of so many words, in several chunks."""
    return {str(n): " ".join(f"d{n}t{turn}w{word}of{words}" for word in range(words)) for n in range(192)}


def send_until_held(client: Client, turn: int, jobs: list[str], ward: Ward) -> int:
    """Send until the watched worker has some of it; who takes a job's few parcels is chance. Gives the words of a text."""
    for words in range(90, 96):
        jobs.append(send_off(client, long_texts(turn, words)))
        with suppress(AssertionError):
            eventually(lambda: ward.holding, 20)
            return words
    raise AssertionError("the watched worker was given nothing, six times")


def change(client: Client, turn: int, words: int, expected: dict[str, str | None]) -> Iterator[str]:
    """Of three documents one gets a shorter text, one is deleted, one stays as it is."""
    expected.update(long_texts(turn, words))
    updated = {key: text for key, text in long_texts(turn, 40).items() if int(key) % 3 == 0}
    deleted = [key for key in expected if int(key) % 3 == 1]
    expected.update(updated)
    expected.update(dict.fromkeys(deleted))
    yield send_off(client, updated)
    yield client.delete("c", deleted).id


Freeze = Callable[[], None]


class Scene:
    """Something that can hang, with its worker's model and variables."""

    def __init__(self, made: Mill, hang: Freeze, recover: Freeze, caught: Callable[[], object] | None = None) -> None:
        """`caught` says that a worker hangs in it; where it is None, it hangs once work is under way."""
        self.made, self.hang, self.recover, self.caught = made, hang, recover, caught


@contextmanager
def scene(what: str, mill: MakeMill, ward: Ward) -> Iterator[Scene]:
    # Whatever waits for an answer of what hangs does so for longer than a worker has; where the ledger can be reached, a
    # parcel is given back, and does not come back because its lease is over.
    waits = {"GRISTMILL_QDRANT_TIMEOUT_S": "120", "GRISTMILL_REDIS_TIMEOUT_S": "120"}
    lease = {"GRISTMILL_LEASE_S": "2" if what == "redis" else "60"}
    environment = {"GRISTMILL_DRAIN_TIMEOUT_S": str(DRAIN_S), **waits, **lease} | ward.environment
    truth = HashEncoder(16)
    with ModelServer(lambda texts: truth.encode(truth.tokenize(texts))) as server:
        made = mill(workers=1, environment=environment, model=server.url if what == "model server" else "hash:32")

        def be_silent(silent: bool) -> None:
            server.silent = silent

        if what == "store":
            yield Scene(made, made.qdrant.pause, made.qdrant.resume)
        elif what == "redis":
            yield Scene(made, made.redis.pause, made.redis.resume)
        elif what == "model server":
            yield Scene(made, lambda: be_silent(True), lambda: be_silent(False), lambda: server.hanging)
        else:
            yield Scene(made, ward.hold, ward.release, lambda: ward.holding)


@pytest.mark.parametrize("times", ONCE_OR_OFTEN)
@pytest.mark.parametrize("what", ["store", "redis", "model server", "batch of minutes"])
def test_sigterm_ends_a_worker_in_its_time_whatever_hangs(
    what: str, times: int, mill: MakeMill, conclude: Conclude, ward: Ward
) -> None:
    expected: dict[str, str] = {}
    with scene(what, mill, ward) as stage, stage.made.client() as client:
        made, started = stage.made, time.monotonic()
        jobs: list[str] = []
        worker = made.start_worker()
        try:
            client.create_collection("c", made.model.rpartition("#")[2], wait_s=60)
            for turn in range(times):
                texts = texts_of(1_280, first=10_000 * turn)
                expected.update(texts)
                jobs.append(get_caught(stage, client, texts))
                seconds = terminate(worker)
                sys.stdout.write(f"{what}: ended {seconds:.1f} s after SIGTERM\n")
                stage.recover()
                worker = made.start_worker()
                settled(client, jobs[-1:], deadline_s=60)
        finally:
            stage.recover()
            end([worker], 0.0)
        conclude(add_up(judge(client, "c", expected), settled(client, jobs, 10), made.done, started))
        if what != "redis":
            # Of every parcel a few.
            assert attempts(client, list(expected)[::16]) == {1}, "the ledger could be reached, so nobody pays for it"
        client.collections.delete("c")


def get_caught(stage: Scene, client: Client, texts: Mapping[str, str]) -> str:
    """Let something hang with work in hand; returns the job's id."""
    if stage.caught is None:
        job = send_off(client, texts)
        eventually(lambda: client.jobs.get(job).report().finished, 60)
        stage.hang()
    else:
        stage.hang()
        job = send_off(client, texts)
        eventually(stage.caught, 60)
    return job


def terminate(worker: ForkServerProcess) -> float:
    """Send SIGTERM; returns how many seconds the process took to end."""
    started = time.monotonic()
    send(worker, SIGTERM)
    worker.join(DRAIN_S + FAREWELL_S)
    assert not worker.is_alive(), f"still running {DRAIN_S + FAREWELL_S:g} s after SIGTERM"
    return time.monotonic() - started


def attempts(client: Client, ids: Iterable[str]) -> set[int | None]:
    return {client.receipt("c", key).attempts for key in ids}
