"""One attempt at one webhook: what is sent, how it is signed, and what counts as an answer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gristmill_schemas import JobFinished
from gristmill_worker.webhooks.delivery import Cause, Failure
from unit.webhooks.test_addresses import delivery, due, failed
from webhook_receiver import LOOPBACK, SECRET, receiving

OTHER = "whsec_" + base64.b64encode(b"another secret of at least 24").decode()


def test_a_receiver_can_verify_it_by_the_library_and_by_hand() -> None:
    with receiving() as receiver:
        assert delivery(LOOPBACK)(due(receiver.url)) is None
        ((body, headers),) = receiver.told
    verified = Webhook(SECRET).verify(body, headers)
    assert (verified["type"], verified["data"]["job_id"], verified["data"]["stored"]) == ("job.finished", "j", 1)
    assert verified["timestamp"] == "2023-11-14T22:13:20Z"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    mac = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(mac).decode()}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert headers["content-type"] == "application/json"


def test_what_was_changed_on_the_way_is_not_verified() -> None:
    with receiving() as receiver:
        delivery(LOOPBACK)(due(receiver.url))
        ((body, headers),) = receiver.told
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body.replace('"stored":1', '"stored":2'), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)


def test_while_a_secret_is_changed_it_is_signed_by_both() -> None:
    with receiving() as receiver:
        delivery(LOOPBACK, webhook_secret=f"{OTHER},{SECRET}")(due(receiver.url))
        ((body, headers),) = receiver.told
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body, headers)
    assert headers["webhook-signature"].count("v1,") == 2


def test_each_attempt_has_the_same_body_and_id_and_a_time_of_its_own() -> None:
    with receiving() as receiver:
        for attempt in (1, 2):
            delivery(LOOPBACK)(due(receiver.url, attempt))
        (first, headers), (second, again) = receiver.told
    assert first == second
    assert headers["webhook-id"] == again["webhook-id"]


def test_the_body_is_what_its_record_says() -> None:
    with receiving() as receiver:
        delivery(LOOPBACK)(due(receiver.url))
        ((body, _),) = receiver.told
    assert JobFinished.read_json(body).data.job_id == "j"
    # One that a later version sends is read, too.
    later = json.loads(body)
    later["new"] = later["data"]["new"] = 1
    assert JobFinished.read_json(json.dumps(later)).data.stored == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_an_acknowledgement(status: int) -> None:
    with receiving(answers=[status]) as receiver:
        assert delivery(LOOPBACK)(due(receiver.url)) is None


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_any_other_status_is_tried_again(status: int) -> None:
    cause = Cause.CLIENT_ERROR if status < 500 else Cause.SERVER_ERROR
    with receiving(answers=[status]) as receiver:
        assert failed(delivery(LOOPBACK)(due(receiver.url))) == Failure(cause, f"the receiver answered {status}")


def test_a_receiver_that_is_gone_for_good_is_not_asked_again() -> None:
    with receiving(answers=[410]) as receiver:
        assert failed(delivery(LOOPBACK)(due(receiver.url))).final


@pytest.mark.parametrize(
    "say", [lambda: "120", lambda: formatdate(time.time() + 120, usegmt=True)], ids=["seconds", "date"]
)
def test_retry_after_is_heard(say: Callable[[], str]) -> None:
    with receiving(answers=[lambda: (503, {"retry-after": say()})]) as receiver:
        outcome = failed(delivery(LOOPBACK)(due(receiver.url)))
    assert outcome.retry_after_s is not None
    assert 60 < outcome.retry_after_s <= 121


def test_nobody_there_is_a_failure_with_its_reason() -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = failed(delivery(LOOPBACK)(due(f"http://127.0.0.1:{unused.getsockname()[1]}/")))
    assert "refused" in outcome.reason
    assert (outcome.final, outcome.cause) == (False, Cause.CONNECTION)


def test_a_name_that_nobody_knows_is_a_failure_with_its_reason() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(-2, "Name or service not known")

    assert "not known" in failed(delivery(resolve=unknown)(due("https://absent.example/"))).reason


@contextmanager
def dribbling(first: bytes, more: bytes) -> Iterator[str]:
    """A receiver that sends a beginning, then the same again and again, as slowly as keeps a wait for each byte alive."""
    stop = threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(first)
            while not stop.wait(0.02):
                try:
                    connection.sendall(more)
                except OSError:
                    return

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        stop.set()
        thread.join()


def test_an_answer_that_never_ends_is_over_with_the_deadline() -> None:
    with dribbling(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n") as url:
        assert failed(delivery(LOOPBACK, webhook_timeout_s=0.3)(due(url))).reason == "no answer within 0.3 s"


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    with dribbling(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n") as url:
        assert delivery(LOOPBACK, webhook_timeout_s=60)(due(url)) is None


@pytest.mark.parametrize("garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"+PONG\r\n", b"\x00" * 64])
def test_what_speaks_no_http_is_a_failure(garbage: bytes) -> None:
    with dribbling(garbage, b"\r\n") as url:
        reason = failed(delivery(LOOPBACK, webhook_timeout_s=1)(due(url))).reason
    # Nothing of what answered: it may be a service that only our own network sees.
    assert reason in ("the receiver hung up, or its answer is no HTTP", "no answer within 1 s")
