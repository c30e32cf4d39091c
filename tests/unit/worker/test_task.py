"""Gristmill's one Celery task, run as Celery's worker runs it: what becomes of its message."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.concurrency.base import apply_target
from celery.worker.request import create_request_cls

from gristmill.ingest.broker import WORK_TASK, create_celery, queue_name
from gristmill.settings import ClientSettings, load_settings
from gristmill_worker.pipeline.engine import Engine
from gristmill_worker.pipeline.handler import Handled
from gristmill_worker.process.app import register_task
from gristmill_worker.process.envelope import Envelope

DIGEST = "0" * 32


def became_of_messages(process: Callable[[], Handled], count: int = 1) -> list[str]:
    """What is done with messages, one after the other, while an engine does this."""
    app: Celery = create_celery(load_settings(ClientSettings))
    register_task(app, {DIGEST: cast("Engine", SimpleNamespace(process=process))})
    app.set_current()  # where Celery looks for the task
    task = app.tasks[WORK_TASK]
    became: list[str] = []

    def run(target: Any, args: Any, callback: Any, accept_callback: Any, **_: Any) -> None:
        apply_target(target, args, {}, callback, accept_callback)

    pool = SimpleNamespace(apply_async=run)
    kind = create_request_cls(task.Request, task, pool, "here", None, app=app)
    for _ in range(count):
        fresh = Envelope(DIGEST).fresh()
        message = SimpleNamespace(
            headers=fresh["headers"],
            body=fresh["body"],
            content_type=fresh["content-type"],
            content_encoding=fresh["content-encoding"],
            payload=([DIGEST], {}, {}),
            properties=fresh["properties"],
            delivery_info={"routing_key": queue_name(DIGEST)},
        )
        request = kind(
            message,
            app=app,
            task=task,
            on_ack=lambda *_: became.append("acknowledged"),
            on_reject=lambda _log, _errors, requeue: became.append("put back" if requeue else "let go"),
            decoded=True,
            body=message.payload,
        )
        request.execute_using_pool(pool)
    return became


@pytest.mark.parametrize(
    ("handled", "becomes"),
    [
        (Handled.DONE, "acknowledged"),
        (Handled.NONE, "acknowledged"),
        (Handled.CUT, "acknowledged"),
        (Handled.LATER, "put back"),
    ],
)
def test_a_message_is_put_back_while_there_is_work_for_it_and_never_with_a_traceback(
    handled: Handled, becomes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[object] = []
    monkeypatch.setattr(ExceptionInfo, "__init__", lambda *given, **_: copied.append(given))
    assert became_of_messages(lambda: handled) == [becomes]
    assert not copied


def test_each_message_is_judged_by_itself() -> None:
    ends = iter([Handled.LATER, Handled.DONE, Handled.LATER, Handled.NONE])
    expected = ["put back", "acknowledged", "put back", "acknowledged"]
    assert became_of_messages(lambda: next(ends), count=4) == expected


def test_the_message_of_a_torn_thread_is_put_back() -> None:
    def torn() -> Handled:
        raise MemoryError

    assert became_of_messages(torn) == ["put back"]
