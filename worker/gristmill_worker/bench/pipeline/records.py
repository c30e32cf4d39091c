"""What is asked of the benchmark, and what it measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gristmill_worker.bench.pipeline.inspection import Inspection


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured."""

    #: `hash:DIM`, or anything that `gristmill worker --model` takes.
    encoder: str
    documents: int
    #: Worker processes.
    workers: int = 1
    #: Of torch, per worker process; None leaves it to torch.
    torch_threads: int | None = None
    rounds: int = 5
    peers: tuple[str, ...] = ()
    #: Let Qdrant build its vector index, and measure until it is built.
    index: bool = False
    #: That workers serve beside the encoder.
    reranker: str | None = None
    #: Of each document, about; None takes texts as they come.
    tokens: int | None = None
    #: In each round the same with one worker, too, which is what several are compared with.
    scaling: bool = False
    #: Most tokens per batch of each worker; None lets each measure what pays off.
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """One way of all documents through one side."""

    documents: int
    #: From the first document handed over to the last one stored.
    seconds: float
    #: Until Qdrant had built its indexes, too.
    green_s: float
    #: Vectors in an index by then.
    indexed: int
    #: CPU seconds by party (side, worker, qdrant, redis) until then; None where they cannot be seen.
    cpu_s: Mapping[str, float | None]

    @property
    def rate(self) -> float:
        """Documents per second."""
        return self.documents / self.seconds


@dataclass(slots=True)
class Passes:
    """One side's, round by round."""

    new: list[Pass] = field(default_factory=list)
    #: The same documents once more; none where a side does not tell.
    unchanged: list[Pass] = field(default_factory=list)
    #: Points in its collection after both.
    points: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Rounds:
    """What was measured, round by round."""

    dimensions: int = 0
    ours: Passes = field(default_factory=Passes)
    #: What our collections held after both.
    held: list[Inspection] = field(default_factory=list)
    raw: Passes = field(default_factory=Passes)
    peers: dict[str, Passes] = field(default_factory=dict)
    #: Texts per second of the encoder alone.
    encoder: list[float] = field(default_factory=list)
    #: The same of one worker among `Plan.workers`, if that was asked for.
    one: list[Pass] = field(default_factory=list)
    one_encoder: list[float] = field(default_factory=list)
    #: Of the largest worker process.
    rss_mb: list[float] = field(default_factory=list)
    #: What part of the time the workers' models waited while new documents came, by cause.
    worker_idle: list[Mapping[str, float]] = field(default_factory=list)
    #: How long the workers' threads took to launch a batch then, and that of the encoder alone: `median` and `p95`, ms; none
    #: where a processor computes.
    launch_ms: list[Mapping[str, float]] = field(default_factory=list)
    encoder_launch_ms: list[Mapping[str, float]] = field(default_factory=list)
    #: Of all documents, as the encoder alone reads them.
    tokens: int = 0
