"""Webhooks from real workers, over TLS; and the receiver of docs/howto/webhooks.md as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpcore
import pytest
from standardwebhooks import Webhook as Verifier

from gristmill import Client, ClientSettings, WebhookState
from gristmill.ledger import RedisLedger
from gristmill.ledger.connection import connect
from gristmill.settings import load_settings, variable
from gristmill_worker.settings import WorkerSettings
from services import QdrantServer, RedisServer, WorkerProcess, free_port
from services.process import accepts_connections
from services.redis import make_certificate
from unit.webhooks.test_addresses import delivery, due
from waiting import eventually
from webhook_receiver import LOOPBACK, SECRET, receiving

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "webhooks.md"
STRANGER = "somebody else"
Run = Callable[..., tuple[int, str, str]]


@pytest.mark.server
def test_a_worker_killed_before_it_has_told_is_followed_by_one_that_tells(
    redis_url: str, redis_server: RedisServer, qdrant_server: QdrantServer, collection_name: str, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    of_both: dict[str, Any] = {
        "redis_url": redis_url,
        "qdrant_url": qdrant_server.url,
        "qdrant_grpc_port": qdrant_server.grpc_port,
    }
    sends = {
        **of_both,
        "webhook_secret": SECRET,
        "webhook_private_networks": LOOPBACK,
        "webhook_retry_s": 0.1,
        "webhook_timeout_s": 60,
    }
    environment = {variable(name): str(value) for name, value in sends.items()} | {"SSL_CERT_FILE": str(certificate)}
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving(certificate, answers=[500]))
        client = stack.enter_context(Client(**of_both, model="hash:16"))
        ledger = client._parts.ledger
        # Somebody has the turn of sending, so that the worker that finishes the job does not send.
        assert ledger.take_turn("webhooks", STRANGER, lease_s=600)
        first = stack.enter_context(WorkerProcess(tmp_path / "first", environment))
        client.create_collection(collection_name, wait_s=60)
        job = client.enqueue(
            collection_name, {"id": "1", "text": "a text that nobody is told"}, notify=f"{receiver.url}?token=Z9-secret"
        )
        assert job.wait(60).webhook is WebhookState.WAITING
        first.kill()
        assert ledger.take_turn("webhooks", STRANGER, lease_s=0.001)
        second = stack.enter_context(WorkerProcess(tmp_path / "second", environment))
        eventually(lambda: job.report().webhook is WebhookState.DELIVERED, within_s=60)
        (body, headers), (again, _) = receiver.told
        assert body == again
        assert len(set(receiver.ids())) == 1
        assert Verifier(SECRET).verify(body, headers)["data"]["job_id"] == job.id
        logs = first.log_path.read_text() + second.log_path.read_text()
    for hidden in (SECRET.removeprefix("whsec_"), "Z9-secret", "a text that nobody is told"):
        assert hidden not in logs
        assert hidden not in body
    assert "https://localhost" in logs


def test_the_receiver_of_the_page_verifies_and_takes_copies_for_what_they_are(tmp_path: Path) -> None:
    (program,) = (
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "class" in block
    )
    (tmp_path / "receiver.py").write_text(program)
    port = free_port()
    environment = {**os.environ, "WEBHOOK_SECRET": SECRET, "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "receiver.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        eventually(lambda: accepts_connections(port))
        url = f"http://127.0.0.1:{port}/"
        for attempt in (1, 2):
            assert delivery(LOOPBACK)(due(url, attempt)) is None
        headers = dict(delivery(LOOPBACK).headers("j.2", "{}"))
        assert httpcore.request("POST", url, headers=headers, content=b'{"forged": 1}').status == 401
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=60)
    assert said == "job j in c: 1 stored, 0 dead\n"


def test_the_page_shows_the_body_and_the_pauses_as_they_are() -> None:
    page = PAGE.read_text()
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    asked = delivery(LOOPBACK)
    with receiving() as receiver:
        asked(due(receiver.url))
    ((body, _),) = receiver.told
    names = re.compile(r'"(\w+)":')
    assert sorted(names.findall(shown)) == sorted(names.findall(body))


@pytest.fixture
def ledger(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisLedger]:
    """Of the installation that the command line speaks to."""
    monkeypatch.setenv("GRISTMILL_REDIS_URL", redis_url)
    settings = load_settings(ClientSettings)
    with closing(connect(settings)) as client:
        yield RedisLedger(settings, client)


def given_up(ledger: RedisLedger) -> str:
    """The id of a webhook that was given up."""
    ledger.close_job(ledger.open_job("c", notify="https://hooks.example.com/told?token=Z9-secret").job_id)
    webhook = ledger.webhooks.take(60)
    assert webhook is not None
    ledger.webhooks.give_up(webhook, "the receiver answered 500")
    return webhook.id


@pytest.mark.server
def test_the_command_line_lists_shows_resends_and_drops(run: Run, ledger: RedisLedger) -> None:
    first, second = given_up(ledger), given_up(ledger)
    job_id = first.split(".")[0]
    code, out, _ = run("webhooks", "list", "--state", "failed", "--json")
    listed = json.loads(out)["webhooks"]
    assert (code, [each["id"] for each in listed]) == (0, [second, first])
    assert listed[0]["error"] == "the receiver answered 500"
    _, shown, _ = run("webhooks", "show", first)
    _, table, _ = run("webhooks", "list", "--job", job_id)
    _, of_job, _ = run("jobs", "show", job_id)
    assert "hooks.example.com" in shown
    assert first in table
    assert second not in table
    assert f"gristmill webhooks list --job {job_id}" in of_job
    assert "Z9-secret" not in out + shown + table + of_job
    assert json.loads(run("webhooks", "resend", "--failed", "--json")[1]) == {"resent": 2}
    assert "2 not delivered" in run("doctor")[1]
    assert json.loads(run("webhooks", "drop", first, second, "--json")[1]) == {"dropped": 2}
    assert "no webhook is waiting" in run("webhooks", "list")[1]


def test_the_command_line_says_what_resend_wants(run: Run, embedded: Path) -> None:
    code, _, problems = run("webhooks", "resend")
    assert code != 0
    assert "--failed" in problems


def test_a_secret_that_the_command_line_makes_is_one(run: Run) -> None:
    secrets = {run("webhooks", "secret")[1].strip() for _ in range(2)}
    assert len(secrets) == 2
    for secret in secrets:
        assert load_settings(WorkerSettings, webhook_secret=secret).webhook_secret is not None


def test_ingest_tells_of_its_end(run: Run, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (embedded / "docs.jsonl").write_text('{"id": "a", "text": "fine"}\n')
    monkeypatch.setenv("GRISTMILL_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("GRISTMILL_WEBHOOK_PRIVATE_NETWORKS", LOOPBACK)
    with receiving() as receiver:
        code, out, _ = run("ingest", str(embedded / "docs.jsonl"), "-c", "docs", "--notify", receiver.url, "--json")
        assert code == 0
        ((body, headers),) = receiver.told
    assert Verifier(SECRET).verify(body, headers)["data"]["job_id"] == json.loads(out)["job_id"]
