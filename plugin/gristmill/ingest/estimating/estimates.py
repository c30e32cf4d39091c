"""Opens an estimator: which collection is meant, and what is known before the first document is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import QdrantClient

from gristmill.ingest.agreement import settle
from gristmill.ingest.estimating.estimator import Estimator
from gristmill.ingest.estimating.forecast import Forecasting, open_forecasting
from gristmill.ingest.estimating.rates import Sample, known_rate, workers_of
from gristmill.ingest.estimating.sizes import Kept, QueueSize, StoreSize, how_kept
from gristmill.ledger import Ledger
from gristmill.models import Models
from gristmill.settings import ClientSettings
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec, EncoderInfo
from gristmill_schemas.errors import CollectionConflict, CollectionNotFound, GristmillError, NoWorker


class Estimates:
    """Of one client."""

    def __init__(
        self,
        settings: ClientSettings,
        ledger: Ledger,
        store: QdrantClient,
        collections: Collections,
        models: Models,
        *,
        local: bool,
    ) -> None:
        self._settings, self._ledger, self._store = settings, ledger, store
        self._collections, self._models, self._local = collections, models, local

    def open(
        self,
        name: str,
        model: str | None,
        asked: Mapping[str, Any],
        tokens_per_s: float | None,
        *,
        measure: bool | None,
    ) -> Estimator:
        """An estimator for a collection, there or to be; arguments and errors are those of `Client.estimate`."""
        forecasting = open_forecasting(self._settings)
        there = self._there(name, model, asked)
        spec = there or self._to_be(forecasting, name, model, asked)
        workers = len(workers_of(self._ledger, spec.space.model_digest))
        sampled = bool(workers and tokens_per_s is None) if measure is None else measure
        kept = how_kept(self._store, spec) if there and not self._local else Kept()
        return Estimator(
            spec,
            forecasting.open(spec, self._store if there else None, self._ledger),
            QueueSize(spec, self._ledger.now(), roster=self._settings.roster),
            None if self._local else StoreSize(spec, kept),
            known_rate(self._ledger, spec, tokens_per_s),
            exists=there is not None,
            workers=workers,
            sample=Sample() if sampled else None,
            insists=bool(measure),
        )

    def _there(self, name: str, model: str | None, asked: Mapping[str, Any]) -> CollectionSpec | None:
        try:
            there = self._collections.get(name)
        except CollectionNotFound:
            return None
        if model not in (None, there.space.model, there.space.model_digest):
            raise CollectionConflict(
                f"collection {name!r} exists with model {there.space.model}, asked for {model}: leave it out, or name a "
                "collection that does not exist",
                field="model",
                collection=name,
            )
        return settle(self._collections, name, there, asked, update=False)

    def _to_be(
        self, forecasting: Forecasting, name: str, model: str | None, asked: Mapping[str, Any]
    ) -> CollectionSpec:
        info = self._info(forecasting, model)
        plain = {"distance": info.distance, "keyword": True}
        return CollectionSpec(name=name, space=info.space(), **plain | dict(asked))

    def _info(self, forecasting: Forecasting, model: str | None) -> EncoderInfo:
        """As workers announce it; where none has, as one on this machine would."""
        try:
            return self._models.served(model, wait_s=0)
        except NoWorker as nobody:
            if model is None and self._models.list():
                raise  # it has to be said which
            try:
                return forecasting.info(model or self._settings.model)
            except GristmillError as error:
                nobody.add_note(f"and not on this machine: {error}")
                raise nobody from error
