"""The users of `docs/howto/servers.md`, on real servers: each may do its role's whole work, and nothing beyond it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from gristmill import Chunking, Client, Document, LongTexts
from gristmill.settings import variable
from gristmill_schemas.errors import BrokerUnavailable
from services import QdrantServer, RedisServer, WorkerProcess
from waiting import eventually

pytestmark = pytest.mark.server
PAGE = Path(__file__).parents[2] / "docs" / "howto" / "servers.md"
Run = Callable[..., tuple[int, str, str]]


def documented_users() -> list[str]:
    """The lines of an access list, as the page has them."""
    (block,) = re.findall(r"^```acl\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for line in block.splitlines() if line]


@dataclass(frozen=True)
class Site:
    """Servers that know the documented users, and a running worker."""

    server: RedisServer
    qdrant: QdrantServer
    worker: WorkerProcess

    def settings(self, role: str) -> dict[str, Any]:
        """What a process of this role is given."""
        return settings_of(self.server, self.qdrant, role)

    def as_administrator(self) -> redis.Redis:
        """Somebody who may do everything."""
        return self.server.client()


def settings_of(server: RedisServer, qdrant: QdrantServer, role: str) -> dict[str, Any]:
    (password,) = [re.findall(r">(\S+)", line)[0] for line in documented_users() if line.split()[1] == role]
    return {
        "redis_url": f"redis://{role}:{password}@127.0.0.1:{server.port}/0",
        "qdrant_url": qdrant.url,
        "qdrant_grpc_port": qdrant.grpc_port,
        "qdrant_api_key": qdrant.read_only_key if role == "searcher" else qdrant.api_key,
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("rights")
    users = folder / "users.acl"
    users.write_text("\n".join(["user default on nopass ~* &* +@all", *documented_users()]) + "\n")
    server = RedisServer(folder / "redis", options={"aclfile": str(users)})
    qdrant = QdrantServer(folder / "qdrant", api_key="miller", read_only_key="visitor")
    with server, qdrant:
        given = {variable(name): str(value) for name, value in settings_of(server, qdrant, "worker").items()}
        with WorkerProcess(folder / "worker", given) as worker:
            yield Site(server, qdrant, worker)


@pytest.fixture
def nothing_denied(site: Site) -> Iterator[None]:
    """A right that is lacking and worked around is lacking all the same."""
    with contextlib.closing(site.as_administrator()) as administrator:
        administrator.acl_log_reset()
        yield
        denied = {
            (each["username"], each["context"], each["reason"], each["object"]) for each in administrator.acl_log()
        }
    # redis-py says its own name to servers that want to know it, and does not mind if it may not.
    assert {each for each in denied if not str(each[3]).startswith("client")} == set()


@pytest.mark.usefixtures("nothing_denied")
@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_each_user_does_its_whole_work(site: Site, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(**site.settings("producer")) as producer:
        producer.create_collection("mill", "hash:16", chunking=Chunking(long_texts=LongTexts.REFUSE))
        texts = {str(n): f"text number {n}" for n in range(100)}
        job = producer.enqueue("mill", [Document(id=key, text=text) for key, text in texts.items()])
        assert job.wait(60).stored == 100
        assert producer.enqueue("mill", [Document(id="long", text="rye " * 50_000)]).wait(60).dead == 1
        assert producer.update_metadata("mill", "1", {"lang": "zh"}).wait(60).accepted == 1
        assert producer.delete("mill", ["99"]).wait(60).deleted == 1
        assert producer.receipt("mill", "1").state == "stored"
        assert producer.audit("mill").missing == 0
        assert producer.jobs.list()
        assert producer.dead.summary().letters == 1
        assert [job.wait(60).dead for job in producer.dead.replay(collection="mill")] == [1]
        assert producer.dead.drop(producer.dead.list()[0].id) == 1
        assert producer.refused.list() == []
        assert producer.refused.drop() == 0
        assert producer.search("mill", "text number 7", limit=1)[0].id == "7"
    with Client(**site.settings("searcher")) as searcher:
        assert searcher.search("mill", "text number 7", limit=1)[0].id == "7"
        assert searcher.collections.count("mill") > 0
        assert searcher.get("mill", "7") is not None
    for name, value in site.settings("producer").items():
        monkeypatch.setenv(variable(name), str(value))
    code, out, _ = run("doctor", "--json")
    checks = {each["name"]: each for each in json.loads(out)["checks"]}
    assert (code, [name for name, each in checks.items() if not each["ok"]]) == (0, [])
    code, out, _ = run("jobs", "list", "--json")
    assert (code, len(json.loads(out)["jobs"]) > 3) == (0, True)
    with Client(**site.settings("producer")) as producer:
        producer.collections.delete("mill")
    assert "NOPERM" not in site.worker.log_path.read_text()


def denied(site: Site, role: str, *command: str) -> str:
    """What Redis says to a command of this user."""
    with (
        contextlib.closing(redis.Redis.from_url(site.settings(role)["redis_url"])) as user,
        pytest.raises(redis.exceptions.NoPermissionError) as refused,
    ):
        user.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's
    return str(refused.value)


FORBIDDEN = [
    *(
        (role, command)
        for role in ("producer", "searcher", "worker")
        for command in (
            "FLUSHALL",
            "FLUSHDB",
            "KEYS *",
            "SCAN 0",
            "CONFIG GET *",
            "ACL LIST",
            "SHUTDOWN",
            "CLIENT LIST",
            "GET another:key",
            "SET another:key 1",
            "DEL gristmill2:bulk.x",
            "SUBSCRIBE news",
            "PUBLISH news x",
        )
    ),
    ("searcher", "HGETALL {gristmill}:parcel:x"),
    ("searcher", "HSET {gristmill}:parcel:x body y"),
    ("searcher", "GET {gristmill}:letter:x"),
    ("searcher", "SET {gristmill}:worker:x y"),
    ("searcher", "LPUSH gristmill:bulk.x y"),
    ("searcher", "BRPOP gristmill:queries:x 1"),
    ("producer", "BRPOP gristmill:bulk.x 1"),
    ("worker", "INFO"),
]


@pytest.mark.parametrize(("role", "command"), FORBIDDEN, ids=lambda each: str(each))
def test_no_user_does_what_is_not_its_work(role: str, command: str, site: Site) -> None:
    assert "permission" in denied(site, role, *command.split())


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_searcher_that_writes_is_told_that_it_may_not(site: Site) -> None:
    with Client(**site.settings("producer")) as producer:
        producer.create_collection("theirs", "hash:16")
    with Client(**site.settings("searcher")) as searcher:
        with pytest.raises(BrokerUnavailable, match=r"denies its user something.*docs/howto/servers\.md"):
            searcher.enqueue("theirs", [Document(id="a", text="rye")])
        with pytest.raises(BrokerUnavailable, match="denies its user something"):
            searcher.collections.delete("theirs")
    with Client(**site.settings("producer")) as producer:
        assert producer.collections.count("theirs") == 0
        producer.collections.delete("theirs")


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_doctor_does_without_what_a_user_may_not_ask(site: Site, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in site.settings("worker").items():
        monkeypatch.setenv(variable(name), str(value))
    code, out, _ = run("doctor", "--json")
    checks = {each["name"]: each for each in json.loads(out)["checks"]}
    assert code == 0
    assert checks["policy"]["ok"]
    assert "may not ask INFO" in checks["policy"]["detail"]


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_worker_whose_right_is_taken_away_waits_for_it(site: Site) -> None:
    pid = site.worker.pid
    with Client(**site.settings("producer")) as producer, contextlib.closing(site.as_administrator()) as administrator:
        producer.create_collection("theirs", "hash:16")
        administrator.execute_command("ACL", "SETUSER", "worker", "-brpop")  # type: ignore[no-untyped-call]  # redis-py's
        try:
            eventually(lambda: "no work comes while Redis says" in site.worker.log_tail(100))
            job = producer.enqueue("theirs", [Document(id="a", text="rye")])
        finally:
            administrator.execute_command("ACL", "SETUSER", "worker", "+brpop")  # type: ignore[no-untyped-call]  # redis-py's
        assert job.wait(60).stored == 1
        producer.collections.delete("theirs")
    assert (site.worker.running, site.worker.pid) == (True, pid)
