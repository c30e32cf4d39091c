"""`notify=` at the door, and webhooks through a client: in embedded mode, everything in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from gristmill import AsyncClient, Client, InvalidInput, WebhookState
from gristmill.ingest.notify import MAX_URL_CHARS, asked_url, require_sender
from gristmill.settings import load_settings
from gristmill_worker.settings import WorkerSettings
from waiting import eventually
from webhook_receiver import LOOPBACK, SECRET, Receiver, receiving

SENDS: dict[str, Any] = {"webhook_secret": SECRET, "webhook_private_networks": LOOPBACK}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("hooks.example.com", "got none"),
        ("", "got none"),
        ("ftp://hooks.example.com/", "got none"),
        ("file:///etc/passwd", "got none"),
        ("https://", "got none"),
        ("https://user@hooks.example.com/", "without user and password"),
        ("https://user:Z9-secret@hooks.example.com/", "without user and password"),
        ("https://hooks.example.com/#part", "without a fragment"),
        ("https://hooks.example.com/" + "x" * MAX_URL_CHARS, f"at most {MAX_URL_CHARS}"),
        (7, "got int"),
        (["https://hooks.example.com"], "got list"),
    ],
)
def test_what_is_no_url_of_a_receiver_is_refused_by_name(wrong: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=r"^notify: ") as refused:
        asked_url(wrong)
    assert says in str(refused.value)
    assert "Z9-secret" not in str(refused.value)
    assert refused.value.field == "notify"


def test_a_url_is_asked_for_as_it_is_written_in_one_form() -> None:
    assert asked_url(" https://HOOKS.example.com ") == "https://hooks.example.com/"
    assert asked_url("https://bücher.example/a?b=c") == "https://xn--bcher-kva.example/a?b=c"
    assert asked_url(None) is None


def worker(**told: Any) -> dict[str, Any]:
    return {"webhooks": {"signs": True, "private": "", **told}}


@pytest.mark.parametrize(
    ("url", "workers", "says"),
    [
        ("https://hooks.example.com/", [worker(signs=False)], "GRISTMILL_WEBHOOK_SECRET"),
        ("http://hooks.example.com/", [worker()], "GRISTMILL_WEBHOOK_PRIVATE_NETWORKS"),
        ("https://169.254.169.254/", [worker()], "GRISTMILL_WEBHOOK_PRIVATE_NETWORKS"),
        ("http://10.0.0.1/", [worker(private="10.1.0.0/16")], "GRISTMILL_WEBHOOK_PRIVATE_NETWORKS"),
    ],
)
def test_what_no_running_worker_would_send_is_refused(url: str, workers: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        require_sender(url, workers)


@pytest.mark.parametrize(
    ("url", "workers"),
    [
        ("https://hooks.example.com/", [worker(signs=False), worker()]),
        ("http://10.1.0.1/", [worker(private="10.1.0.0/16")]),
        ("http://hooks.internal/", [worker(private="10.1.0.0/16")]),
        ("http://hooks.internal/", []),
        ("https://hooks.example.com/", [{"engines": []}]),
    ],
)
def test_what_a_running_worker_may_send_is_taken(url: str, workers: list[dict[str, Any]]) -> None:
    require_sender(url, workers)


@pytest.mark.parametrize(
    "wrong", ["secret", "whsec_", "whsec_äöü", "whsec_c2hvcnQ=", "whsec_" + "QUJD" * 30, f"{SECRET},x"]
)
def test_a_wrong_signing_secret_is_refused_without_showing_it(wrong: str) -> None:
    with pytest.raises(InvalidInput, match="GRISTMILL_WEBHOOK_SECRET") as refused:
        load_settings(WorkerSettings, webhook_secret=wrong)
    assert wrong.split(",")[0] not in str(refused.value).replace("expected whsec_", "") or wrong == "secret"


def test_wrong_networks_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"GRISTMILL_WEBHOOK_PRIVATE_NETWORKS.*10.1.0.0/16.*true"):
        load_settings(WorkerSettings, webhook_private_networks="true")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr("gristmill_worker.process.host.WEBHOOKS_S", 0.05)
    with Client.embedded(model="hash:16", threads=2, **SENDS) as made:
        made.create_collection("c")
        yield made


def told_of(receiver: Receiver) -> dict[str, Any]:
    """What the receiver was told first, verified."""
    body, headers = eventually(lambda: receiver.told)[0]
    data: dict[str, Any] = Verifier(SECRET).verify(body, headers)["data"]
    return data


def test_enqueue_tells_of_its_end(client: Client, receiver: Receiver) -> None:
    job = client.enqueue("c", [{"id": "1", "text": "a text"}, {"id": "", "text": "two"}], notify=receiver.url)
    told = told_of(receiver)
    assert (told["job_id"], told["stored"], told["rejected"], told["state"]) == (job.id, 1, 1, "done")
    assert "a text" not in receiver.told[0][0]
    assert eventually(lambda: job.report().webhook) in (WebhookState.WAITING, WebhookState.DELIVERED)
    eventually(lambda: job.report().webhook is WebhookState.DELIVERED)
    assert client.webhooks.list() == []


def test_every_call_that_hands_over_tells_of_its_end(client: Client, receiver: Receiver) -> None:
    client.enqueue("c", [{"id": str(n), "text": f"text {n}", "metadata": {"n": n}} for n in range(3)]).wait()
    jobs = [
        client.update_metadata("c", "0", {"k": 1}, notify=receiver.url),
        client.delete("c", "1", notify=receiver.url),
        client.delete_where("c", {"n": 2}, notify=receiver.url),
    ]
    eventually(lambda: len(receiver.told) == 3)
    assert sorted(each.split(".")[0] for each in receiver.ids()) == sorted(job.id for job in jobs)


def test_a_tenant_tells_of_its_own(client: Client, receiver: Receiver) -> None:
    client.tenant("acme").enqueue("c", {"id": "1", "text": "one"}, notify=receiver.url)
    assert told_of(receiver)["tenant"] == "acme"


def test_asyncio_tells_as_well(receiver: Receiver) -> None:
    async def go() -> str:
        async with AsyncClient.embedded(model="hash:16", **SENDS) as client:
            await client.create_collection("c")
            job = await client.enqueue("c", {"id": "1", "text": "one"}, notify=receiver.url)
            await job.wait()
            return job.id

    job_id = asyncio.run(go())
    assert told_of(receiver)["job_id"] == job_id


def test_embedded_mode_sends_what_is_due_before_it_ends(receiver: Receiver) -> None:
    with Client.embedded(model="hash:16", **SENDS) as client:
        client.create_collection("c")
        client.enqueue("c", {"id": "1", "text": "one"}, notify=receiver.url).wait()
    assert len(receiver.told) == 1


def test_without_a_secret_the_call_says_what_to_do(receiver: Receiver) -> None:
    with Client.embedded(model="hash:16") as client:
        client.create_collection("c")
        with pytest.raises(InvalidInput, match="GRISTMILL_WEBHOOK_SECRET"):
            client.enqueue("c", {"id": "1", "text": "one"}, notify=receiver.url)
        assert client.jobs.list() == []


def test_failed_ones_are_listed_resent_and_dropped(client: Client, receiver: Receiver) -> None:
    receiver.answers += [410, 410]
    client.enqueue("c", {"id": "1", "text": "one"}, notify=receiver.url)
    (failed,) = eventually(lambda: client.webhooks.list(state="failed"))
    assert client.webhooks.get(failed.id) == failed
    assert client.webhooks.resend() == 1
    eventually(lambda: len(receiver.told) == 2 and client.webhooks.list(state="failed"))
    assert client.webhooks.resend(failed.id) == 1
    eventually(lambda: not client.webhooks.list())
    assert len(set(receiver.ids())) == 1
    assert client.webhooks.drop(failed.id) == 0
    with pytest.raises(InvalidInput, match="webhook_id"):
        client.webhooks.get(failed.id)
    with pytest.raises(InvalidInput, match="state"):
        client.webhooks.list(state="lost")
