"""Who is next, in this process: the same tree of start-time fair queues as `scripts/_fair.lua`, which explains it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from gristmill_schemas import Priority

#: In the order in which they go first.
_RANKS = {Priority.HIGH: "0", Priority.NORMAL: "1", Priority.LOW: "2"}
SHARES = {"0": 16, "1": 4, "2": 1}
#: Of whoever shares equally.
EQUAL = 16
#: Tokens of high priority that go at once.
_LEAD = 65536


class Path(NamedTuple):
    """The children that lead from a model to a job."""

    rank: str
    flow: str
    #: Begins with its time: of two equal ones the older goes first.
    job: str

    def tiers(self) -> tuple[tuple[tuple[str, ...], str], ...]:
        """Each node on the way with the child that leads on."""
        return ((), self.rank), ((self.rank,), self.flow), ((self.rank, self.flow), self.job)


def flow_of(tenant: str | None, collection: str) -> str:
    """Name of a tenant's flow, or of a collection's where no single tenant is known. It names nobody."""
    who = f"t{tenant}" if tenant else f"c{collection}"
    return hashlib.sha1(who.encode(), usedforsecurity=False).hexdigest()[:16]


def path_of(priority: Priority, tenant: str | None, collection: str, job: str) -> Path:
    """Where a job stands; `job` sorts by age."""
    return Path(_RANKS[priority], flow_of(tenant, collection), job)


def lead_of(child: str) -> int:
    """How far before a node's virtual time a child of it starts."""
    return _LEAD if child == _RANKS[Priority.HIGH] else 0


def entering(virtual: float, stopped: float | None) -> float:
    """The start tag of a child that comes to a node, by where it may start there and where it stopped."""
    return max(virtual, -inf if stopped is None else stopped)


@dataclass
class _Node:
    """Children with something to give, by their start tags; and those without whose tags are ahead."""

    active: dict[str, float] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    virtual: float = 0.0
    #: How far behind the virtual time children may start.
    margin: int = 0

    def start(self, child: str, *, behind: bool, lead: int) -> None:
        tag = entering(self.virtual - lead, self.spent.pop(child, None))
        last = max((other for other in self.active.values() if tag <= other < tag + 1), default=None)
        self.active.setdefault(child, tag if last is None or not behind else last + 1 / 1024)

    def stop(self, child: str) -> bool:
        """Returns whether nobody is left; then the node begins anew."""
        tag = self.active.pop(child, -inf)
        if self.active and tag > self.virtual - self.margin:
            self.spent[child] = tag
        return not self.active

    def first(self) -> str:
        return min((tag, child) for child, tag in self.active.items())[1]

    def charge(self, child: str, tokens: int, share: int, shares: int) -> None:
        if len(self.active) == 1 and not self.spent and self.active[child] <= self.virtual:
            return  # both would only move on together
        self.active[child] += tokens * EQUAL / share
        self.virtual = max(self.virtual + tokens * EQUAL / shares, min(self.active.values()))
        self.spent = {each: tag for each, tag in self.spent.items() if tag > self.virtual - self.margin}


class FairQueue:
    """The jobs of one model that have a parcel to give."""

    def __init__(self) -> None:
        self._nodes: defaultdict[tuple[str, ...], _Node] = defaultdict(_Node)

    def enter(self, path: Path) -> None:
        """The job has something to give."""
        for node, child in path.tiers():
            if not node and node not in self._nodes:
                self._nodes[node] = _Node(margin=_LEAD)
            self._nodes[node].start(child, behind=len(node) == 1, lead=lead_of(child))

    def leave(self, path: Path) -> None:
        """It has not."""
        for node, child in reversed(path.tiers()):
            if not self._nodes[node].stop(child):
                return
            del self._nodes[node]

    def leading(self) -> Path | None:
        """Who goes next."""
        if () not in self._nodes:
            return None
        rank = self._nodes[()].first()
        flow = self._nodes[rank,].first()
        return Path(rank, flow, self._nodes[rank, flow].first())

    def tags(self, path: Path) -> dict[tuple[str, ...], dict[str, float]]:
        """Start tags at each node on a job's way; of what is not there just now, that with which it would come."""
        found: dict[tuple[str, ...], dict[str, float]] = {}
        for name, child in path.tiers():
            node = self._nodes.get(name, _Node())
            found[name] = {child: entering(node.virtual - lead_of(child), node.spent.get(child)), **node.active}
        return found

    def charge(self, path: Path, tokens: int) -> None:
        """The job was given a parcel of so many tokens."""
        root = self._nodes[()]
        root.charge(path.rank, tokens, SHARES[path.rank], sum(SHARES[rank] for rank in root.active))
        for name, child in path.tiers()[1:]:
            node = self._nodes[name]
            node.charge(child, tokens, EQUAL, EQUAL * len(node.active))
