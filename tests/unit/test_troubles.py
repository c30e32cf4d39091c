"""The eight troubles that an operator meets, and their kin: each is named, with the command that helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gristmill import __version__
from gristmill.cli.doctor import check_devices, check_workers
from gristmill.ledger import HighWater, MemoryLedger
from gristmill.ledger.base import Load
from gristmill.maintenance.troubles import Kind, Memory, Observed, Severity, Trouble, activity_between, judge
from gristmill.maintenance.troubles.trouble import SENTENCES
from gristmill_schemas import DeadGroup, DeadSummary, ModelQueue
from gristmill_schemas.errors import GristmillError

NOW = 1_000_000.0
HOSTILE = "$(rm -rf /) 'x' <b>"


def engine(**changes: Any) -> dict[str, Any]:
    idle = {"busy": 50.0, "tokens": 0.0, "store": 10.0, "no_work": 40.0}
    return {"model": "m", "model_digest": "d", "tokens": 1000, "texts": 100, "idle": idle, "batch_s": 0.4, **changes}


def queue(**changes: Any) -> ModelQueue:
    told = {"model": "m", "model_digest": "0" * 64, "parcels": 50, "documents": 3200, "tokens": 9, "held_parcels": 0}
    return ModelQueue(**told | {"oldest_waiting_s": 700.0} | changes)


def mill(**changes: Any) -> Observed:
    """One at work, with which nothing is wrong."""
    sound = Observed(
        at=NOW,
        redis_url="redis://localhost:6379/0",
        qdrant_url="http://localhost:6333",
        qdrant_s=0.002,
        memory=Memory(used=10, limit=100),
        load=Load(parcels=50, documents=3200, bytes=10_000),
        marks=HighWater(documents=100_000, bytes=1_000_000),
        waiting=(queue(workers=1),),
        workers={"gpu1:77:abc": {"notices": [], "draining": False, "engines": [engine()]}},
        dead=DeadSummary(max_bytes=1000),
    )
    return replace(sound, **changes)


def dead(letters: int, died_at: float = NOW - 5, size: int = 10) -> DeadSummary:
    group = DeadGroup(
        collection="faq", error="EncodingFailed", letters=letters, newest_died_at=died_at, reason="it was NaN"
    )
    return DeadSummary(groups=(group,), letters=letters, bytes=size, max_bytes=1000)


def busy_later(seconds: float, **counted: float) -> dict[str, Any]:
    idle = {cause: float(then) + counted.get(cause, 0.0) for cause, then in engine()["idle"].items()}
    return {"gpu1:77:abc": {"engines": [engine(idle=idle, tokens=1000 + 100 * seconds, texts=100 + seconds)]}}


CASES: dict[str, tuple[Observed, tuple[Observed, ...], Kind, str]] = {
    "Redis away": (mill(redis_error="refused"), (), Kind.REDIS_AWAY, "redis-cli -u redis://localhost:6379/0 ping"),
    "a password stays hidden": (
        mill(redis_error="refused", redis_url="redis://:***@localhost"),
        (),
        Kind.REDIS_AWAY,
        'redis-cli -u "$GRISTMILL_REDIS_URL" ping',
    ),
    "Qdrant away": (mill(qdrant_error="refused"), (), Kind.QDRANT_AWAY, "curl http://localhost:6333/readyz"),
    "Redis full": (
        mill(memory=Memory(used=90, limit=100)),
        (),
        Kind.REDIS_FULL,
        "redis-cli -u redis://localhost:6379/0 config set maxmemory 200",
    ),
    "Redis evicts": (
        mill(memory=Memory(10, 100, "allkeys-lru")),
        (),
        Kind.REDIS_EVICTS,
        "redis-cli -u redis://localhost:6379/0 config set maxmemory-policy noeviction",
    ),
    "the queue is full": (
        mill(marks=HighWater(documents=3200, bytes=1_000_000)),
        (),
        Kind.QUEUE_FULL,
        "gristmill worker --model m",
    ),
    "poison documents": (mill(dead=dead(3)), (), Kind.POISON, "gristmill dead list -c faq -e EncodingFailed"),
    "no worker for a model": (
        mill(waiting=(queue(model=HOSTILE),)),
        (),
        Kind.NO_WORKER,
        """gristmill worker --model '$(rm -rf /) '"'"'x'"'"' <b>'""",
    ),
    "its worker is loading": (
        mill(waiting=(queue(loading=1),)),
        (),
        Kind.LOADING,
        "gristmill queue --watch",
    ),
    "nobody at all": (mill(workers={}, waiting=()), (), Kind.NOBODY, "gristmill worker"),
    "a hung device": (
        mill(workers={"gpu1:77:abc": {"engines": [engine(batch_s=95.0)]}}),
        (),
        Kind.HUNG,
        "kill -KILL 77",
    ),
    "a worker that vanished": (
        mill(workers={}),
        (mill(at=NOW - 20, workers={"gpu1:77:abc": {"parcels": 3, "engines": [engine()]}}),),
        Kind.VANISHED,
        "gristmill health --live",
    ),
    "workers that die again and again": (
        mill(workers={}),
        (mill(at=NOW - 20, workers={f"gpu1:{n}:abc": {"parcels": 3, "engines": [engine()]} for n in range(3)}),),
        Kind.DYING,
        "dmesg -T | grep -i 'killed process'",
    ),
    "a store that answers slowly": (
        mill(qdrant_s=2.5),
        (),
        Kind.SLOW_STORE,
        "curl -s http://localhost:6333/metrics",
    ),
    "a store that workers wait for": (
        mill(workers=busy_later(60, store=45.0, busy=15.0)),
        (mill(at=NOW - 60),),
        Kind.SLOW_STORE,
        "curl -s http://localhost:6333/metrics",
    ),
    "a worker waiting": (
        mill(workers={"gpu1:77:abc": {"notices": ["Qdrant limits our rate"], "engines": [engine()]}}),
        (),
        Kind.WAITING,
        "gristmill doctor",
    ),
    "dead letters rising": (
        mill(dead=dead(30)),
        (mill(at=NOW - 120, dead=dead(4)),),
        Kind.DEAD_RISING,
        "gristmill dead summary",
    ),
    "dead letters at their mark": (mill(dead=dead(30, size=1000)), (), Kind.DEAD_FULL, "gristmill dead summary"),
    "old dead letters": (mill(dead=dead(30, NOW - 9e4)), (), Kind.DEAD_KEPT, "gristmill dead summary"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_with_what_to_type(case: str) -> None:
    now, before, kind, command = CASES[case]
    named = {trouble.kind: trouble for trouble in judge(now, before)}
    assert named[kind].command == command
    for language in SENTENCES:
        assert "{" not in named[kind].what(language) + named[kind].why(language)


def test_nothing_is_said_of_a_mill_that_is_well() -> None:
    earlier = mill(at=NOW - 60, workers={"gpu1:77:abc": {"engines": [engine()]}})
    later = mill(workers=busy_later(60, busy=50.0, store=10.0))
    assert judge(mill()) == []
    assert judge(later, [earlier]) == []


def test_a_worker_that_drained_or_had_nothing_in_hand_has_not_vanished() -> None:
    status = {"parcels": 3, "draining": True, "engines": [engine()]}
    for gone in (status, status | {"draining": False, "parcels": 0}):
        leaving = mill(at=NOW - 20, workers={"gpu1:77:abc": gone})
        assert Kind.VANISHED not in {each.kind for each in judge(mill(workers={}), [leaving])}


def test_workers_that_die_before_they_can_say_anything_are_seen_by_those_that_begin_in_their_places() -> None:
    idle = {"parcels": 0, "engines": [engine()]}
    before = [mill(at=NOW - 9 * n, workers={f"gpu1:{n}:abc": idle}) for n in (3, 2, 1)]
    begun = mill(workers={"gpu1:99:abc": {**idle, "started_at": NOW - 2}})
    dying = {each.kind: each for each in judge(begun, before)}[Kind.DYING]
    assert (dying.facts["workers"], dying.facts["host"]) == (3, "gpu1")
    sent_away = mill(workers={"gpu1:99:abc": {**idle, "started_at": NOW - 9_000}})
    elsewhere = mill(workers={"gpu2:99:abc": {**idle, "started_at": NOW - 2}})
    for well in (sent_away, elsewhere):
        assert judge(well, before) == []


def test_while_redis_is_away_nothing_is_judged_by_what_it_said_before() -> None:
    stale = mill(redis_error="gone", workers={"w": {"notices": ["x"]}}, dead=dead(9), waiting=(queue(),))
    assert [each.kind for each in judge(stale, [mill(at=NOW - 60)])] == [Kind.REDIS_AWAY]


def test_the_worst_comes_first_and_of_many_alike_a_few_are_told() -> None:
    workers = {f"gpu{n}:1:a": {"notices": [f"waits for {n}"], "engines": []} for n in range(500)}
    found = judge(mill(workers=workers, qdrant_error="refused", dead=dead(3, NOW - 9e4)))
    assert [each.kind for each in found] == [Kind.QDRANT_AWAY, *[Kind.WAITING] * 5, Kind.DEAD_KEPT]
    assert [each.severity for each in found][:: len(found) - 1] == [Severity.CRITICAL, Severity.NOTE]


def test_what_many_wait_for_is_said_once_and_not_where_it_is_known_to_be_away() -> None:
    notices = ["no work is pulled for now: the model server is away", "the model server is away", "Qdrant is away"]
    workers = {f"gpu{n}:1:a": {"notices": notices, "engines": []} for n in range(7)}
    model, store = (each for each in judge(mill(workers=workers)) if each.kind is Kind.WAITING)
    assert model.facts["notice"] == notices[0]
    assert store.what() == "Work waits: gpu0:1:a, gpu1:1:a, gpu2:1:a, gpu3:1:a, gpu4:1:a and 2 more."
    away = judge(mill(workers=workers, qdrant_error="refused"))
    assert [each.kind for each in away] == [Kind.QDRANT_AWAY, Kind.WAITING]


def test_doctor_says_of_a_device_that_hangs_the_same_as_the_page() -> None:
    ledger = MemoryLedger()
    assert check_devices(ledger) == "no batch has been on one for long"
    ledger.heartbeat("gpu1:77:abc", {"engines": [engine(batch_s=95.0)]}, ttl_s=60)
    with pytest.raises(GristmillError, match=r"one batch of m has been on it for 95 s.*`kill -KILL 77`"):
        check_devices(ledger)


def test_doctor_says_where_versions_run_beside_one_another() -> None:
    ledger = MemoryLedger()
    ledger.heartbeat("gpu1:1:a", {"version": __version__, "engines": [engine()]}, ttl_s=60)
    assert "version" not in check_workers(ledger)
    ledger.heartbeat("gpu2:1:a", {"version": "0.1.9", "engines": [engine()]}, ttl_s=60)
    ledger.heartbeat("gpu3:1:a", {"engines": [engine()]}, ttl_s=60)
    beside = f"1 worker of 0.1.9, 1 worker of {__version__}, 1 worker of an unknown version, {__version__} here"
    assert f"not all is of one version: {beside}; finish the upgrade, workers first" in check_workers(ledger)


def test_a_trouble_that_ends_by_itself_says_by_which_setting_and_when() -> None:
    told = {"settings": {"encode_timeout_s": 600.0, "lease_s": 30.0}, "parcels": 3}
    (hung,) = judge(mill(workers={"gpu1:77:abc": {**told, "engines": [engine(batch_s=95.0)]}}))
    assert "after GRISTMILL_ENCODE_TIMEOUT_S=600 seconds, which is in 8 min" in hung.why()
    before = mill(at=NOW - 20, workers={"gpu1:77:abc": {**told, "engines": [engine()]}})
    (gone,) = (each for each in judge(mill(workers={}), [before]) if each.kind is Kind.VANISHED)
    assert "after GRISTMILL_LEASE_S=30 seconds, which is in 10 s" in gone.why()
    (full,) = judge(mill(marks=HighWater(documents=3200, bytes=1_000_000)))
    assert "GRISTMILL_QUEUE_MAX_DOCUMENTS=3200 or GRISTMILL_QUEUE_MAX_BYTES=1000000" in full.why()


def test_every_kind_has_its_sentences_in_every_language() -> None:
    for sentences in SENTENCES.values():
        assert set(sentences) == set(Kind)


def test_braces_in_what_servers_say_are_text() -> None:
    told = Trouble(Kind.WAITING, Severity.WARNING, "", {"worker": "{0}", "notice": "{notice} {x"})
    assert told.why().endswith("Said there: {notice} {x")


def test_rates_go_by_the_engines_own_seconds_and_not_by_when_somebody_looked() -> None:
    then = {"a": {"engines": [engine()]}, "gone": {"engines": [engine()]}}
    idle = {"busy": 56.0, "tokens": 0.0, "store": 13.0, "no_work": 40.0}
    now = {"a": {"engines": [engine(idle=idle, tokens=2800, texts=190)]}, "new": {"engines": [engine()]}}
    done = activity_between(then, now)
    assert (done.engines, done.seconds, done.tokens_per_s, done.texts_per_s) == (1, 9.0, 200.0, 10.0)
    assert done.shares == pytest.approx({"busy": 6 / 9, "tokens": 0.0, "store": 3 / 9, "no_work": 0.0})


def test_what_is_idle_for_a_server_that_is_away_counts_as_no_work() -> None:
    idle = {"busy": 53.0, "tokens": 0.0, "store": 10.0, "no_work": 41.0, "model_server": 6.0}
    done = activity_between({"a": {"engines": [engine()]}}, {"a": {"engines": [engine(idle=idle)]}})
    assert done.shares == pytest.approx({"busy": 0.3, "tokens": 0.0, "store": 0.0, "no_work": 0.7})


@pytest.mark.parametrize("said", [{}, {"engines": [{}]}, {"engines": [{"idle": {"busy": "x"}, "tokens": None}]}])
def test_a_worker_that_says_little_or_nonsense_disturbs_nobody(said: dict[str, Any]) -> None:
    assert judge(mill(workers={"strange name": said}), [mill(at=NOW - 60, workers={"strange name": said})]) == []
    assert activity_between({"w": said}, {"w": said}).engines == 0
