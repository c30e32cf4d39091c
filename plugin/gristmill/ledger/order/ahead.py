"""What is served before a job: the fair queue carried on, as it stands, without going through what waits.

Until a child's start tag has come from S to S + X each other child of its node is served while its own tag is behind that,
or until it has nothing more to give. So much of its siblings goes before X tokens of a job, so much of other flows before
what its flow is given by then, and so on up to the priorities. Parcels are whole, so each that has a turn may be ahead or
behind by one; whoever comes later changes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gristmill.ledger.order.fair import EQUAL, SHARES, Path

Node = tuple[str, ...]


class Before(NamedTuple):
    """How a job stands. Tokens are those that were estimated."""

    model_digest: str
    #: Unfinished ones of the job itself.
    tokens: int
    #: Of other jobs, that somebody has in hand or is given before the first parcel of this one that waits, and its last.
    first: int
    last: int
    #: Which part of what is given out for the model it is given just now.
    share: float


@dataclass(frozen=True, slots=True)
class Turns:
    """One model's fair queue, as far as one job is concerned."""

    model_digest: str
    #: Where that job stands.
    path: Path
    #: Start tags of the children of each node on its way, the job's own among them.
    tags: Mapping[Node, Mapping[str, float]]
    #: Tokens that wait, of each job that may be given out.
    waiting: Mapping[Path, int]
    #: Tokens in hand: of the job, and of all others.
    held: int = 0
    others_held: int = 0
    #: Tokens of jobs beyond those that were looked at.
    rest: int = 0
    #: Nothing of the job is given to anybody.
    is_stopped: bool = False

    def before(self) -> Before | None:
        """How the job stands; None where nothing of it is unfinished."""
        mine = self.waiting.get(self.path, 0)
        first = self.others_held + (self._ahead_of(0) if mine else 0)
        last = self.others_held + (self._ahead_of(mine) + self.rest if mine else 0)
        share = self._share() if mine and not self.is_stopped else 0.0
        return Before(self.model_digest, mine + self.held, first, last, share) if mine + self.held else None

    def _ahead_of(self, mine: int) -> int:
        """Tokens of others that are given out before so many of the job are."""
        given: float = mine
        for node, child in reversed(self.path.tiers()):
            given += self._siblings(node, child, given)
        return round(given - mine)

    def _siblings(self, node: Node, child: str, given: float) -> float:
        """What the others at a node are given until this one has been."""
        tags, left = self.tags[node], self._left(node)
        until = tags[child] + given * EQUAL / _share(node, child)
        return sum(
            max(0.0, min(left[other], (until - tag) * _share(node, other) / EQUAL))
            for other, tag in tags.items()
            if other != child
        )

    def _left(self, node: Node) -> Counter[str]:
        """Tokens that wait at each child of a node."""
        found: Counter[str] = Counter()
        for path, tokens in self.waiting.items():
            if path[: len(node)] == node:
                found[path[len(node)]] += tokens
        return found

    def _share(self) -> float:
        part = 1.0
        for node, child in self.path.tiers():
            left = self._left(node)
            part *= _share(node, child) / sum(_share(node, each) for each in {*left, child})
        return part


def _share(node: Node, child: str) -> int:
    return SHARES[child] if not node else EQUAL
