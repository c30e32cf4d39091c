"""Dead letters for people and scripts: grouped, streamed, replayed and dropped; in both ledgers, and by the command line."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gristmill import Client, ClientSettings, Document, InvalidInput, Job, LongTexts
from gristmill.backends import Parts
from gristmill.ledger import Keeping, Ledger, MemoryLedger, RedisLedger, Verdict
from gristmill.ledger.connection import connect
from gristmill.ledger.reading import MemoryEvidence, RedisEvidence
from gristmill.settings import load_settings
from gristmill.store.connection import open_local_store
from gristmill_schemas import Chunking, DeadLetter, Outcome, Parcel
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import QdrantServer
from unit.ledger.parcels import LONG_S, letter_of
from waiting import eventually

Run = Callable[..., tuple[int, str, str]]
MODEL = HashEncoder(16).info


class Grave:
    """A dispatcher whose worker lets every document die at once, while its producer is still at it; or takes no work."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.error = "EncodingFailed"
        self.works = True
        #: Documents, by the parcel.
        self.took: list[int] = []

    def publish(self, model_digest: str, count: int = 1) -> None:
        while self.works and (claim := self._ledger.claim(model_digest, LONG_S)) is not None:
            self.took.append(len(claim.parcel))
            self._ledger.finish(claim, self._verdict(claim.parcel))

    def _verdict(self, parcel: Parcel) -> Verdict:
        about = {"error": self.error, "collection_key": parcel.collection_key, "died_at": self._ledger.now()}
        letters = tuple(letter_of(parcel, number).model_copy(update=about) for number in range(len(parcel)))
        return Verdict(Counter({Outcome.DEAD: len(parcel)}), letters=letters)

    def close(self) -> None:
        """Nothing to close."""


class Mill:
    """A client on one of the ledgers, with Qdrant's local mode and a worker that lets everything die."""

    def __init__(self, ledger: Ledger, evidence: Any, settings: ClientSettings, closing: contextlib.ExitStack) -> None:
        self.ledger = ledger
        self.grave = Grave(ledger)
        store = open_local_store(":memory:")
        closing.callback(store.close)
        parts = Parts(settings, ledger, self.grave, store, None, evidence, None, local=True, closing=closing)  # type: ignore[arg-type]  # nobody searches
        self.client = Client.__new__(Client)
        self.client._start(parts)
        ledger.announce(MODEL)

    def die(self, collection: str, count: int, error: str = "EncodingFailed", text: str = "text") -> Job:
        """So many documents of one job die of one error."""
        self.client.create_collection(collection, MODEL.model)
        self.grave.error = error
        start = len(self.client.dead.list(collection, limit=100_000))
        documents = (Document(id=f"{collection}-{start + n}", text=text) for n in range(count))
        job = self.client.enqueue(collection, documents)
        self.grave.publish(MODEL.digest)  # for what came after its message, as the reconciler does
        return job

    def count(self, **chosen: Any) -> int:
        return len(self.client.dead.list(limit=100_000, **chosen))


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.server)])
def make_mill(request: pytest.FixtureRequest) -> Iterator[Callable[..., Mill]]:
    with contextlib.ExitStack() as closing:

        def make(keeping: Keeping | None = None, **settings: Any) -> Mill:
            if request.param == "memory":
                ledger = MemoryLedger(keeping=keeping)
                return Mill(ledger, MemoryEvidence(ledger), load_settings(ClientSettings, **settings), closing)
            chosen = load_settings(ClientSettings, redis_url=request.getfixturevalue("redis_url"), **settings)
            server = closing.enter_context(contextlib.closing(connect(chosen)))
            on_redis = RedisLedger(chosen, server, keeping)
            return Mill(on_redis, RedisEvidence(on_redis), chosen, closing)

        yield make


@pytest.fixture
def mill(make_mill: Callable[..., Mill]) -> Mill:
    return make_mill()


# summary and choice


def test_they_are_grouped_by_error_and_collection_with_the_share_of_their_mark(mill: Mill) -> None:
    assert mill.client.dead.summary().groups == ()
    mill.die("faq", 3)
    mill.die("faq", 5, "StoreRefused")
    mill.die("docs", 1)
    found = mill.client.dead.summary()
    assert [(each.collection, each.error, each.letters, each.reason) for each in found.groups] == [
        ("faq", "StoreRefused", 5, "bad"),
        ("faq", "EncodingFailed", 3, "bad"),
        ("docs", "EncodingFailed", 1, "bad"),
    ]
    newest = mill.client.dead.list("faq", error="StoreRefused", limit=1)[0].died_at
    assert found.groups[0].newest_died_at == newest
    load = mill.ledger.load()
    assert (found.letters, found.bytes) == (9, load.dead_bytes)
    assert found.share == load.dead_bytes / ClientSettings().dead_max_bytes


def test_letters_are_listed_and_scrolled_by_collection_job_and_error(mill: Mill) -> None:
    mill.die("faq", 70)
    job = mill.die("faq", 2, "StoreRefused")
    mill.die("docs", 2, "StoreRefused")
    for chosen, count in (
        ({}, 74),
        ({"collection": "faq"}, 72),
        ({"error": "StoreRefused"}, 4),
        ({"collection": "faq", "error": "StoreRefused"}, 2),
        ({"job": job.id}, 2),
        ({"job": job.id, "error": "EncodingFailed"}, 0),
        ({"collection": "nobody"}, 0),
    ):
        listed = mill.client.dead.list(limit=1000, **chosen)
        assert len(listed) == count, chosen
        # Newest first, and oldest first: the letters of one parcel have one time.
        scrolled = list(mill.client.dead.scroll(**chosen))
        assert {each.id for each in scrolled} == {each.id for each in listed}
        assert [each.job_id for each in scrolled] == [each.job_id for each in reversed(listed)]


def test_scrolling_gives_every_letter_once_though_they_are_dropped_behind_it_and_others_come(mill: Mill) -> None:
    mill.die("faq", 1300)
    letters = mill.client.dead.scroll("faq")
    seen: list[str] = []
    for number, letter in enumerate(letters):
        seen.append(letter.id)
        if number % 100 == 0:
            mill.client.dead.drop(seen[-50:])
            mill.die("faq", 1)
    assert len(seen) == len(set(seen)) == 1300


def test_a_scroll_of_a_client_that_was_closed_meanwhile_says_so(mill: Mill) -> None:
    mill.die("faq", 3)
    letters = mill.client.dead.scroll()
    next(letters)
    mill.client.close()
    with pytest.raises(InvalidInput, match="was closed"):
        next(letters)


# replay


def test_a_replay_ends_though_every_document_dies_again_while_it_runs(mill: Mill) -> None:
    mill.die("faq", 1000)
    mill.die("docs", 10)
    jobs = mill.client.dead.replay(error="EncodingFailed")
    assert sorted((job.report().collection, job.report().accepted, job.report().dead) for job in jobs) == [
        ("docs", 10, 10),
        ("faq", 1000, 1000),
    ]
    assert {letter.job_id for letter in mill.client.dead.scroll()} == {job.id for job in jobs}
    assert mill.count() == 1010


def test_a_replay_takes_only_what_it_was_asked_for(mill: Mill) -> None:
    mill.die("faq", 3)
    mill.die("faq", 2, "StoreRefused")
    mill.die("docs", 2, "StoreRefused")
    mill.grave.works = False
    (job,) = mill.client.dead.replay(collection="faq", error="StoreRefused")
    assert (job.report().accepted, mill.count(), mill.count(collection="faq")) == (2, 5, 3)
    assert mill.client.dead.replay(collection="faq", error="StoreRefused") == []
    assert [job.report().accepted for job in mill.client.dead.replay()] == [2, 3]


def test_of_a_replay_that_is_interrupted_nothing_is_lost_and_what_was_accepted_has_no_letter(mill: Mill) -> None:
    mill.die("faq", 400)
    mill.grave.works = False

    def interrupt(accepted: int) -> None:
        if accepted >= 128:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mill.client.dead.replay(collection="faq", progress=interrupt)
    assert (mill.ledger.load().documents, mill.count()) == (128, 272)
    (job,) = mill.client.dead.replay()
    assert (job.report().accepted, mill.ledger.load().documents, mill.count()) == (272, 400, 0)


def test_letters_are_dropped_while_the_replay_runs(mill: Mill) -> None:
    mill.die("faq", 300)
    letters = [letter.id for letter in mill.client.dead.list(limit=300)]
    mill.grave.works = False
    left: list[int] = []
    mill.client.dead.replay(letters, progress=lambda _: left.append(mill.count()))
    assert left[0] == 300 - 64


def test_a_replay_does_not_wait_at_a_queue_that_only_workers_could_empty_who_wait_for_the_replay(
    make_mill: Callable[..., Mill],
) -> None:
    mill = make_mill(Keeping(dead_max_bytes=1), queue_max_documents=1)
    mill.die("faq", 1)
    letters = [letter.id for letter in mill.client.dead.list()]
    mill.grave.works = False
    mill.client.enqueue("faq", Document(id="waits", text="t"))
    assert mill.ledger.dead_full()
    replayed = threading.Thread(target=mill.client.dead.replay, args=(letters,), daemon=True)
    replayed.start()
    replayed.join(60)
    assert not replayed.is_alive()
    assert (mill.ledger.load().documents, mill.ledger.dead_full()) == (2, False)


@pytest.fixture
def bare(make_mill: Callable[..., Mill]) -> Mill:
    """Two letters of three whose text has been forgotten."""
    mill = make_mill(Keeping(letter_text_ttl_s=0.001))
    mill.die("faq", 2)
    eventually(lambda: mill.ledger.forget_expired() == 0 and all(not each.document for each in letters_of(mill)))
    mill.die("faq", 1)
    return mill


def letters_of(mill: Mill) -> list[DeadLetter]:
    return mill.client.dead.list(limit=1000)


def test_a_letter_without_text_is_named_and_stays_when_it_is_replayed(bare: Mill) -> None:
    bare.grave.works = False
    ids = {letter.document_id: letter.id for letter in letters_of(bare) if letter.document is None}
    jobs = bare.client.dead.replay([letter.id for letter in letters_of(bare)])
    assert [job.report().accepted for job in jobs] == [1]
    assert sorted(str(each.id) for each in jobs[0].rejections) == ["faq-0", "faq-1"] == sorted(map(str, ids))
    for each in jobs[0].rejections:
        assert ids[each.id] in each.reason
        assert "only id and reason are left" in each.reason
        assert "EncodingFailed: bad" in each.reason
    assert jobs[0].report().rejected == 2
    assert {letter.id for letter in letters_of(bare)} == set(ids.values())


def test_a_document_without_text_is_still_known_to_audits_receipts_and_reports(bare: Mill) -> None:
    report = bare.client.audit("faq")
    assert (report.dead, report.missing) == (3, 0)
    receipt = bare.client.receipt("faq", "faq-0")
    assert receipt.state == "dead"
    assert "only id and reason are left" in str(receipt.reason)
    assert "dead replay" not in str(receipt.reason)
    job_id = next(letter.job_id for letter in letters_of(bare) if letter.document is None)
    assert any(reason.startswith("'faq-0' died: ") for reason in bare.client.jobs.get(job_id).report().reasons)


def test_dropping_a_letter_without_text_takes_its_document_off_the_roster(bare: Mill) -> None:
    assert bare.client.dead.drop([letter.id for letter in letters_of(bare)]) == 3
    report = bare.client.audit("faq")
    assert (report.expected, report.missing) == (0, 0)


def test_documents_that_are_refused_on_the_way_keep_their_letters(mill: Mill) -> None:
    """The collection was made anew, and keeps the text under another key."""
    mill.client.create_collection("faq", MODEL.model)
    documents = [Document(id=str(n), text="t", metadata={"body": 1} if n % 3 == 0 else {}) for n in range(200)]
    mill.client.enqueue("faq", documents)
    mill.client.collections.delete("faq")
    mill.client.create_collection("faq", MODEL.model, text_key="body")
    mill.grave.works = False
    (job,) = mill.client.dead.replay([letter.id for letter in letters_of(mill)])
    assert (job.report().accepted, job.report().rejected) == (133, 67)
    left = [letter.document.id for letter in letters_of(mill) if letter.document is not None]
    assert {int(document_id) % 3 for document_id in left} == {0}


def test_a_collection_that_is_gone_does_not_keep_the_others_from_being_replayed(mill: Mill) -> None:
    mill.die("a", 2)
    mill.die("b", 2)
    mill.client.collections.delete("a")
    mill.grave.works = False
    with pytest.raises(LookupError, match="'a'"):
        mill.client.dead.replay([letter.id for letter in reversed(letters_of(mill))])
    assert (mill.ledger.load().documents, mill.count(collection="a"), mill.count(collection="b")) == (2, 2, 0)


# drop


def test_a_drop_takes_only_what_it_was_asked_for_and_what_is_there(mill: Mill) -> None:
    mill.die("faq", 150)
    mill.die("docs", 2, "StoreRefused")
    told: list[int] = []
    assert mill.client.dead.drop(error="EncodingFailed", progress=told.append) == 150
    assert told == [64, 128, 150]
    assert (mill.count(), mill.client.audit("faq").expected) == (2, 0)
    assert mill.client.dead.drop(collection="faq") == 0


@pytest.mark.parametrize("chosen", [{}, {"letter_ids": ["x"], "collection": "faq"}])
def test_a_drop_of_neither_or_both_is_refused(mill: Mill, chosen: dict[str, Any]) -> None:
    mill.die("faq", 1)
    with pytest.raises(InvalidInput, match="letter_ids: expected"):
        mill.client.dead.drop(**chosen)
    assert mill.count() == 1


def test_both_of_two_versions_that_died_are_replayed_and_the_newer_one_is_stored() -> None:
    with Client.embedded(model="hash:16", threads=2) as client:
        client.create_collection("faq", chunking=Chunking(long_texts=LongTexts.REFUSE))
        for version in (3, 2):
            text = f"{version} " * 9000
            client.enqueue("faq", Document(id="a", text=text, version=version)).wait(60)
        client.collections.delete("faq")
        client.create_collection("faq", chunking=Chunking(size=64, overlap=0))
        (job,) = client.dead.replay([letter.id for letter in client.dead.list("faq")])
        report = job.wait(60)
        assert (report.accepted, report.dead, report.stored + report.superseded) == (2, 0, 2)
        found = client.get("faq", "a")
        assert found is not None
        assert found.version == 3


def test_the_embedded_ledger_keeps_to_the_settings() -> None:
    with Client.embedded(model="hash:16", dead_max_bytes=65_536) as client:
        assert client._parts.ledger._keeping.dead_max_bytes == 65_536  # type: ignore[attr-defined]


# the command line


@pytest.fixture
def servers(
    redis_url: str, qdrant_server: QdrantServer, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Client, Grave, str]]:
    """A client of real servers that the command line uses, too; nobody works but the grave."""
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    monkeypatch.setenv("GRISTMILL_QDRANT_URL", qdrant_server.url)
    monkeypatch.setenv("GRISTMILL_QDRANT_GRPC_PORT", str(qdrant_server.grpc_port))
    with Client() as client:
        client._parts.ledger.announce(MODEL)
        client.create_collection(collection_name, MODEL.model)
        yield client, Grave(client._parts.ledger), collection_name


def kill(servers: tuple[Client, Grave, str], count: int, error: str = "EncodingFailed") -> Job:
    client, grave, name = servers
    job = client.enqueue(name, (Document(id=f"{error}-{n}", text="t") for n in range(count)))
    grave.error = error
    grave.publish(MODEL.digest)
    return job


def test_the_command_line_summarizes_and_says_how_to_replay_each_group(
    run: Run, servers: tuple[Client, Grave, str]
) -> None:
    code, out, _ = run("dead", "summary")
    assert (code, "no dead letters" in out) == (0, True)
    kill(servers, 3)
    kill(servers, 5, "StoreRefused")
    name = servers[2]
    code, out, _ = run("dead", "summary")
    assert code == 0
    assert f"gristmill dead replay -c {name} -e StoreRefused" in out
    assert "8 dead letters take" in out
    assert "0.0% of their mark of 268,435,456" in out
    code, out, _ = run("dead", "summary", "--json")
    found = json.loads(out)
    assert [(each["error"], each["letters"], each["reason"]) for each in found["groups"]] == [
        ("StoreRefused", 5, "bad"),
        ("EncodingFailed", 3, "bad"),
    ]
    assert (found["letters"], found["max_bytes"], found["share"] > 0) == (8, 268_435_456, True)


def test_the_command_line_replays_and_drops_by_error_and_by_job(run: Run, servers: tuple[Client, Grave, str]) -> None:
    client, _, name = servers
    kill(servers, 3)
    job = kill(servers, 5, "StoreRefused")
    code, out, _ = run("dead", "replay", "-c", name, "--error", "EncodingFailed", "--no-wait", "--json")
    found = json.loads(out)
    assert (code, [each["accepted"] for each in found["jobs"]], found["rejections"]) == (0, [3], [])
    assert {letter.error for letter in client.dead.list()} == {"StoreRefused"}
    assert json.loads(run("dead", "list", "--error", "EncodingFailed", "--json")[1]) == {"letters": []}
    assert json.loads(run("dead", "drop", "--job", job.id, "--yes", "--json")[1]) == {"dropped": 5}
    assert client.dead.list() == []


def test_the_command_line_replays_and_drops_all(run: Run, servers: tuple[Client, Grave, str]) -> None:
    kill(servers, 300)
    code, out, _ = run("dead", "replay", "--all", "--no-wait", "--json")
    assert (code, json.loads(out)["jobs"][0]["accepted"]) == (0, 300)
    servers[1].publish(MODEL.digest)
    assert json.loads(run("dead", "drop", "--all", "--yes", "--json")[1]) == {"dropped": 300}
    for wrong in (("drop",), ("replay", "some-id", "--all"), ("drop", "some-id", "--error", "E")):
        code, _, err = run("dead", *wrong)
        assert (code, "expected either letter ids" in err) == (2, True)


def test_doctor_shows_the_letters_share_of_their_mark_and_fails_at_it(
    run: Run, servers: tuple[Client, Grave, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(servers, 100)

    def check() -> dict[str, Any]:
        checks: list[dict[str, Any]] = json.loads(run("doctor", "--json")[1])["checks"]
        return next((each for each in checks if each["name"] == "letters"), {})

    assert check().get("ok")
    assert "100 dead letters take" in check()["detail"]
    monkeypatch.setenv("GRISTMILL_DEAD_MAX_BYTES", "65536")
    assert check()["ok"] is False
    assert "workers take no work" in check()["detail"]


def test_a_replay_holds_a_few_letters_at_a_time(mill: Mill) -> None:
    """Between two parcels, of a thousand letters only those are read that the next parcel needs."""
    mill.die("faq", 1000)
    mill.grave.works = False
    ahead: list[int] = []
    reading = mill.client._parts.evidence.letters_until
    read = Counter[str]()

    def counted(*args: Any) -> Iterator[DeadLetter]:
        for letter in reading(*args):
            read["letters"] += 1
            yield letter

    mill.client.dead._evidence = _With(mill.client._parts.evidence, letters_until=counted)
    mill.client.dead.replay(collection="faq", progress=lambda accepted: ahead.append(read["letters"] - accepted))
    assert max(ahead) <= 64
    assert len(ahead) == 16


class _With:
    """Something, but for some of its attributes."""

    def __init__(self, wrapped: Any, **instead: Any) -> None:
        self.__dict__.update(instead)
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wrapped, name)
