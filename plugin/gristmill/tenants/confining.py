"""Calls of a client with their tenant fixed, and those that have nothing to do with any.

What a tenant's client has is written down call by call, and what is not written down is not there: a call that is new to the
client is no call of a tenant before somebody has thought of it. Each is made by one of these:

    confined      the call itself, told the tenant; another one is refused
    confined_job  the same, for a call that gives a job, of which a tenant sees its own
    passed        the call itself, of which nothing depends on anybody's documents
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from gristmill.arguments import tenant_name
from gristmill.ingest.jobs import Job, TenantJob
from gristmill_schemas.errors import InvalidInput, QueueFull

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class Confined(Generic[S]):
    """Something of a client, for one tenant."""

    def __init__(self, wrapped: S, tenant: str) -> None:
        self._wrapped = wrapped
        self._tenant = tenant

    def _confine(self, method: Callable[..., T], *args: Any, **given: Any) -> T:
        asked = tenant_name(given.get("tenant"))
        if asked not in (None, self._tenant):
            raise InvalidInput(
                f"tenant: this client is of {self._tenant!r} alone, got {asked!r}; leave it out, or ask the client that "
                "made this one",
                field="tenant",
            )
        try:
            return method(self._wrapped, *args, **{**given, "tenant": self._tenant})
        except QueueFull as full:  # which tells how much of everybody's waits, unless it is about this tenant
            if full.tenant == self._tenant:
                raise
            refusal = QueueFull("the queue is full: try again later", collection=full.collection)
            refusal.__notes__ = list(getattr(full, "__notes__", []))  # of what was accepted, which is its own
        raise refusal  # out here, so that the other is not its context


def confined(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method that takes a tenant, with the tenant fixed: same name, parameters, docstring and result."""
    _require_tenant(method)

    @functools.wraps(method)
    def call(self: Confined[Any], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._confine(method, *args, **kwargs)

    return cast("Callable[Concatenate[Any, P], T]", call)


def confined_job(method: Callable[Concatenate[Any, P], Job]) -> Callable[Concatenate[Any, P], TenantJob]:
    """As `confined`, for methods that give a job."""
    _require_tenant(method)

    @functools.wraps(method)
    def call(self: Confined[Any], *args: P.args, **kwargs: P.kwargs) -> TenantJob:
        return TenantJob(self._confine(method, *args, **kwargs))

    return cast("Callable[Concatenate[Any, P], TenantJob]", call)


def passed(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method that reads and changes nothing of anybody's documents, as it is."""

    @functools.wraps(method)
    def call(self: Confined[Any], *args: P.args, **kwargs: P.kwargs) -> T:
        return method(self._wrapped, *args, **kwargs)

    return cast("Callable[Concatenate[Any, P], T]", call)


def _require_tenant(method: Callable[..., Any]) -> None:
    """At import, so that no call can be confined that would not know by what."""
    if "tenant" not in inspect.signature(method).parameters:
        raise TypeError(f"{method.__qualname__} takes no tenant, so it cannot be confined to one")
