"""Redis with passwords, access lists, TLS and client certificates; Qdrant with keys, tokens and TLS: who may do what.

`SECURITY.md` has the table. Each thing that is allowed works, each that is refused says what to change; on real servers.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from gristmill import Client
from gristmill.settings import variable
from gristmill_schemas.errors import GristmillError
from services import QdrantServer, RedisServer, WorkerProcess
from services.process import accepts_connections
from services.redis import make_certificate
from waiting import eventually

pytestmark = [
    pytest.mark.server,
    pytest.mark.release,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection"),
]
REPO = Path(__file__).parents[2]
PAGE = REPO / "docs" / "howto" / "servers.md"
KEY = "the-full-key-of-this-mill-0123456789"
WITH_TOKENS = {"QDRANT__SERVICE__JWT_RBAC": "true"}
HOUR_S = 3600


def token(access: object, lives_s: float = HOUR_S) -> str:
    """What Qdrant lets do more or less than its keys: signed with the full key."""
    return jwt.encode({"access": access, "exp": int(time.time() + lives_s)}, KEY, algorithm="HS256")


def of_collection(access: str, name: str = "mill") -> list[dict[str, str]]:
    return [{"collection": name, "access": access}]


TOKENS = {"producer": "m", "worker": of_collection("prw"), "searcher": of_collection("r")}


class MutualRedis(RedisServer):
    """Asks its clients for a certificate."""

    def __init__(self, data_dir: Path, users: Path) -> None:
        options = {"aclfile": str(users), "tls-auth-clients": "yes"}
        super().__init__(data_dir, tls=True, options=options)

    @property
    def certificate(self) -> str:
        return f"&ssl_certfile={self.ca_path}&ssl_keyfile={str(self.ca_path).replace('.crt', '.key')}"

    def url_of(self, database: int) -> str:
        return super().url_of(database) + self.certificate


class TlsQdrant(QdrantServer):
    """Speaks TLS on both ports."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.ca = make_certificate(data_dir)
        certificate = {
            "QDRANT__SERVICE__ENABLE_TLS": "true",
            "QDRANT__TLS__CERT": str(self.ca),
            "QDRANT__TLS__KEY": str(self.ca.with_suffix(".key")),
        }
        super().__init__(data_dir, api_key=KEY, settings=WITH_TOKENS | certificate)

    @property
    def url(self) -> str:
        return super().url.replace("http://", "https://")

    def is_ready(self) -> bool:
        try:
            known = ssl.create_default_context(cafile=str(self.ca))
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=1, context=known) as answer:
                return answer.status == 200 and accepts_connections(self.grpc_port)
        except OSError:
            return False


class SlowlyStarted(WorkerProcess):
    """On a busy machine torch alone takes long to be imported."""

    def wait_ready(self, timeout_s: float = 240.0) -> None:
        super().wait_ready(timeout_s)


@dataclass(frozen=True)
class Site:
    redis: RedisServer
    qdrant: QdrantServer

    def settings(self, role: str, **other: str) -> dict[str, Any]:
        """What a process of this role is given, and what is different of it."""
        return {
            "redis_url": self.redis.url.replace("://", f"://{role}:{password_of(role)}@"),
            "qdrant_url": self.qdrant.url,
            "qdrant_grpc_port": self.qdrant.grpc_port,
            "qdrant_api_key": token(TOKENS[role]),
            **other,
        }

    def environment(self, role: str, **other: str) -> dict[str, str]:
        given = {variable(name): str(value) for name, value in self.settings(role, **other).items()}
        if isinstance(self.qdrant, TlsQdrant):
            ca = str(self.qdrant.ca)
            given |= {"SSL_CERT_FILE": ca, "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ca}
        return given


def users() -> list[str]:
    (block,) = re.findall(r"^```acl\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for line in block.splitlines() if line]


def password_of(role: str) -> str:
    (line,) = (each for each in users() if each.split()[1] == role)
    return str(re.findall(r">(\S+)", line)[0])


def plain(folder: Path, acl: Path) -> tuple[RedisServer, QdrantServer]:
    redis = RedisServer(folder / "redis", options={"aclfile": str(acl)})
    return redis, QdrantServer(folder / "qdrant", api_key=KEY, settings=WITH_TOKENS)


def mutual(folder: Path, acl: Path) -> tuple[RedisServer, QdrantServer]:
    return MutualRedis(folder / "redis", acl), TlsQdrant(folder / "qdrant")


@pytest.fixture(scope="module", params=["plain", "tls"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    acl = folder / "users.acl"
    acl.write_text("\n".join(["user default on nopass ~* &* +@all", *users()]) + "\n")
    redis, qdrant = mutual(folder, acl) if request.param == "tls" else plain(folder, acl)
    with redis, qdrant:
        made = Site(redis, qdrant)
        with SlowlyStarted(folder / "worker", made.environment("worker")):
            create = ("collections", "create", "mill", "--model", "hash:16")
            eventually(lambda: gristmill(made, "producer", *create).returncode == 0, within_s=240)
            yield made


def gristmill(site: Site, role: str, *arguments: str, **other: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, since roots of trust are a process's."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GRISTMILL_")}
    return subprocess.run(
        [sys.executable, "-m", "gristmill", *arguments],
        env=clean | site.environment(role, **other),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def answer_of(site: Site, role: str, *arguments: str) -> Any:
    """What a command that works prints."""
    done = gristmill(site, role, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_role_does_its_work_with_its_own_user_and_token(site: Site, tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "rye bread"}\n{"id": "b", "text": "wheat"}\n')
    job = answer_of(site, "producer", "ingest", str(tmp_path / "docs.jsonl"), "-c", "mill")
    assert (job["stored"], job["pending"]) == (2, 0)
    assert answer_of(site, "searcher", "search", "mill", "rye bread")["hits"][0]["id"] == "a"
    assert answer_of(site, "producer", "audit", "mill")["gaps"] == 0
    assert all(check["ok"] for check in answer_of(site, "producer", "doctor")["checks"])


DELETE = ("collections", "delete", "mill", "--yes")
KEY_SETTING = "GRISTMILL_QDRANT_API_KEY"
ELSEWHERE, EXPIRED = token(of_collection("r", "other")), token("r", -HOUR_S)
REFUSED = {
    "a searcher enqueues": ("searcher", ("ingest", "docs.jsonl", "-c", "mill"), {}, "denies its user something"),
    "a searcher deletes": ("searcher", DELETE, {}, "denies its user something"),
    "a wrong password": ("producer", ("queue",), {"redis_password": "wrong"}, "GRISTMILL_REDIS_URL"),
    "a wrong key": ("searcher", ("search", "mill", "x"), {"qdrant_api_key": "wrong"}, KEY_SETTING),
    "an expired token": ("searcher", ("search", "mill", "x"), {"qdrant_api_key": EXPIRED}, KEY_SETTING),
    "another collection's token": ("searcher", ("search", "mill", "x"), {"qdrant_api_key": ELSEWHERE}, KEY_SETTING),
    "creating with r": ("producer", ("collections", "create", "new"), {"qdrant_api_key": token("r")}, KEY_SETTING),
    "deleting with r": ("producer", DELETE, {"qdrant_api_key": token(TOKENS["searcher"])}, KEY_SETTING),
    "deleting with prw": ("worker", DELETE, {}, KEY_SETTING),
}


def test_the_table_of_what_is_refused_is_what_is_tried() -> None:
    rows = re.findall(
        r"^\| (.+?) \| (Redis|Qdrant) \| (.+?) \|$", (REPO / "SECURITY.md").read_text("utf-8"), re.MULTILINE
    )
    written = {tried: says for tried, _, says in rows if "TLS" not in tried}
    assert written.keys() == REFUSED.keys()
    assert {tried for tried, says in written.items() if says == f"`{KEY_SETTING}`"} == {
        tried for tried, (*_, expected) in REFUSED.items() if expected == KEY_SETTING
    }


@pytest.mark.parametrize(("role", "arguments", "other", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_a_role_may_not_do_is_refused_with_what_to_change(
    role: str, arguments: tuple[str, ...], other: dict[str, str], expected: str, site: Site, tmp_path: Path
) -> None:
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "rye bread"}\n')
    given = dict(other)
    if wrong := given.pop("redis_password", None):
        given["redis_url"] = site.settings(role)["redis_url"].replace(password_of(role), wrong)
    told = [str(tmp_path / each) if each.endswith(".jsonl") else each for each in arguments]
    done = gristmill(site, role, *told, **given)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_speaks_tls_is_not_spoken_to_without_it(site: Site) -> None:
    if not isinstance(site.redis, MutualRedis):
        pytest.skip("the plain servers")
    settings, certificate = site.settings("producer"), site.redis.certificate
    bare = re.sub(r"\?.*", "", settings["redis_url"])
    for redis_url, expected in (
        (bare.replace("rediss://", "redis://"), "GRISTMILL_REDIS_URL"),
        (bare, "GRISTMILL_REDIS_URL"),
        (settings["redis_url"].replace(certificate, ""), "GRISTMILL_REDIS_URL"),
    ):
        with Client(**{**settings, "redis_url": redis_url}) as client, pytest.raises(GristmillError, match=expected):
            client.jobs.list()
    for other, expected in (
        ({"qdrant_url": site.qdrant.url.replace("https", "http")}, "GRISTMILL_QDRANT_URL"),
        ({}, "certificate|CERTIFICATE|SSL"),
    ):
        with Client(**{**settings, **other}) as client, pytest.raises(GristmillError, match=expected):
            client.search("mill", "x")
