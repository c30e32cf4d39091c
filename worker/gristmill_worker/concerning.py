"""What is in hand on this thread: the model, job, parcel and collection that whatever is logged meanwhile is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
_concerned: ContextVar[Mapping[str, str]] = ContextVar("concerned", default=_NOTHING)


@contextmanager
def concerning(**what: str) -> Iterator[None]:
    """What is logged in this block, on this thread, is about this, too."""
    token = _concerned.set({**_concerned.get(), **what})
    try:
        yield
    finally:
        _concerned.reset(token)


def concerned() -> Mapping[str, str]:
    """What is in hand on this thread."""
    return _concerned.get()
