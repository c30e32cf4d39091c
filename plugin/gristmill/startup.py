"""Waiting at the start for servers that start at the same time, as under `docker compose up`: bounded, and said aloud."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import tenacity

from gristmill.client import Client
from gristmill.store.connection import require_server
from gristmill_schemas.errors import GristmillError, Unavailable

#: Pauses between two looks, seconds: growing, with jitter.
_FIRST_S, _LONGEST_S = 0.1, 1.0
#: A person waits in front of a command: no longer than this, seconds.
_COMMAND_S = 5.0


def open_client(say: Callable[[str], None], *, redis: bool = True, qdrant: bool = True) -> Client:
    """A client for a command, once the servers that it needs answer.

    After the wait the command runs all the same: it says in its own words what it lacks.
    """
    client = Client()
    parts = client._parts
    looks: dict[str, Callable[[], object]] = {"Redis": parts.ledger.now} if redis else {}
    looks |= {"Qdrant": lambda: require_server(parts.store)} if qdrant else {}
    try:
        if parts.settings.embedded_path is None:
            with suppress(GristmillError):
                await_servers(looks, min(_COMMAND_S, parts.settings.start_wait_s), say)
    except BaseException:  # Ctrl-C
        client.close()
        raise
    return client


def await_servers(looks: Mapping[str, Callable[[], object]], at_most_s: float, say: Callable[[str], None]) -> None:
    """Look at one server after the other until it answers.

    Args:
        looks: what asks a server something, by its name.
        at_most_s: longest time for all of them, seconds. 0 looks at each once.
        say: told what is being waited for, and for how long.

    Raises:
        Unavailable: the time is over. The server's own error, with what was waited for.
    """
    until = time.monotonic() + at_most_s
    for name, look in looks.items():
        try:
            _await(name, look, max(0.0, until - time.monotonic()), say)
        except Unavailable as away:
            if not at_most_s:
                raise
            text = f"{away} {name} was waited for, {at_most_s:g} s at most (GRISTMILL_START_WAIT_S)."
            raise type(away)(text) from away


def _await(name: str, look: Callable[[], object], left_s: float, say: Callable[[str], None]) -> None:
    def tell(state: tenacity.RetryCallState) -> None:
        if state.attempt_number == 1:
            say(f"waiting for {name}, {left_s:.0f} s at most: {state.outcome and state.outcome.exception()}")

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Unavailable),
        wait=tenacity.wait_random_exponential(multiplier=_FIRST_S, max=_LONGEST_S),
        stop=tenacity.stop_before_delay(left_s),
        before_sleep=tell,
        reraise=True,
    )
    retrying(look)
    if retrying.statistics["attempt_number"] > 1:
        say(f"{name} is there")
