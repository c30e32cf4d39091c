"""What is asked of the benchmark, and what it measured. All times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What is to be measured."""

    #: `hash:DIM`, or anything that `gristmill worker --model` takes.
    encoder: str
    #: In the collection that is searched, and in those that are loaded meanwhile.
    documents: int
    #: Different queries; each is asked once a round in every way.
    queries: int
    rounds: int
    limit: int = 10
    #: Of torch in the worker; None leaves it to torch.
    torch_threads: int | None = None


@dataclass(slots=True)
class Load:
    """Searches by one thread while a worker has more documents than it can encode."""

    searches: list[float] = field(default_factory=list)
    #: One bulk batch on the model, mean over those before the searches began.
    batch_s: float = 0.0


@dataclass(slots=True)
class Measured:
    """Samples, one per query and round, taken in turns."""

    dimensions: int = 0
    #: `Client.search` through a worker, nothing remembered.
    search: list[float] = field(default_factory=list)
    #: The same whose vector the client remembers.
    ready: list[float] = field(default_factory=list)
    #: qdrant-client with that vector.
    raw: list[float] = field(default_factory=list)
    #: A query's vector: of a worker, and of the encoder in this process.
    vector: list[float] = field(default_factory=list)
    encode: list[float] = field(default_factory=list)
    #: Searches per second by so many threads, through a worker and with remembered vectors, round by round.
    through_worker: dict[int, list[float]] = field(default_factory=dict)
    remembered: dict[int, list[float]] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
