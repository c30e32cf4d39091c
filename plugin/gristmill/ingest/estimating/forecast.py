"""What would become of documents: told by the worker's own code, which the plugin finds by an entry point."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qdrant_client import QdrantClient

from gristmill.extras import brought_by
from gristmill.ledger import Ledger
from gristmill.settings import ClientSettings
from gristmill_schemas import CollectionSpec, Document, EncoderInfo, Outcome


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of one document."""

    document: Document
    #: Stored, skipped, superseded or dead.
    outcome: Outcome
    #: Tokens that would go through the model, under all lenses together.
    tokens: int = 0
    #: Points that it would have.
    chunks: int = 0
    #: Whether its text would be cut at the model's window.
    truncated: bool = False
    #: Whether points would be written: not where it is there already, and only its metadata changes.
    written: bool = False
    #: Characters of its text in all its points, what neighbours share counted for each.
    stored_chars: int = 0
    #: Why it would die.
    reason: str = ""
    #: Gives what the model would be given, each with its tokens; none of them is beyond its window.
    inputs: Callable[[], Sequence[tuple[str, int]]] = tuple


class Forecaster(Protocol):
    """Tells what would become of documents of one collection. It writes nothing anywhere."""

    @property
    def inexact(self) -> str | None:
        """Why tokens are estimated; None where they are counted as the workers count them."""

    def forecast(self, documents: Sequence[Document]) -> list[Forecast]:
        """What would become of each, were all of them enqueued now.

        Raises:
            StoreUnavailable, StoreRefused, BrokerUnavailable.
        """


class Forecasting(Protocol):
    """What the worker's entry point gives."""

    def info(self, model: str) -> EncoderInfo:
        """What the model of a new collection is, as a worker on this machine would announce it.

        Raises:
            ModelUnavailable, NotInstalled, InvalidInput, Unavailable.
        """

    def open(self, spec: CollectionSpec, store: QdrantClient | None, ledger: Ledger) -> Forecaster:
        """For one collection; `store` is None where it does not exist yet."""


class OpenForecasting(Protocol):
    """The entry point itself."""

    def __call__(self, settings: ClientSettings) -> Forecasting:
        """By the application's settings; what only the worker knows it reads from the environment."""


def open_forecasting(settings: ClientSettings) -> Forecasting:
    """The worker package's. Found by entry point: the plugin never imports the worker."""
    with brought_by("worker", "an estimate"):
        (entry,) = importlib.metadata.entry_points(group="gristmill.forecasting")
        opened: OpenForecasting = entry.load()
    return opened(settings)
