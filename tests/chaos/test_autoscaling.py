"""An autoscaler as KEDA is one: from no worker to three and back on a burst, by the list's length and by `/scale`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from signal import SIGTERM
from urllib.parse import quote

import pytest

from chaos.mill import Conclude, MakeMill, Mill, Stop, end, ready, send, send_off, texts_of
from chaos.verdict import add_up, judge, settled
from gristmill import Client
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import ModelServer
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]
#: Seconds of work for one worker, and what the last one is taken to have encoded in a second.
TARGET_S, GUESS = 100, 10
MOST = 3
#: Between two looks; and how many looks it takes until less is believed, as KEDA's `cooldownPeriod` and the stabilization
#: window of a HorizontalPodAutoscaler.
LOOK_S, LOOKS = 0.2, 10


@dataclass
class Autoscaler:
    """KEDA with one trigger, and what it moves: ceil(value / target) workers, fewer only when that has been so for a while.

    Those that go are chosen as a ReplicaSet does: who is not ready yet before who is, the newest before the oldest.
    """

    read: Callable[[], int]
    start: Callable[[], ForkServerProcess]
    is_ready: Callable[[ForkServerProcess], bool]
    running: list[ForkServerProcess] = field(default_factory=list)
    leaving: list[ForkServerProcess] = field(default_factory=list)
    #: What there was at each look, without what is leaving.
    replicas: list[int] = field(default_factory=list)
    #: How many were sent away before they were ready.
    sent_away: int = 0

    def __post_init__(self) -> None:
        self._wanted: deque[int] = deque(maxlen=LOOKS)

    def run(self, stop: Stop) -> None:
        """Look until told to stop."""
        while not stop.wait(LOOK_S):
            self.look()

    def look(self) -> None:
        """Read the value once, and follow it."""
        self._wanted.append(min(MOST, math.ceil(self.read() / TARGET_S)))
        wanted = max(self._wanted)
        self.running += [self.start() for _ in range(wanted - len(self.running))]
        for worker in sorted(self.running, key=self.is_ready)[: max(0, len(self.running) - wanted)]:
            self.sent_away += not self.is_ready(worker)
            send(worker, SIGTERM)
            self.running.remove(worker)
            self.leaving.append(worker)
        self.replicas.append(len(self.running))


class Gate:
    """Holds documents up on the model server until it is opened; what workers try at their start passes."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, texts: Sequence[str]) -> None:
        if any(text.startswith("document ") for text in texts):
            self.open.wait(300)


def test_a_burst_brings_three_workers_and_then_none_and_nobody_is_sent_away_while_it_loads(
    mill: MakeMill, conclude: Conclude
) -> None:
    truth, gate, started = HashEncoder(16), Gate(), time.monotonic()
    expected: dict[str, str] = {}
    jobs: list[str] = []
    with ModelServer(lambda texts: truth.encode(truth.tokenize(texts))) as server:
        server.fault = gate
        made = mill(workers=0, model=server.url)
        with made.client() as client, serving(made) as address:
            digest = introduced(made, client)
            listed = client._parts.ledger.work_seconds
            for read in (lambda: listed(digest), asks(address, digest)):
                gate.open.clear()
                remember(client, digest)
                jobs.append(send_off(client, burst := texts_of(640, first=10_000 * len(jobs))))
                expected |= burst
                scaled(made, client, read, gate, jobs[-1])
            conclude(add_up(judge(client, "c", expected), settled(client, jobs, 10), made.done, started))
            client.collections.delete("c")


def introduced(made: Mill, client: Client) -> str:
    """One worker announces the model, and ends; returns its digest."""
    worker = made.start_worker()
    client.create_collection("c", made.model, wait_s=60)
    end([worker], 60.0)
    return client.models.list()[0].digest


def remember(client: Client, digest: str) -> None:
    """Let the last worker of the model have been a slow one: by what the last really measured, the burst is a trifle.

    Those that have ended count among the living until their last word lapses.
    """
    eventually(lambda: not client._parts.ledger.workers(), 60)
    status = {"engines": [{"model_digest": digest, "tokens_per_s": GUESS}]}
    client._parts.ledger.heartbeat("slow", status, ttl_s=0.001)


def scaled(made: Mill, client: Client, read: Callable[[], int], gate: Gate, job: str) -> None:
    """Let an autoscaler meet the burst of a job."""
    scaler = Autoscaler(read, made.start_worker, lambda worker: worker.pid in ready(client))
    scaler.look()
    assert scaler.replicas == [MOST], "nobody lives, and the work is seen at once"
    stop = threading.Event()
    looking = threading.Thread(target=scaler.run, args=(stop,))
    looking.start()
    try:
        eventually(lambda: {each.pid for each in scaler.running} <= ready(client), 90)
        assert max(scaler.replicas) == MOST
        gate.open.set()
        settled(client, [job], deadline_s=120)
        eventually(lambda: not scaler.running, 60)
    finally:
        gate.open.set()
        stop.set()
        looking.join()
        processes = [*scaler.running, *scaler.leaving]
        end(processes, 60.0)
    assert scaler.sent_away == 0
    assert [each.exitcode for each in processes] == [0] * MOST, "each went by itself when it was told to"
    assert read() == 0


def asks(address: str, model: str) -> Callable[[], int]:
    """The seconds of a model as `gristmill scale --port` tells them."""
    url = f"{address}?model={quote(model)}"

    def read() -> int:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return int(json.load(answer)["seconds"])

    return read


@contextmanager
def serving(made: Mill) -> Iterator[str]:
    command = [sys.executable, "-m", "gristmill", "scale", "--port", "0"]
    process = subprocess.Popen(command, env=made.worker_environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("ready: "), line
        yield line.split()[1]
    finally:
        process.terminate()
        process.wait(60)
        process.stderr.close()  # type: ignore[union-attr]  # a pipe
