"""Texts to vectors for whoever wants the vectors themselves: the same model, templates and instructions as a search.

Texts travel in requests that a worker without an accelerator answers well within a query's time limit, one after another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from gristmill.arguments import one_or_many, refuse, text
from gristmill.models import Models
from gristmill.search.instructions import Applied, Cautions, resolve_instruction
from gristmill.search.lenses import find_lens, query_instruction
from gristmill.search.query_vectors import in_requests
from gristmill.search.remembered_vectors import RememberedVectors
from gristmill.store.collections import Collections
from gristmill_schemas import CollectionSpec, VectorSpace
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.limits import MAX_TEXT_BYTES

#: What a text is: models are trained to treat the two differently.
Kind = Literal["query", "document"]

#: Most bytes of texts in one request: some 8,000 tokens, four seconds on two CPU cores.
_REQUEST_BYTES = 32 * 1024


class Embedder:
    """Embeds texts outside of any search."""

    def __init__(
        self, collections: Collections, models: Models, queries: RememberedVectors, cautions: Cautions
    ) -> None:
        self._collections = collections
        self._models = models
        self._queries = queries
        self._cautions = cautions

    def embed(
        self,
        texts: str | Iterable[str],
        *,
        collection: str | None = None,
        model: str | None = None,
        kind: Kind = "query",
        instruction: str | None = None,
        lens: str | None = None,
    ) -> npt.NDArray[np.float32]:
        """See `Client.embed`."""
        if kind not in get_args(Kind):
            raise refuse("kind", "'query' or 'document'", kind)
        wanted = [
            text(f"texts[{position}]", each, MAX_TEXT_BYTES)
            for position, each in enumerate(one_or_many("texts", texts, str, "a text or an iterable of texts"))
        ]
        space, spec = self._space(collection, model)
        applied = _applied(spec, kind, instruction, lens)
        templates = space.templates
        template, of = (
            (templates.for_query, templates.of_query)
            if kind == "query"
            else (templates.for_document, templates.of_document)
        )
        where = f"collection {spec.name!r}" if spec else f"model {space.model!r}"
        self._cautions.tell(where, space, applied, of(applied.text))
        model_input = [template(each, applied.text) for each in wanted]
        # Documents come by the thousand and once: they would only push out what is asked for again.
        encode = self._queries.encode if kind == "query" else self._queries.encode_fresh
        parts = [encode(space, part) for part in in_requests(model_input, _REQUEST_BYTES)]
        vectors = np.concatenate(parts) if parts else np.empty((0, space.dimensions), dtype=np.float32)
        return vectors[0] if isinstance(texts, str) else vectors

    def _space(self, collection: str | None, model: str | None) -> tuple[VectorSpace, CollectionSpec | None]:
        if collection is not None and model is not None:
            raise InvalidInput(
                "model: expected collection= or model=, got both; a collection has its model", field="model"
            )
        if collection is None:
            return self._models.served(model, wait_s=0).space(), None
        spec = self._collections.get(collection)
        return spec.space, spec


def _applied(spec: CollectionSpec | None, kind: Kind, instruction: str | None, lens: str | None) -> Applied:
    """What goes before the texts, as a search or an ingest would have it."""
    if lens is None:
        return resolve_instruction(spec, instruction)
    if spec is None:
        raise refuse("lens", "None without collection=, which is what has lenses", lens)
    found = find_lens(spec, lens)
    if kind == "query" or found is None:
        return query_instruction(spec, found, instruction)
    if instruction is not None:
        raise refuse("instruction", f"None, since documents under lens {lens!r} are embedded for its own", instruction)
    return Applied(found.document, found.document)
