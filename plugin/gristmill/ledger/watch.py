"""Who wants to know how the ledger's server does: how long each call took, and which failed."""

from __future__ import annotations

from typing import Protocol

from gristmill_schemas.errors import GristmillError


class Watch(Protocol):
    """Told of every call, on the thread that made it; must neither raise nor wait."""

    def took(self, operation: str, seconds: float) -> None:
        """A call of this method has ended, however it did."""

    def failed(self, error: GristmillError) -> None:
        """So it raised this."""


class Unwatched:
    """Nobody."""

    def took(self, operation: str, seconds: float) -> None:
        """See `Watch`."""

    def failed(self, error: GristmillError) -> None:
        """See `Watch`."""
