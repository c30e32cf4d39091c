"""Webhooks in Redis. Layout and scripts: `scripts/_common.lua`."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast

import redis

from gristmill.ledger.connection import broker_errors
from gristmill.ledger.webhooks.base import DueWebhook, origin_of
from gristmill_schemas import JobReport, Webhook, WebhookState

_MICROS = 1_000_000
#: Webhooks read, resent or dropped in one go.
_PAGE = 256
_ERROR_CHARS = 500

Fields = Mapping[bytes, bytes]


class RedisWebhooks:
    """`Webhooks` on a Redis server."""

    def __init__(
        self,
        client: redis.Redis,
        url: str,
        prefix: str,
        run: Callable[..., Any],
        report: Callable[[str, Fields, float], JobReport],
    ) -> None:
        """`run`: a script of the ledger, by its name. `report`: reads the hash of a job."""
        self._redis = client
        self._url = url
        self._prefix = prefix
        self._run = run
        self._report = report

    def take(self, lease_s: float, busy: Collection[str] = ()) -> DueWebhook | None:
        """See `Webhooks.take`."""
        with broker_errors(self._url):
            answer = self._run("take_webhook", int(lease_s * _MICROS), *busy)
            if not answer:
                return None
            raw, attempt, flat = answer
            fields = _pairs(flat)
            finished_at = int(fields[b"finished_at"]) / _MICROS
            job = self._report(fields[b"job"].decode(), fields, finished_at)
            return DueWebhook(raw.decode(), fields[b"url"].decode(), int(attempt), job, finished_at)

    def delivered(self, webhook: DueWebhook) -> bool:
        """See `Webhooks.delivered`."""
        return self._end(webhook, WebhookState.DELIVERED)

    def postpone(self, webhook: DueWebhook, error: str, delay_s: float) -> bool:
        """See `Webhooks.postpone`."""
        return self._end(webhook, WebhookState.WAITING, error, delay_s)

    def give_up(self, webhook: DueWebhook, error: str) -> bool:
        """See `Webhooks.give_up`."""
        return self._end(webhook, WebhookState.FAILED, error)

    def _end(self, webhook: DueWebhook, state: WebhookState, error: str = "", delay_s: float = 0.0) -> bool:
        said = error[:_ERROR_CHARS]
        with broker_errors(self._url):
            return bool(self._run("end_webhook", webhook.id, webhook.attempt, state, said, int(delay_s * _MICROS)))

    def list(self, limit: int, state: WebhookState | None = None, job_id: str | None = None) -> builtins.list[Webhook]:
        """See `Webhooks.list`."""
        with broker_errors(self._url):
            found = (each for each in self._newest() if state in (None, each.state) and job_id in (None, each.job_id))
            return builtins.list(itertools.islice(found, limit))

    def _newest(self) -> Iterator[Webhook]:
        for start in itertools.count(step=_PAGE):
            ids = cast("list[bytes]", self._redis.zrevrange(f"{self._prefix}:webhooks", start, start + _PAGE - 1))
            pipe = self._redis.pipeline(transaction=False)
            for raw in ids:
                pipe.hgetall(f"{self._prefix}:webhook:{raw.decode()}")
            found = zip(ids, pipe.execute(), strict=True)
            yield from (_webhook(raw.decode(), fields) for raw, fields in found if fields)
            if len(ids) < _PAGE:
                return

    def resend(self, ids: Iterable[str]) -> int:
        """See `Webhooks.resend`."""
        return self._each("resend_webhook", ids)

    def drop(self, ids: Iterable[str]) -> int:
        """See `Webhooks.drop`."""
        return self._each("drop_webhook", ids)

    def _each(self, script: str, ids: Iterable[str]) -> int:
        remaining, count = iter(ids), 0
        with broker_errors(self._url):
            while page := builtins.list(itertools.islice(remaining, _PAGE)):
                count += int(self._run(script, *page))
        return count

    def count(self) -> int:
        """See `Webhooks.count`."""
        with broker_errors(self._url):
            return int(self._redis.zcard(f"{self._prefix}:webhooks"))


def _pairs(flat: builtins.list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _webhook(webhook_id: str, fields: Fields) -> Webhook:
    failed = b"failed" in fields
    return Webhook(
        id=webhook_id,
        job_id=fields[b"job"].decode(),
        collection=fields[b"collection"].decode(),
        origin=origin_of(fields[b"url"].decode()),
        state=WebhookState.FAILED if failed else WebhookState.WAITING,
        attempts=int(fields[b"attempts"]),
        created_at=int(fields[b"finished_at"]) / _MICROS,
        next_attempt_at=None if failed else int(fields[b"due"]) / _MICROS,
        error=fields.get(b"error", b"").decode(errors="replace"),
    )
