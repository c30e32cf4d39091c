"""Threads that a process cannot do without: when one dies, whoever waits for it must not wait for ever."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Final, NoReturn

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Exit statuses of a process that gives itself up; the supervisor starts a new one."""

    HUNG = 70  #: a batch, or the consumer, does not move any more
    SICK = 71  #: the device gives nonsense or nothing, even for texts that it could encode at the start
    BROKEN = 72  #: a thread died that others wait for
    AGAIN = 73  #: all is well, and a new process will serve more than this one


#: Longest wait for the log, seconds. Who writes to a pipe that nobody reads waits for ever, with a lock of the log.
_LAST_WORDS_S = 2.0

#: What ends a thread, or its whole process: it says nothing about what the thread was at, however much of that may raise.
ENDINGS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)

#: Told which thread died, and of what.
Died = Callable[[str, BaseException], None]


def end_now(status: int, last_words: Callable[[], None]) -> NoReturn:
    """End this process, whatever hangs: threads that cannot be stopped, and whoever reads its log.

    Args:
        status: to end with.
        last_words: logs something.
    """

    def speak() -> None:
        last_words()
        logging.shutdown()

    speaking = threading.Thread(target=speak, name="gristmill-last-words", daemon=True)
    with suppress(RuntimeError):  # no new threads while Python shuts down
        speaking.start()
        speaking.join(_LAST_WORDS_S)
    os._exit(status)


@contextmanager
def ends_within(limit_s: float, what: str) -> Iterator[None]:
    """End this process, as if all were well, if the block takes longer: the last one, which closes what may hang."""
    over = threading.Event()

    def watch() -> None:
        if not over.wait(limit_s):
            end_now(0, lambda: log.error("%s has not ended within %.0f s: ending without it", what, limit_s))

    vital_thread("gristmill-end", watch, end_process).start()
    try:
        yield
    finally:
        over.set()


def give_up(status: Exit, why: str) -> NoReturn:
    """End this process now. Nothing gentler helps: a thread inside a hung kernel or a lost connection cannot be stopped.

    What it held lapses and goes to other workers.
    """
    end_now(status, lambda: log.critical("%s: giving this process up (exit status %d)", why, status))


def end_process(name: str, error: BaseException) -> None:
    """`Died` of a worker process."""
    why = "thread %s died: giving this process up (exit status %d)"
    end_now(Exit.BROKEN, lambda: log.critical(why, name, Exit.BROKEN, exc_info=error))


def vital_thread(name: str, run: Callable[[], None], died: Died) -> threading.Thread:
    """A daemon thread, not started yet, that reports its death by any exception, `BaseException`s included."""

    def guarded() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001  # whoever is told logs it
            died(name, error)

    return threading.Thread(target=guarded, name=name, daemon=True)
