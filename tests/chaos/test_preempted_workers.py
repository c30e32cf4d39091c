"""Workers on machines that may be taken away: SIGTERM, and SIGKILL some seconds later, whatever they are at."""

from __future__ import annotations

import sys
import time
from multiprocessing.context import ForkServerProcess
from signal import SIGTERM

import pytest

from chaos.device import Ward
from chaos.mill import Conclude, MakeMill, Mill, end, ready, send, send_off, texts_of
from chaos.verdict import add_up, judge, settled
from gristmill import Client
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
#: How often, and how long a cloud waits with its SIGKILL: thirty seconds on most, a few where the test is to be short.
ONCE_OR_OFTEN = [
    pytest.param(2, 3.0, id="short"),
    pytest.param(20, 30.0, id="long", marks=pytest.mark.soak),
]


@pytest.mark.parametrize(("times", "grace_s"), ONCE_OR_OFTEN)
def test_a_worker_whose_machine_is_taken_away_loses_nothing(
    times: int, grace_s: float, mill: MakeMill, conclude: Conclude, ward: Ward
) -> None:
    """Every other time a batch hangs, so that nothing but the SIGKILL ends it where that comes before the batch does."""
    environment = ward.environment | {"GRISTMILL_DRAIN_TIMEOUT_S": str(grace_s + 10)}
    made, started = mill(workers=2, environment=environment), time.monotonic()
    expected: dict[str, str] = {}
    jobs: list[str] = []
    preempted, stays = made.start_worker(0), made.start_worker(1)
    with made.client() as client:
        try:
            client.create_collection("c", made.model, wait_s=60)
            for turn in range(times):
                hangs = turn % 2 == 1
                eventually(lambda: {preempted.pid, stays.pid} <= ready(client), 60)  # noqa: B023  # called at once
                ward.hold()
                texts = texts_of(1_280, first=10_000 * turn)
                expected.update(texts)
                jobs.append(send_off(client, texts))
                eventually(lambda: in_hand(client, preempted), 60)  # noqa: B023  # called at once
                if not hangs:
                    ward.release()
                seconds, killed = preempt(preempted, grace_s, made)
                how = f"{'hanging' if hangs else 'working'}: {'killed' if killed else 'drained'}"
                sys.stdout.write(f"{how} {seconds:.1f} s after SIGTERM\n")
                ward.release()
                preempted = made.start_worker(0)
                settled(client, jobs[-1:], deadline_s=120)
        finally:
            ward.release()
            end([preempted, stays], 0.0)
        verdict = add_up(judge(client, "c", expected), settled(client, jobs, 10), made.done, started)
        assert verdict.dead == 0
        conclude(verdict)
        client.collections.delete("c")


def in_hand(client: Client, worker: ForkServerProcess) -> bool:
    """Whether a worker has taken some of the work, by its own word."""
    workers = client._parts.ledger.workers()
    return any(status["parcels"] for name, status in workers.items() if int(name.split(":")[1]) == worker.pid)


def preempt(worker: ForkServerProcess, grace_s: float, made: Mill) -> tuple[float, bool]:
    """SIGTERM, then SIGKILL after so many seconds; returns when the process ended, in seconds, and whether it was killed."""
    started = time.monotonic()
    send(worker, SIGTERM)
    worker.join(grace_s)
    if killed := worker.is_alive():
        worker.kill()
        worker.join()
        made.done["kills"] += 1
    return time.monotonic() - started, killed
