"""HTTP/1.1 by h11, which bounds what a head may hold, on connections that are given up where no whole head comes.

uvicorn waits for ever for the end of a head that has begun: a few thousand clients that send a byte a minute would hold as
many connections.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Longest time in which a connection may bring no whole head, seconds; between one and two of them it is closed. Longer than
#: clients keep an idle connection (httpx 5 s), so that it is they who close it, and none meets a closed one.
HEAD_S: Final = 30.0


class BoundedProtocol(H11Protocol):
    """One connection."""

    _look_again: asyncio.TimerHandle | None = None
    #: The request that was the last one at the look before, and was answered already.
    _seen: Any = None

    def connection_made(self, transport: Any) -> None:
        """See asyncio."""
        super().connection_made(transport)
        self._seen = self
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        if self._look_again is not None:
            self._look_again.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._look_again = self.loop.call_later(HEAD_S, self._look)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self._seen is self.cycle:
            self.transport.close()
            return
        self._seen = self.cycle if idle else self
        self._look_later()
