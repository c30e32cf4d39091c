"""One attempt at one webhook: signed, sent, and what the receiver makes of it."""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import httpcore
import httpx

import gristmill
from gristmill.extras import brought_by
from gristmill.ingest.notify import parse_networks
from gristmill.ledger.webhooks.base import DueWebhook
from gristmill.retry_after import retry_after_s
from gristmill_schemas import JobFinished
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.webhooks.network import AddressRefused, CheckedNetwork, Deadline, Resolve, resolve

#: Of an answer's body, which nobody reads: enough that a receiver sees its answer taken.
_READ_BYTES = 4096
#: The receiver is gone for good, and says so; Standard Webhooks has it so.
_GONE = 410
#: A foreign error is told in as many characters.
_TOLD = 200

_FAILURES = (
    httpcore.NetworkError,
    httpcore.UnsupportedProtocol,
    OSError,
    ValueError,
)


class Cause(StrEnum):
    """What an attempt came to nothing by."""

    ADDRESS = "address"  #: the receiver's is none that may be sent to
    CONNECTION = "connection"  #: there is none: nobody there, an unknown name, a certificate that is not trusted
    TIMEOUT = "timeout"  #: no answer in time
    PROTOCOL = "protocol"  #: it hung up, or its answer is no HTTP
    REDIRECT = "3xx"
    CLIENT_ERROR = "4xx"
    SERVER_ERROR = "5xx"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing."""

    cause: Cause
    #: For people.
    reason: str
    #: Trying again is of no use.
    final: bool = False
    #: What the receiver asked for.
    retry_after_s: float | None = None


class Delivery:
    """Sends webhooks; safe to share between threads."""

    def __init__(self, settings: WorkerSettings, resolve: Resolve = resolve) -> None:
        """`resolve`: how names are resolved."""
        secret = settings.webhook_secret
        self._signers = _signers(secret.get_secret_value()) if secret else []
        self._private = parse_networks(settings.webhook_private_networks or "")
        self._timeout_s = settings.webhook_timeout_s
        self._resolve = resolve

    @property
    def signs(self) -> bool:
        """Whether there is a secret; without one nothing is sent."""
        return bool(self._signers)

    @functools.cached_property
    def _certificates(self) -> ssl.SSLContext:
        """Authorities that are trusted, `SSL_CERT_FILE` and `SSL_CERT_DIR` included. Read once: it takes a while."""
        return httpx.create_ssl_context()

    def __call__(self, webhook: DueWebhook) -> Failure | None:
        """Send it, once; None where the receiver has it."""
        try:
            return self._judge(*self._post(webhook))
        except AddressRefused as error:
            return Failure(Cause.ADDRESS, str(error), final=webhook.host_is_address)
        except httpcore.TimeoutException:
            return Failure(Cause.TIMEOUT, f"no answer within {self._timeout_s:g} s")
        except httpcore.ProtocolError:  # whose words are the answer's, which may be of a service that nobody should see
            return Failure(Cause.PROTOCOL, "the receiver hung up, or its answer is no HTTP")
        except _FAILURES as error:
            return Failure(Cause.CONNECTION, f"{type(error).__name__}: {error}"[:_TOLD])

    def _post(self, webhook: DueWebhook) -> tuple[int, Mapping[str, str]]:
        deadline, secure = Deadline(self._timeout_s), webhook.url.startswith("https:")
        network = CheckedNetwork(self._private, deadline, secure, self._resolve)
        body = body_of(webhook)
        context = self._certificates if secure else None
        with (
            httpcore.ConnectionPool(ssl_context=context, network_backend=network) as pool,
            pool.stream("POST", webhook.url, headers=self.headers(webhook.id, body), content=body.encode()) as answer,
        ):
            _take_some(answer.iter_stream())
            return answer.status, {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers
            }

    def headers(self, webhook_id: str, body: str) -> dict[bytes | str, bytes | str]:
        """What goes with a body, now: with a signature by each secret."""
        now = datetime.fromtimestamp(int(time.time()), UTC)
        return {
            "content-type": "application/json",
            "user-agent": f"gristmill/{gristmill.__version__}",
            "webhook-id": webhook_id,
            "webhook-timestamp": f"{now.timestamp():.0f}",
            "webhook-signature": " ".join(each.sign(webhook_id, now, body) for each in self._signers),
        }

    @staticmethod
    def _judge(status: int, headers: Mapping[str, str]) -> Failure | None:
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            told = f"the receiver answered {status}, and no redirect is followed: give its final address"
            return Failure(Cause.REDIRECT, told)
        cause = Cause.CLIENT_ERROR if 400 <= status < 500 else Cause.SERVER_ERROR
        return Failure(cause, f"the receiver answered {status}", status == _GONE, retry_after_s(headers))


def body_of(webhook: DueWebhook) -> str:
    """What is signed and sent; the same for every attempt."""
    return JobFinished(timestamp=datetime.fromtimestamp(webhook.finished_at, UTC), data=webhook.job).body()


def _take_some(chunks: Iterator[bytes]) -> None:
    """Whatever becomes of the body, the status stands."""
    taken = 0
    try:
        for chunk in chunks:
            if (taken := taken + len(chunk)) >= _READ_BYTES:
                return
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        return


def _signers(secrets: str) -> list[Any]:
    # Loaded where somebody signs: embedded mode runs on a base installation, too.
    with brought_by("worker", "signing webhooks"):
        from standardwebhooks import Webhook

    return [Webhook(each) for each in secrets.split(",")]
