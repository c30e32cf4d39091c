"""Threads that a process cannot do without: when one dies, whoever waits for it must not wait for ever."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from enum import IntEnum

log = logging.getLogger(__name__)


class Exit(IntEnum):
    """Exit statuses of a process that gives itself up; the supervisor starts a new one."""

    HUNG = 70  #: a batch, or the consumer, does not move any more
    SICK = 71  #: the device gives nonsense or nothing, even for texts that it could encode at the start
    BROKEN = 72  #: a thread died that others wait for
    AGAIN = 73  #: all is well, and a new process will serve more than this one


#: Told which thread died, and of what.
Died = Callable[[str, BaseException], None]


def give_up(status: Exit, why: str) -> None:
    """End this process now. Nothing gentler helps: a thread inside a hung kernel or a lost connection cannot be stopped.

    What it held lapses and goes to other workers.
    """
    log.critical("%s: giving this process up (exit status %d)", why, status)
    logging.shutdown()
    os._exit(status)


def end_process(name: str, error: BaseException) -> None:
    """`Died` of a worker process."""
    give_up(Exit.BROKEN, f"thread {name} died of {type(error).__name__}: {error}")


def vital_thread(name: str, run: Callable[[], None], died: Died) -> threading.Thread:
    """A daemon thread, not started yet, that reports its death by any exception, `BaseException`s included."""

    def guarded() -> None:
        try:
            run()
        except BaseException as error:
            log.critical("thread %s died", name, exc_info=True)
            died(name, error)

    return threading.Thread(target=guarded, name=name, daemon=True)
