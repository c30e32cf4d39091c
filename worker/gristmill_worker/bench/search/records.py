"""What is asked of the benchmark, and what it measured. All times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
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
    #: On the same worker; None measures none.
    reranker: str | None = None


@dataclass(slots=True)
class Load:
    """Searches by one thread while a worker has more documents than it can encode."""

    searches: list[float] = field(default_factory=list)
    #: The same, reranked.
    reranked: list[float] = field(default_factory=list)
    #: One bulk batch on the model, mean over those before the searches began.
    batch_s: float = 0.0


@dataclass(slots=True)
class Spent:
    """CPU that searches through a worker took, by process."""

    searches: int = 0
    #: Seconds of client, worker, Qdrant and Redis; None where they cannot be seen.
    cpu_s: dict[str, float | None] = field(default_factory=dict)

    def add(self, searches: int, cpu_s: Mapping[str, float | None]) -> None:
        """Some more."""
        self.searches += searches
        for name, seconds in cpu_s.items():
            before = self.cpu_s.get(name, 0.0)
            self.cpu_s[name] = None if seconds is None or before is None else before + seconds

    def ms_each(self) -> dict[str, float | None]:
        """Milliseconds of one search."""
        return {name: None if each is None else 1e3 * each / self.searches for name, each in self.cpu_s.items()}


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
    #: `search`, reranked.
    reranked: list[float] = field(default_factory=list)
    #: Pairs and tokens per second of the reranker in this process, and tokens per second of the encoder over the same
    #: texts, round by round; tokens where models count them.
    pairs: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    encoded: list[float] = field(default_factory=list)
    #: Searches per second by so many threads, through a worker and with remembered vectors, round by round.
    through_worker: dict[int, list[float]] = field(default_factory=dict)
    remembered: dict[int, list[float]] = field(default_factory=dict)
    #: What those through a worker took, by so many threads.
    spent: dict[int, Spent] = field(default_factory=dict)
    #: That all of them share.
    cores: int = 1
    load: Load = field(default_factory=Load)
