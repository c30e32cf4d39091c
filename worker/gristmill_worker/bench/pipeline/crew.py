"""Workers beside what they are compared with: the encoder alone, in as many processes, right before and right after."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gristmill_worker.bench.pipeline.processes import Side
from gristmill_worker.bench.pipeline.records import Pass
from gristmill_worker.bench.pipeline.site import Site

#: What each encoder says of a pass over its share: `texts`, `tokens`, `seconds`, `launch_ms`.
Said = Sequence[Mapping[str, Any]]

#: Part of the time of the encoder alone in which a job cannot be done, however much faster the host has become meanwhile.
_UNFINISHED = 0.8


def rate_of(passes: Sequence[Said]) -> float:
    """Texts per second of encoders side by side: the sum of their rates, each over the time of all its passes."""
    shares = list(zip(*passes, strict=True))
    return sum(_total(share, "texts") / _total(share, "seconds") for share in shares)


def _total(said: Said, key: str) -> float:
    return float(sum(each[key] for each in said))


class Crew:
    """The workers of a site, whoever hands documents over to them, and their encoders alone."""

    def __init__(
        self, site: Site, documents: Path, count: int, encoders: Sequence[Side], *, costs_nothing: bool
    ) -> None:
        """Prepare.

        Args:
            site: of the workers.
            documents: their file.
            count: how many.
            encoders: alone; each encodes its share of the documents, one by itself all of them.
            costs_nothing: whether the encoder is a stand-in, which needs no second look.
        """
        self.site = site
        self._count, self._encoders, self._costs_nothing = count, encoders, costs_nothing
        self._producer = site.side("producer", documents=str(documents))

    def enqueue(self, collection: str, count: int | None = None, expected_s: float = 0.0) -> tuple[float, float]:
        """Hand documents over and wait; see `Site.finish`. Gives the job's seconds, and the CPU seconds of `enqueue`."""
        answer = self._producer.ask(collection=collection, count=count)
        return self.site.finish(answer.said["job"], expected_s).seconds, answer.cpu_s

    def load(self, collection: str) -> Pass:
        """All documents once through the workers."""
        return self._load(collection, 0.0)

    def load_beside_encoders(self, collection: str) -> tuple[Pass, list[Said]]:
        """The same, and what the encoders alone say.

        They have the same work before and after it: what a neighbour takes from the host, for a minute or two, is taken from
        both sides alike.
        """
        alone, expected_s = [], 0.0
        if not self._costs_nothing:
            alone.append(self._encode())
            expected_s = _UNFINISHED * self._count / rate_of(alone)
        done = self._load(collection, expected_s)
        return done, [*alone, self._encode()]

    def _load(self, collection: str, expected_s: float) -> Pass:
        work = functools.partial(self.enqueue, collection, expected_s=expected_s)
        return self.site.measured(collection, self._count, work)

    def _encode(self) -> Said:
        alone = len(self._encoders) == 1
        for side in self._encoders:
            side.start(everything=alone)
        return [side.answer().said for side in self._encoders]
