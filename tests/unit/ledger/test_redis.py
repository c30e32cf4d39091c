"""What only the ledger in Redis has: keys in one slot, answers lost on the way, prefixes, TLS, passwords, full servers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis.crc import key_slot

from gristmill.ledger import Accepted, Claim, HighWater, RedisLedger, UnreadableParcel
from gristmill_schemas import EncoderInfo, JobState, Pooling
from gristmill_schemas.errors import BrokerUnavailable
from services import RedisServer
from unit.ledger.parcels import LONG_S, ROOMY, corrupt, lapse, parcel_of, redis_ledger, verdict_of

pytestmark = pytest.mark.server
MakeRedis = Callable[..., RedisServer]


@pytest.fixture
def ledger(redis_url: str) -> Iterator[RedisLedger]:
    with redis_ledger(redis_url, key_prefix="mill") as made:
        yield made


def claim_of(ledger: RedisLedger) -> Claim:
    claim = ledger.claim("m", LONG_S)
    assert claim is not None
    return claim


def use_everything(ledger: RedisLedger) -> None:
    """Touch every key that the ledger has."""
    ticket = ledger.open_job("c")
    for number in range(6):
        ledger.accept(parcel_of(ticket, f"p{number}"), number, ROOMY)
    corrupt(ledger, "p0")
    with pytest.raises(UnreadableParcel):
        ledger.claim("m", LONG_S)
    first, second, _, given_back = (claim_of(ledger) for _ in range(4))
    ledger.release(given_back, refund=True, error="why", delay_s=LONG_S)
    ledger.rest("m", "c", LONG_S)
    ledger.begin(first)
    ledger.finish(first, verdict_of(first.parcel, dead=1))
    ledger.split(second, second.parcel.split(), attempts=1)
    ledger.bury("c", {"x": 1})
    ledger.take_turn("duty", "me", LONG_S)
    ledger.heartbeat("w", {}, ttl_s=LONG_S)
    ledger.announce(
        EncoderInfo(model="m", digest="m", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9)
    )
    ledger.close_job(ticket.job_id)


def steps(ledger: RedisLedger, call: Callable[[], object]) -> int:
    """Commands that Redis performs for a call, those of its script included."""
    before = int(ledger._redis.info("stats")["total_commands_processed"])
    call()
    return int(ledger._redis.info("stats")["total_commands_processed"]) - before - 1


def test_a_claim_takes_few_steps_where_one_job_waits(ledger: RedisLedger) -> None:
    ticket = ledger.open_job("c")
    for number in range(3):
        ledger.accept(parcel_of(ticket, f"p{number}"), number, ROOMY)
    claim_of(ledger)  # by which the server knows the script
    assert steps(ledger, lambda: claim_of(ledger)) <= 26


def test_a_document_that_is_on_the_roster_already_costs_two_steps(ledger: RedisLedger) -> None:
    ticket, again = ledger.open_job("c"), ledger.open_job("c")
    ledger.accept(parcel_of(ticket, "p", 1), 0, ROOMY)
    ledger.accept(parcel_of(ticket, "q", 21), 1, ROOMY)
    one, many = (
        parcel_of(again, name, items).model_copy(update={"id": f"again-{name}"})
        for name, items in (("p", 1), ("q", 21))
    )
    few = steps(ledger, lambda: ledger.accept(one, 0, ROOMY))
    more = steps(ledger, lambda: ledger.accept(many, 1, ROOMY))
    assert more - few <= 2 * 20


def test_the_highest_tombstone_is_found_on_whatever_day_it_was_buried(redis_url: str) -> None:
    with redis_ledger(redis_url, tombstone_ttl_s=1000) as ledger:
        ledger.bury("c", {"x": 10, "y": 5})
        (today,) = (int(day) for day in ledger._redis.smembers(ledger._key("tombs", "c")))
        yesterday = str(today - 1)
        ledger._redis.rename(ledger._key("tomb", str(today), "c"), ledger._key("tomb", yesterday, "c"))
        ledger._redis.sadd(ledger._key("tombs", "c"), yesterday)
        ledger.bury("c", {"x": 9, "z": 7})
        assert ledger.tombstones("c", ["w", "x", "y", "z"]) == {"x": 10, "y": 5, "z": 7}
        ledger._redis.delete(ledger._key("tomb", yesterday, "c"))  # as its time would
        assert ledger.tombstones("c", ["w", "x", "y", "z"]) == {"x": 10, "z": 7}
        ledger.bury("c", {"z": 8})
        assert yesterday.encode() not in ledger._redis.smembers(ledger._key("tombs", "c"))
        assert all(0 < ledger._redis.ttl(key) <= 1000 for key in ledger._redis.scan_iter("*:tomb*"))


def test_all_keys_share_one_hash_slot(ledger: RedisLedger, redis_url: str) -> None:
    use_everything(ledger)
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        keys = [bytes(key) for key in client.scan_iter(count=1000)]
    assert len(keys) > 10
    assert len({key_slot(key) for key in keys}) == 1


def test_two_prefixes_on_one_redis_do_not_see_each_other(ledger: RedisLedger, redis_url: str) -> None:
    use_everything(ledger)
    with redis_ledger(redis_url, key_prefix="other") as other:
        assert (other.jobs(10), other.backlog("m"), other.dead_letters(10), other.workers()) == ([], 0, [], {})
        assert other.claim("m", LONG_S) is None
        assert other.tombstones("c", ["x"]) == {}
        assert other.load().documents == 0
        assert other.models() == []
        assert other.forget_expired() == 0
        assert other.take_turn("duty", "you", LONG_S)


def test_what_is_owed_never_expires_and_what_is_only_remembered_does(ledger: RedisLedger, redis_url: str) -> None:
    use_everything(ledger)
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        kinds = {bytes(key).decode().split(":")[1]: int(client.ttl(key)) for key in client.scan_iter(count=1000)}
    mortal = {"tomb", "tombs", "turn", "worker", "workers", "rest", "claim"}
    assert {kind for kind, ttl in kinds.items() if ttl > 0} == mortal
    assert kinds.keys() - mortal >= {
        "parcel",
        "waiting",
        "lines",
        "fair",
        "held",
        "letter",
        "dead",
        "load",
        "clock",
        "unreadable",
    }


class Twice:
    """Runs every script two times, as the connection does when the first answer is lost on the way."""

    def __init__(self, script: Any) -> None:
        self._script = script

    def __call__(self, **kwargs: Any) -> Any:
        self._script(**kwargs)
        return self._script(**kwargs)


def test_a_script_that_runs_again_after_a_lost_answer_counts_once(ledger: RedisLedger) -> None:
    scripts = ledger._scripts._scripts
    scripts.update({name: Twice(script) for name, script in scripts.items()})  # type: ignore[misc]  # a stand-in
    ticket = ledger.open_job("c")
    for number in range(2):
        assert ledger.accept(parcel_of(ticket, f"p{number}"), number, ROOMY) is Accepted.YES
    whole, parted = claim_of(ledger), claim_of(ledger)
    assert (whole.parcel.id, parted.parcel.id, whole.attempts) == ("p0", "p1", 1)
    ledger.begin(whole)
    ledger.release(whole, refund=False)
    whole = claim_of(ledger)
    assert (whole.parcel.id, whole.attempts) == ("p0", 2)
    ledger.finish(whole, verdict_of(whole.parcel, dead=1))
    parts = parted.parcel.split()
    ledger.split(parted, parts, attempts=1)
    for part in parts:
        ledger.finish(claim_of(ledger), verdict_of(part))
    ledger.close_job(ticket.job_id)
    report = ledger.report(ticket.job_id)
    assert report is not None
    assert (report.state, report.accepted, report.stored, report.dead) == (JobState.DONE, 4, 3, 1)
    assert ledger.load().parcels == 0
    assert len(ledger.dead_letters(10)) == 1


class Forgetful:
    """A registered script on a server that forgets it between loading and calling."""

    def __init__(self, script: Any) -> None:
        self.script = script.script

    def __call__(self, **_: Any) -> Any:
        raise redis.exceptions.NoScriptError("No matching script. Please use EVAL.")


def test_a_redis_that_forgets_a_script_between_loading_and_calling_it_still_runs_it(ledger: RedisLedger) -> None:
    scripts = ledger._scripts._scripts
    scripts.update({name: Forgetful(script) for name, script in scripts.items()})  # type: ignore[misc]  # a stand-in
    ticket = ledger.open_job("c")
    assert ledger.accept(parcel_of(ticket), 0, ROOMY) is Accepted.YES
    claim = claim_of(ledger)
    assert ledger.finish(claim, verdict_of(claim.parcel))
    assert ledger.load().parcels == 0


def test_a_forgotten_job_does_not_come_back_as_a_ghost(ledger: RedisLedger, redis_url: str) -> None:
    ticket = ledger.open_job("c")
    for number in range(2):
        ledger.accept(parcel_of(ticket, f"p{number}"), number, ROOMY)
    first, second = claim_of(ledger), claim_of(ledger)
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        client.delete(ledger._key("job", ticket.job_id))
    assert ledger.finish(first, verdict_of(first.parcel))
    assert ledger.split(second, second.parcel.split(), attempts=1)
    assert ledger.report(ticket.job_id) is None
    assert ledger.jobs(10) == []
    while claim := ledger.claim("m", LONG_S):
        ledger.finish(claim, verdict_of(claim.parcel))
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        assert not client.exists(ledger._key("jobs"), ledger._key("open"), ledger._key("finished"))


def test_many_claim_one_parcel_and_one_gets_it(ledger: RedisLedger) -> None:
    ticket = ledger.open_job("c")
    ledger.accept(parcel_of(ticket), 0, ROOMY)
    start, answers = threading.Barrier(8), []

    def claim() -> None:
        start.wait()
        answers.append(ledger.claim("m", LONG_S))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert answers.count(None) == 7


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_password_and_tls(make_redis: MakeRedis, tls: bool) -> None:
    server = make_redis(password="miller", tls=tls)
    with redis_ledger(server.url) as ledger:
        use_everything(ledger)
    with (
        redis_ledger(server.url.replace(":miller@", "")) as stranger,
        pytest.raises(BrokerUnavailable, match="authenticat"),
    ):
        stranger.open_job("c")


def test_messages_about_a_server_that_is_away_hide_its_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://:secret@127.0.0.1:{taken.getsockname()[1]}/0"
        with redis_ledger(url) as ledger, pytest.raises(BrokerUnavailable) as caught:
            ledger.open_job("c")
    assert "secret" not in str(caught.value)
    assert "GRISTMILL_REDIS_URL" in str(caught.value)


def test_a_full_redis_asks_for_patience_and_lets_running_work_finish(make_redis: MakeRedis) -> None:
    """`noeviction`: nothing is thrown away, writes are refused; `finish` frees memory and so must be let through."""
    server = make_redis(appendfsync=None)
    with redis_ledger(server.url) as ledger, contextlib.closing(server.client()) as client:
        ticket = ledger.open_job("c")
        ledger.accept(parcel_of(ticket), 0, ROOMY)
        claim = claim_of(ledger)
        client.config_set("maxmemory", "1mb")
        client.config_set("maxmemory", client.info("memory")["used_memory"] - 1)
        assert ledger.accept(parcel_of(ticket, "q"), 1, ROOMY) is Accepted.NO_MEMORY
        assert ledger.finish(claim, verdict_of(claim.parcel))
        client.config_set("maxmemory", 0)
        report = ledger.report(ticket.job_id)
        assert report is not None
        assert (report.accepted, report.stored) == (2, 2)
        assert ledger.load().documents == 0


def test_a_redis_that_was_restarted_knows_everything_again(make_redis: MakeRedis) -> None:
    server = make_redis(appendfsync="always")
    with redis_ledger(server.url) as ledger:
        ticket = ledger.open_job("c")
        ledger.accept(parcel_of(ticket), 0, ROOMY)
        claim = claim_of(ledger)
        ledger.begin(claim)
        server.kill()
        server.start()
        assert ledger.claim("m", LONG_S) is None
        lapse(ledger, "p")
        assert claim_of(ledger).attempts == 2


def test_the_high_water_mark_holds_against_many_producers(ledger: RedisLedger) -> None:
    mark = HighWater(documents=20, bytes=10**9)
    tickets = [ledger.open_job("c") for _ in range(8)]

    def produce(number: int) -> None:
        sequence = 0
        while ledger.accept(parcel_of(tickets[number], f"{number}.{sequence}"), sequence, mark) is Accepted.YES:
            sequence += 1

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.load().documents == 20
    assert sum(report.accepted for report in ledger.jobs(10)) == 20


@pytest.mark.vandal
def test_a_heartbeat_and_an_announcement_that_nobody_can_read_hide_no_worker_and_no_model(
    ledger: RedisLedger, redis_url: str
) -> None:
    ledger.heartbeat("w", {"engines": [{"model_digest": "m"}]}, ttl_s=LONG_S)
    ledger.announce(EncoderInfo(model="m", digest="m", pooling=Pooling.MEAN, dimensions=8, max_tokens=9))
    forged = [b"", b"{", b"7", b"[]", b'"x"', b"[" * 50_000, b"\xff", b'{"engines": 1}', b'{"engines": [1]}']
    aimed = b'{"model": "m", "digest": "x:waiting:y", "pooling": "mean", "dimensions": 8, "max_tokens": 9}'
    with contextlib.closing(redis.Redis.from_url(redis_url)) as broker:
        for number, body in enumerate([*forged, aimed]):
            name = b"\xff%d" % number
            broker.set(b"{mill}:worker:" + name, body, ex=60)
            broker.zadd("{mill}:workers", {name: 2**52})
            broker.hset("{mill}:models", name.decode("latin-1"), body)
            broker.zadd("{mill}:announced", {name.decode("latin-1"): 2**52})
    workers = ledger.workers()
    assert workers.pop("w") == {"engines": [{"model_digest": "m"}]}
    assert not any("engines" in status for status in workers.values())
    assert [info.digest for info in ledger.models()] == ["m"]
