"""The worker's log: what is one event is one line, and what comes in floods is told by its number."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import datetime

import pytest

from gristmill_worker.concerning import concerning
from gristmill_worker.process.logs.lines import LineFormatter, LineHandler
from gristmill_worker.process.logs.objects import ObjectFormatter, note_concern


class Log:
    """A handler of its own, and hands that log as others would."""

    def __init__(self) -> None:
        self.now = 0.0
        self._stream = io.StringIO()
        self._handler = LineHandler(self._stream, lambda: self.now)
        self._handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
        self._loggers: list[logging.Logger] = []

    def of(self, name: str) -> logging.Logger:
        logger = logging.getLogger(name)
        logger.addHandler(self._handler)
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        self._loggers.append(logger)
        return logger

    @property
    def lines(self) -> list[str]:
        """What was written since the last look."""
        text = self._stream.getvalue()
        self._stream.seek(0)
        self._stream.truncate()
        assert text == "" or text.endswith("\n")
        return text.splitlines()

    def close(self) -> None:
        for logger in self._loggers:
            logger.removeHandler(self._handler)
            logger.propagate = True
            logger.setLevel(logging.NOTSET)


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.close()


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """As it arrives: with a traceback."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_a_message_of_several_lines_is_one(log: Log) -> None:
    log.of("x").warning("one\n  two\r\n\nthree")
    assert log.lines == ["WARNING x: one two three"]


def test_nobodys_id_can_write_a_line_of_its_own_or_move_the_cursor(log: Log) -> None:
    log.of("x").warning("parcel %s", "a\n2026-01-01 ERROR y: forged \x1b[2J")
    (line,) = log.lines
    assert "\x1b" not in line


def test_an_exception_of_ours_says_where_it_came_from(log: Log) -> None:
    error = raised(ValueError("odd\nnumber"), raised(KeyError("k")))
    log.of("gristmill_worker.x").error("parcel %s failed", "p", exc_info=error)
    (line,) = log.lines
    assert re.search(
        r"parcel p failed: ValueError: odd number \(at test_log_lines\.py:\d+ raised\); from KeyError", line
    )


def test_an_exception_of_a_librarys_is_what_it_says(log: Log) -> None:
    log.of("celery.x").error("it failed", exc_info=raised(OSError("no disk")))
    assert log.lines == ["ERROR celery.x: it failed: OSError: no disk"]


def test_celery_speaks_of_redis_by_its_address(log: Log) -> None:
    from celery.worker.consumer import consumer

    logger, away, url = log.of("celery.worker.consumer.consumer"), OSError("refused."), "redis://h:6379/0"
    logger.warning(consumer.CONNECTION_RETRY, exc_info=raised(OSError("closed")))
    logger.error(consumer.CONNECTION_ERROR, url, away, "Trying again in 2.00 seconds...")
    log.of("celery.worker.consumer.connection").info("Connected to %s", url)
    log.of("celery.worker.request").critical("Couldn't ack %r, reason:%r", 7, away, exc_info=raised(away))
    lines = log.lines
    assert [line.split(": ", 1)[1] for line in lines] == [
        "the connection to Redis is lost (closed); connecting again",
        f"Redis at {url} cannot be used: refused. Start one, or set GRISTMILL_REDIS_URL. Trying again in 2.00 seconds...",
        f"connected to Redis at {url}",
        "a message could not be settled (refused.): it comes again, and its parcel is not worked on twice",
    ]
    assert not any("broker" in line for line in lines)


def test_like_events_are_one_line_and_their_number(log: Log) -> None:
    for number in range(100):
        log.now = number * 50 / 99
        log.of("x").error("parcel %s failed %d times: no", f"{number:016x}.{number}", number)
    assert len(log.lines) == 1
    log.now = 61
    log.of("x").info("else")
    told, other = log.lines
    assert told.endswith("(and 98 more like it in 50 s, 11 s ago)")
    assert f"{99:016x}.99" in told, "the last of them is shown"
    assert other == "INFO x: else"


def test_a_flood_that_goes_on_is_told_every_minute_and_one_that_ends_is_forgotten(log: Log) -> None:
    for log.now in range(300):
        log.of("x").warning("again")
    first, *later = log.lines
    assert first == "WARNING x: again"
    assert len(later) == 4
    assert all(re.search(r"\(and 5[89] more like it in 59 s, 1 s ago\)$", line) for line in later)
    log.now = 1_000
    log.of("x").warning("again")
    ended, begun = log.lines
    assert ended.endswith("(and 59 more like it in 59 s, 701 s ago)")
    assert begun == "WARNING x: again"


def test_what_differs_in_more_than_numbers_is_told_each(log: Log) -> None:
    for model in ("Qwen/Qwen3-Embedding-0.6B", "Qwen/Qwen3-Embedding-4B", "hash:16", "hash:32"):
        log.of("x").warning("model %s is away", model)
    assert len(log.lines) == 4


def test_a_server_that_is_away_is_one_event_whoever_waits_for_it(log: Log) -> None:
    away = "Redis at redis://h:6379/0 cannot be used: Error 111 connecting. Start one, or set GRISTMILL_REDIS_URL."
    for logger, said in (("a", "waiting: %s"), ("b", "heartbeat: %s"), ("c", "leases could not be renewed: %s")):
        log.of(logger).warning(said, away)
    log.of("a").warning("waiting: Qdrant cannot be used over gRPC: UNAVAILABLE: no. Start one.")
    assert len(log.lines) == 2


def test_a_second_absence_is_news_once_redis_was_there_in_between(log: Log) -> None:
    url = "redis://h:6379/0"
    away = f"Redis at {url} cannot be used: Error 111 connecting. Start one, or set GRISTMILL_REDIS_URL."
    for _ in range(2):
        for _ in range(10):
            log.of("a").warning("waiting: %s", away)
        log.of("b").warning("something else")
        log.of("celery.worker.consumer.connection").info("Connected to %s", url)
    lines = log.lines
    told, back = "WARNING a", "INFO celery.worker.consumer.connection"
    assert [line.split(": ")[0] for line in lines] == [told, "WARNING b", told, back, told, told, back]
    assert "8 more like it" in lines[2]


def test_what_is_said_on_purpose_is_never_left_out(log: Log) -> None:
    for _ in range(3):
        log.of("gristmill_worker.process.watches").info("progress 5")
    assert len(log.lines) == 3


def test_a_line_that_does_not_fit_together_is_a_line_too(log: Log) -> None:
    log.of("x").warning("%d of %d", "many")
    (line,) = log.lines
    assert "%d of %d" in line
    assert "many" in line


def test_for_programs_each_event_is_an_object_that_says_what_it_is_about() -> None:
    stream, now = io.StringIO(), 0.0
    handler = LineHandler(stream, lambda: now)
    handler.addFilter(note_concern)
    handler.setFormatter(ObjectFormatter("%(message)s"))
    logger = logging.getLogger("gristmill_worker.pipeline.x")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with concerning(job="j1", parcel="j1.0", collection="文档"):
            logger.error("parcel j1.0\nfailed", exc_info=raised(ValueError("odd")))
            for name in ("a", "b", "c"):
                logger.warning("a document is dead", extra={"concerned": {"document": name}})
        now = 61.0
        logger.error("elsewhere")
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    failed, first, *rest = map(json.loads, stream.getvalue().splitlines())
    assert failed["message"].startswith("parcel j1.0 failed: ValueError: odd (at test_log_lines.py:")
    assert (failed["level"], failed["error"], failed["parcel"]) == ("error", "ValueError", "j1.0")
    assert datetime.fromisoformat(failed["time"]).tzinfo is not None
    assert (first["job"], first["collection"], first["document"]) == ("j1", "文档", "a")
    (dead,) = [each for each in rest if "document" in each]
    assert (dead["more"], dead["document"], dead["job"]) == (1, "c", "j1"), "the last of them, and how many besides"
    (other,) = [each for each in rest if each["message"] == "elsewhere"]
    assert "job" not in other
