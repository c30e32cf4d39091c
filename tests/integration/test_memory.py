"""The marks speak of Redis's memory, and a Redis that is full drains."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator

import pytest
import redis

from gristmill.ingest.broker import CeleryDispatcher
from gristmill.ingest.producer import Producer
from gristmill.ledger import AboveLimit, Accepted, HighWater, Keeping, RedisLedger
from gristmill.ledger.connection import Headroom, connect
from gristmill.settings import ClientSettings
from gristmill_schemas import (
    CollectionSpec,
    DeadLetter,
    Deletion,
    Document,
    EncoderInfo,
    JobState,
    Parcel,
    Pooling,
)
from services import RedisServer
from unit.ledger.parcels import LONG_S, verdict_of
from waiting import eventually

pytestmark = pytest.mark.server

MODEL = "a" * 64
ENCODER = EncoderInfo(model="m", digest=MODEL, pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9)
ROOMY = HighWater(documents=10**9, bytes=10**12)


class Mill:
    """A ledger and a broker on a Redis of their own."""

    def __init__(
        self, server: RedisServer, client: redis.Redis, keeping: Keeping | None = None, *, roster: bool = True
    ) -> None:
        settings = ClientSettings(redis_url=server.url, roster=roster)
        self.client = client
        self.ledger = RedisLedger(settings, client, keeping)
        self.dispatcher = CeleryDispatcher(settings)
        self._random = random.Random(1)

    def used(self) -> int:
        return int(self.client.info("memory")["used_memory"])

    def text(self, size: int) -> str:
        return " ".join(str(self._random.random()) for _ in range(size // 19 + 1))

    def enqueue(self, items: int = 1, size: int = 100, mark: HighWater = ROOMY) -> Accepted | AboveLimit:
        """One job of one parcel, as `Client.enqueue` makes it."""
        ticket = self.ledger.open_job("articles")
        documents = tuple(Document(id=f"{ticket.job_id}-{number}", text=self.text(size)) for number in range(items))
        parcel = Parcel(
            id=f"{ticket.job_id}.0",
            job_id=ticket.job_id,
            collection="articles",
            model_digest=MODEL,
            documents=documents,
            version=ticket.version,
            enqueued_at=ticket.opened_at,
        )
        answer = self.ledger.accept(parcel, 0, mark)
        self.ledger.close_job(ticket.job_id)
        if answer is Accepted.YES:
            self.dispatcher.publish(MODEL)
        return answer

    def grown_by(self, items: Iterable[Document | Deletion]) -> float:
        """What the mark counts for one job of all these, over what Redis grew by."""
        self.enqueue()
        before, held = self.used(), self.ledger.load().bytes
        ticket = self.ledger.open_job("articles")
        spec = CollectionSpec(name="articles", space=ENCODER.space())
        Producer(self.ledger, self.dispatcher, ROOMY).feed(spec, ticket, items)  # type: ignore[type-var]  # both kinds
        self.ledger.close_job(ticket.job_id)
        return (self.ledger.load().bytes - held) / (self.used() - before)

    def drain(self, dead: bool = False) -> int:
        """Work everything off; returns how many parcels that was."""
        done = 0
        while claim := self.ledger.claim(MODEL, LONG_S):
            assert self.ledger.begin(claim)
            assert self.ledger.finish(claim, verdict_of(claim.parcel, dead=len(claim.parcel) if dead else 0))
            done += 1
        return done


MakeMill = Callable[..., Mill]


@pytest.fixture
def make_mill(make_redis: Callable[..., RedisServer]) -> Iterator[MakeMill]:
    with contextlib.ExitStack() as closing:

        def make(keeping: Keeping | None = None, *, roster: bool = True, **server: str) -> Mill:
            started = make_redis(appendfsync=None, **server)
            client = connect(ClientSettings(redis_url=started.url))
            closing.callback(client.close)
            made = Mill(started, client, keeping, roster=roster)
            closing.callback(made.dispatcher.close)
            return made

        yield make


@pytest.mark.parametrize(("count", "items", "size"), [(600, 1, 100), (600, 1, 2000), (100, 64, 1000)])
def test_the_marks_figure_is_what_redis_grew_by(make_mill: MakeMill, count: int, items: int, size: int) -> None:
    mill = make_mill()
    mill.enqueue()
    before, held = mill.used(), mill.ledger.load().bytes
    for _ in range(count):
        assert mill.enqueue(items, size) is Accepted.YES
    grew, figure = mill.used() - before, mill.ledger.load().bytes - held
    assert figure / 1.3 < grew < figure * 1.3, f"{grew / count:.0f} bytes per parcel, counted {figure / count:.0f}"


@pytest.mark.parametrize("roster", [True, False])
@pytest.mark.parametrize(
    ("count", "size", "name"),
    [
        (6400, 20, 8),
        (6400, 20, 36),
        (6400, 20, 100),
        (3200, 100, 8),
        (1600, 1000, 36),
        (300, 20_000, 8),
        (60, 300_000, 8),
    ],
)
def test_the_figure_of_one_long_job_is_what_redis_grew_by(
    make_mill: MakeMill, roster: bool, count: int, size: int, name: int
) -> None:
    """Whose parcels are as `enqueue` packs them, and share messages."""
    mill = make_mill(roster=roster)
    items = (Document(id=f"{number:0{name}}", text=mill.text(size)) for number in range(count))
    assert mill.grown_by(items) == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize("roster", [True, False])
def test_the_figure_of_deletions_is_what_redis_grew_by(make_mill: MakeMill, roster: bool) -> None:
    """So many that what Redis takes and gives back besides is little of it: 256 of them are 2 kB."""
    mill = make_mill(roster=roster)
    assert mill.grown_by(Deletion(id=f"{number:036}") for number in range(40_000)) == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize(("tenants", "name"), [(1, 8), (40, 8), (3200, 8), (3200, 100)])
def test_the_figure_of_many_tenants_is_what_redis_grew_by(make_mill: MakeMill, tenants: int, name: int) -> None:
    mill = make_mill()
    of_each = (Document(id=f"{n:036}", text=mill.text(100), tenant=f"{n % tenants:0{name}}") for n in range(3200))
    assert mill.grown_by(of_each) == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize("size", [60, 400])
def test_the_webhooks_figure_is_what_redis_grew_by(make_mill: MakeMill, size: int) -> None:
    ledger = (mill := make_mill()).ledger

    def told_of(jobs: int) -> None:
        for _ in range(jobs):
            ledger.close_job(ledger.open_job("articles", notify=f"https://hooks.example.com/{'x' * size}").job_id)

    told_of(10)  # Redis has loaded the scripts
    before, held = mill.used(), ledger.load().bytes
    told_of(1000)
    grew, figure = mill.used() - before, ledger.load().bytes - held
    assert figure / 1.3 < grew < figure * 1.3, f"{grew} grown, {figure} counted"


def test_a_job_whose_webhook_is_delivered_costs_no_more_than_any_other(make_mill: MakeMill) -> None:
    ledger = (mill := make_mill()).ledger

    def told_of(jobs: int) -> None:
        for _ in range(jobs):
            ledger.close_job(ledger.open_job("articles", notify=f"https://hooks.example.com/{'x' * 400}").job_id)
            webhook = ledger.webhooks.take(LONG_S)
            assert webhook is not None
            ledger.webhooks.delivered(webhook)

    told_of(10)  # Redis has loaded the scripts
    before, held = mill.used(), ledger.load().bytes
    told_of(1000)
    grew, figure = mill.used() - before, ledger.load().bytes - held
    assert figure / 1.3 < grew < figure * 1.3, f"{grew} grown, {figure} counted"


@pytest.mark.parametrize("size", [100, 20_000])
def test_the_dead_letters_figure_is_what_redis_grew_by(make_mill: MakeMill, size: int) -> None:
    mill = make_mill()
    mill.enqueue(4, size)
    mill.drain(dead=True)
    before, held = mill.used(), mill.ledger.load()
    for _ in range(250):
        mill.enqueue(4, size)
    mill.drain(dead=True)
    mill.client.delete("gristmill:bulk." + MODEL[:16])
    load = mill.ledger.load()
    grew = mill.used() - before - (load.bytes - held.bytes)
    figure = load.dead_bytes - held.dead_bytes
    assert load.dead_letters == 1004
    # The roster grew too, and is nobody's queue: some 110 bytes for each of so few documents.
    assert figure / 1.3 < grew - 110 * 1000 < figure * 1.3, f"{grew} grown, {figure} counted"


def test_finished_jobs_give_their_memory_back(make_mill: MakeMill) -> None:
    mill = make_mill(Keeping(jobs_kept=100))
    for _ in range(300):
        mill.enqueue()
        mill.drain()
    assert mill.client.zcard("{gristmill}:jobs") == 100
    assert mill.ledger.load().bytes < 100 * 1000


def test_a_redis_at_its_limit_refuses_new_work_and_drains(make_mill: MakeMill) -> None:
    """With an eighth of the memory left free; then at the limit itself, because somebody else has filled it."""
    mill = make_mill(maxmemory="16mb")
    accepted = 0
    while (answer := mill.enqueue(8, 2000)) is Accepted.YES:
        accepted += 1
    assert answer is Accepted.NO_MEMORY
    limit = 16 * 1024 * 1024
    # The message goes out after the parcel is counted, and a look back costs a few per cent.
    assert limit * (1 - 2 * Headroom.RESERVE) < mill.used() < limit * (1 - Headroom.RESERVE / 2)
    fill_up(mill)
    mill.ledger.announce(ENCODER)
    mill.ledger.heartbeat("w", {"parcels": 1}, ttl_s=60)
    assert mill.ledger.take_turn("duty", "me", 60)
    mill.ledger.bury("articles", {"x": 1})
    claim = mill.ledger.claim(MODEL, LONG_S)
    assert claim is not None
    assert mill.ledger.release(claim, refund=True, error="why")
    claim = mill.ledger.claim(MODEL, LONG_S)
    assert claim is not None
    mill.ledger.renew([claim], LONG_S)
    assert mill.ledger.split(claim, claim.parcel.split(), attempts=1)
    assert mill.drain(dead=True) == accepted - 1 + 8
    assert all(report.state is JobState.DONE for report in mill.ledger.jobs(10**6))
    assert mill.ledger.load().parcels == 0


def fill_up(mill: Mill) -> None:
    """Somebody else takes the last byte."""
    with contextlib.suppress(redis.exceptions.OutOfMemoryError):
        for number in range(10**6):
            mill.client.set(f"somebody:{number}", "x" * 10_000)


def test_room_is_seen_again_when_there_is_some(make_mill: MakeMill) -> None:
    mill = make_mill()
    mill.enqueue()
    mill.client.config_set("maxmemory", mill.used())
    eventually(lambda: mill.enqueue() is Accepted.NO_MEMORY)
    mill.client.config_set("maxmemory", 0)
    eventually(lambda: mill.enqueue() is Accepted.YES)


def test_a_letter_of_a_document_is_found_without_reading_others(make_mill: MakeMill) -> None:
    from gristmill.ledger.reading import RedisEvidence

    mill = make_mill()
    for _ in range(50):
        mill.enqueue(8)
    mill.drain(dead=True)
    evidence = RedisEvidence(mill.ledger)
    letters: list[DeadLetter] = list(evidence.letters("articles"))
    assert len(letters) == len(list(evidence.letters())) == 400
    wanted = letters[200].document
    assert wanted is not None
    before = mill.client.info("stats")["total_commands_processed"]
    (found,) = evidence.letters_of("articles", wanted.id, None)
    asked = mill.client.info("stats")["total_commands_processed"] - before
    assert found.document == wanted
    assert asked <= 4
    assert evidence.letters_of("articles", wanted.id[:-1], None) == []
    assert evidence.letters_of("articles", wanted.id, "tenant") == []


@pytest.mark.soak
def test_another_models_backlog_costs_nothing(make_mill: MakeMill, capsys: pytest.CaptureFixture[str]) -> None:
    """100,000 foreign parcels in 1,000 collections: what one claim and one count take of Redis's time."""
    mill = make_mill()
    ticket = mill.ledger.open_job("c")
    for number in range(100_000):
        parcel = Parcel(
            id=f"p{number}",
            job_id=ticket.job_id,
            collection=f"c{number % 1000}",
            model_digest="foreign",
            documents=(Document(id=str(number), text="t"),),
            version=1,
            enqueued_at=1.0,
        )
        mill.ledger.accept(parcel, number, ROOMY)
    mill.enqueue()
    mill.client.config_resetstat()
    assert mill.ledger.backlog(MODEL) == 1
    assert mill.ledger.claim(MODEL, LONG_S) is not None
    ours = mill.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    mill.client.config_resetstat()
    assert 20_000 < mill.ledger.backlog("foreign") <= 100_000
    backlog = mill.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    mill.client.config_resetstat()
    assert mill.ledger.claim("foreign", LONG_S) is not None
    claim = mill.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    with capsys.disabled():
        print(f"\nmicroseconds beside 100,000 foreign parcels: {ours}; in them: backlog {backlog}, claim {claim}")
    assert max(ours, backlog, claim) < 5000
