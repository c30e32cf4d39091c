"""Jobs that are paused, cancelled, urgent, held up at limits and erased under kills and restarts: all adds up."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

import key_leaks
from chaos.mill import Conclude, MakeMill, Meanwhile, Mill, Stop, ingest, persist
from chaos.verdict import Verdict, add_up, judge, points, settled
from gristmill import Chunking, Client, Document, InvalidInput, JobCancelled, Priority, QueueFull
from waiting import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]
SHORT_OR_LONG = [pytest.param(1, id="short"), pytest.param(10, id="long", marks=pytest.mark.soak)]
TENANTS = ("acme", "bolt", "core")
#: Whose everything goes, in the middle of it all.
ERASED = "evil"
#: Documents of a tenant that calls choose among.
_IDS = 4_000
#: Kinds of keys that nobody has any of once all jobs are over. Seconds of work are not among them: where a worker was killed
#: while it loaded they stay, for the next beat of another.
UNFINISHED = {"parcel", "waiting", "lines", "later", "held", "queued", "tenants", "paused", "cancelling", "open"}


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_long_jobs_in_large_parcels_lose_nothing(scale: int, mill: MakeMill, conclude: Conclude) -> None:
    """Short documents in long jobs travel by 256: whoever dies has far more in hand than documents of single calls."""
    made = mill(workers=2, model="hash:64")
    count, started, jobs = 10_000 * scale, time.monotonic(), []  # type: int, float, list[str]
    hands = ["kill_worker"] * (3 if scale == 1 else 20) + ["restart_redis", "restart_qdrant"] * (1 if scale == 1 else 3)
    with made.client() as client:
        with made.running():
            client.create_collection("c", made.model, wait_s=60)
            producer = threading.Thread(target=ingest, args=(client, count, jobs, iter([count // 2] * 2)))
            producer.start()
            made.wreak(hands, (0.2, 1.2))
            producer.join(600)
            reports = settled(client, known(client, jobs), deadline_s=600)
        verdict = judge(client, "c", {str(n): f"text of document {n}" for n in range(count)})
        assert client.audit("c").gaps == 0
        assert leftovers(client) == []
        client.collections.delete("c")
    conclude(add_up(verdict, reports, made.done, started))


@pytest.mark.parametrize("scale", SHORT_OR_LONG)
def test_steered_jobs_add_up_whatever_is_killed(scale: int, mill: MakeMill, conclude: Conclude) -> None:
    made = mill(workers=2 if scale == 1 else 4)
    started, books = time.monotonic(), Books(made)
    with made.client() as client:
        with made.running():
            client.create_collection("c", made.model, tenants=True, chunking=Chunking(size=16, overlap=2), wait_s=60)
            hands = ["kill_worker"] * (3 * scale) + ["restart_redis", "restart_qdrant"] * (1 if scale == 1 else 3)
            steering = Meanwhile(lambda stop: books.steer(client, stop))
            with Meanwhile(lambda _: made.wreak(hands, (0.2, 0.8))) as wreaking, steering:
                for step in range(20 * scale):
                    books.hand_over(client)
                    if step == 10 * scale:
                        books.erase(client)
                wreaking.until(lambda: not wreaking.is_alive(), 600)
            for tenant in TENANTS:
                persist(lambda tenant=tenant: client.tenants.unlimit(tenant))  # type: ignore[misc]  # default
            books.resume_all(client)
            reports = settled(client, known(client, books.jobs), deadline_s=600)
            # What a worker was writing of the erased tenant when it was killed is taken back by one that lives.
            eventually(lambda: books.judge(client).revived == 0, 120)
        verdict = books.judge(client)
        assert [client.audit("c", tenant=tenant).gaps for tenant in (*TENANTS, ERASED)] == [0] * 4
        assert leftovers(client) == []
        client.collections.delete("c")
    conclude(add_up(verdict, reports, made.done, started))


def known(client: Client, jobs: Sequence[str]) -> set[str]:
    """Ids of all jobs, those included that a producer has begun and then begun anew."""
    return {*jobs, *(report.job_id for report in client.jobs.list(limit=10_000))}


def leftovers(client: Client) -> list[str]:
    """What Redis holds though nothing is unfinished."""
    redis = client._parts.ledger._redis  # type: ignore[attr-defined]  # who counts keys knows no privacy
    prefix = f"{{{client._parts.settings.key_prefix}}}:"
    keys = [key.decode() for key in redis.scan_iter(f"{prefix}*", count=1000)]
    left = [key for key in keys if key.removeprefix(prefix).split(":")[0] in UNFINISHED]
    return left + key_leaks.leaks(redis)


@dataclass
class Wish:
    """What one call wants of a document: a text, or None where it is to go. Of a cancelled job it may come true or not."""

    job: str
    text: str | None


@dataclass
class Books:
    """What was asked for, by whom, and so what may be there in the end."""

    mill: Mill
    jobs: list[str] = field(default_factory=list)
    #: Jobs that somebody has tried to cancel.
    cancelled: set[str] = field(default_factory=set)
    calls: Iterator[int] = field(default_factory=itertools.count)
    #: Of each document, in the order in which they were asked for.
    wishes: defaultdict[str, list[Wish]] = field(default_factory=lambda: defaultdict(list))

    def hand_over(self, client: Client) -> None:
        """One call: some documents, or many, or deletions, of one tenant or of several."""
        random = self.mill.random
        tenants = random.sample(TENANTS, random.choice([1, 1, 1, 2])) + [ERASED] * (random.random() < 0.4)
        if random.random() < 0.2:
            self._delete(client, tenants[0])
            return
        count = random.choice([1, 30, 300, 1_500])
        chosen = [(tenants[n % len(tenants)], number) for n, number in enumerate(random.sample(range(_IDS), count))]
        mark = f"call{next(self.calls)}"
        # One chunk or several, so that half of an update could be there.
        texts = {
            f"{tenant}-{number}": " ".join(f"{mark}w{n}" for n in range(random.choice([3, 10, 40])))
            for tenant, number in chosen
        }
        documents = [Document(id=key, tenant=key.split("-")[0], text=text) for key, text in texts.items()]
        priority = random.choice(list(Priority))
        job = self._persist(lambda: client.enqueue("c", documents, priority=priority, timeout_s=20).id)
        for key, text in texts.items():
            self.wishes[key].append(Wish(job, text))

    def _delete(self, client: Client, tenant: str) -> None:
        ids = [key for key in sorted(self.wishes) if key.startswith(tenant)]
        ids = self.mill.random.sample(ids, min(len(ids), 50))
        if ids:
            job = self._persist(lambda: client.delete("c", ids, tenant=tenant).id)
            for key in ids:
                self.wishes[key].append(Wish(job, None))

    def _persist(self, call: Callable[[], str]) -> str:
        """Try until it is taken; a call that was cancelled under way counts as made, by a job of no name."""
        try:
            job = persist(call)
        except (JobCancelled, QueueFull):
            job = "cancelled under way"
            self.cancelled.add(job)
        else:
            self.jobs.append(job)
        return job

    def steer(self, client: Client, stop: Stop) -> None:
        """Pause, resume and cancel whatever runs, and change what tenants may have, until told to stop."""
        random = type(self.mill.random)(self.mill.seed)
        while not stop.wait(0.1):
            reports = persist(lambda: client.jobs.list(limit=50))
            running = [each for each in reports if each.state != "done"]
            what = random.choice(["pause", "pause", "resume", "resume", "cancel", "limit", "unlimit"])
            if what in ("limit", "unlimit"):
                tenant, more = random.choice(TENANTS), {"documents": 200} if what == "limit" else {}
                persist(lambda: getattr(client.tenants, what)(tenant, **more))  # noqa: B023  # called at once
            elif running:
                chosen = random.choice(running).job_id
                if what == "cancel":
                    self.cancelled.add(chosen)
                self._steer_one(client, chosen, what)

    def _steer_one(self, client: Client, job_id: str, what: str) -> None:
        with suppress(InvalidInput):  # it has ended
            persist(lambda: getattr(client.jobs.get(job_id), what)())

    def resume_all(self, client: Client) -> None:
        """Nothing stays paused."""
        for report in client.jobs.list(limit=10_000):
            if report.paused:
                self._steer_one(client, report.job_id, "resume")

    def erase(self, client: Client) -> None:
        """Everything of one tenant goes; calls for it may come again later."""
        persist(lambda: client.erase_tenant("c", ERASED, wait_s=2))
        for key in [key for key in self.wishes if key.startswith(ERASED)]:
            self.wishes[key].append(Wish("erased", None))

    def judge(self, client: Client) -> Verdict:
        """Each document is as the last call wants it that nobody has cancelled, or as a later one that somebody has."""
        there = {system.id: text.split()[0] for _, system, text in points(client, "c") if system.chunk == 0}
        expected: dict[str, str | None] = {}
        for key, wishes in self.wishes.items():
            allowed = list(self._allowed(wishes))
            found = there.get(key)
            expected[key] = next((text for text in allowed if (text and text.split()[0]) == found), allowed[0])
        return judge(client, "c", expected)

    def _allowed(self, wishes: list[Wish]) -> Iterator[str | None]:
        for wish in reversed(wishes):
            yield wish.text
            if wish.job not in self.cancelled:
                return
        yield None
