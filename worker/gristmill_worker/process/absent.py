"""Models that are not there when their worker starts: it serves the others, and starts again once they are.

Only a model server can be absent and come later; what is wrong with a folder stays wrong. A queue that Celery does not
know cannot join while it runs, so a new process takes the place of this one; the supervisor starts it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from gristmill_schemas.errors import Unavailable
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.waiting.notices import Notices, Waits

log = logging.getLogger(__name__)

#: How long the other models wait at the start for one that is absent, and how often it is looked for later, seconds.
_PATIENCE_S, LOOK_S = 5.0, 10.0


class Model(Protocol):
    """A loaded one."""

    def close(self) -> None:
        """Give back what it holds."""


M = TypeVar("M", bound=Model)


def load_present(
    each: Sequence[WorkerSettings], load: Callable[[WorkerSettings], M], *, some: bool = True
) -> tuple[list[M], list[WorkerSettings]]:
    """Load the models that are there, one after the other.

    Args:
        each: settings of one model each. A single one of which some are needed is waited for as long as its settings say.
        load: loads one.
        some: whether nothing can be done without any.

    Returns:
        The loaded models; and the settings of those whose servers are away.

    Raises:
        Unavailable: all servers are away, and `some` are needed.
        ModelUnavailable, InvalidInput: one of the others cannot be loaded.
    """
    present: list[M] = []
    absent: list[WorkerSettings] = []
    for settings in each:
        wait_s = settings.remote_wait_s if some and len(each) == 1 else min(settings.remote_wait_s, _PATIENCE_S)
        try:
            present.append(load(settings.model_copy(update={"remote_wait_s": wait_s})))
        except Unavailable as away:
            log.error("model %s is not served for now: %s", settings.model, away)
            absent.append(settings)
            if some and len(absent) == len(each):
                raise
    return present, absent


class AbsentModels:
    """A duty: looks for the absent models, and says so as long as they are."""

    def __init__(
        self,
        absent: Sequence[WorkerSettings],
        load: Callable[[WorkerSettings], Model],
        notices: Notices,
        start_again: Callable[[], None],
    ) -> None:
        """Nothing is looked for yet.

        Args:
            absent: settings of one model each.
            load: loads one.
            notices: what people shall see.
            start_again: drains this process, for another to take its place.
        """
        self._absent, self._load = absent, load
        self._notices = notices
        self._start_again = start_again

    def __call__(self) -> None:
        """One look."""
        for settings in self._absent:
            try:
                self._load(settings.model_copy(update={"remote_wait_s": 0.1})).close()
            except Unavailable as away:
                self._notices.put(
                    ("absent", settings.model), Waits.MODEL, f"model {settings.model} is not served here: {away}"
                )
                continue
            log.warning("model %s is there now: starting again to serve it", settings.model)
            self._start_again()
            return
