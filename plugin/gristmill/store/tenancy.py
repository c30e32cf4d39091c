"""Collections that keep tenants apart: nothing goes in without a tenant, and nothing comes out.

Qdrant gets its tenant index in every collection (`collections.py`). Where each search names a tenant, no graph over all of
them is ever asked, so none is built: one per tenant instead (Qdrant's guide to multitenancy: `m=0`, `payload_m=16`). Writing
costs less, a tenant with few documents is read whole by its index, and one with many has a graph that leads to no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdrant_client import models

from gristmill_schemas import CollectionSpec, Retraction
from gristmill_schemas.errors import InvalidInput
from gristmill_schemas.point import ETAG_PATH, JOB_PATH, TENANT_PATH, VERSION_PATH

#: Edges per node of a tenant's graph: Qdrant's default for any.
_EDGES = 16


def require_tenant(spec: CollectionSpec, tenant: str | None) -> None:
    """Raise InvalidInput where the collection keeps tenants apart and none was named."""
    if spec.tenants and tenant is None:
        raise InvalidInput(
            f"tenant: {_told(spec)}; pass tenant=…, or ask through client.tenant(…), which fixes it",
            field="tenant",
            collection=spec.name,
        )


def missing_tenant(spec: CollectionSpec) -> str:
    """Why an item without a tenant is refused."""
    return f"tenant: {_told(spec)}; give each document its tenant, or hand them over through client.tenant(…)"


def _told(spec: CollectionSpec) -> str:
    return f"expected one, since collection {spec.name!r} keeps tenants apart, got none"


def of_tenant(tenant: str | None) -> models.Filter | None:
    """The points of one tenant; None, which filters nothing, for all of them."""
    if tenant is None:
        return None
    return models.Filter(must=[models.FieldCondition(key=TENANT_PATH, match=models.MatchValue(value=tenant))])


def rarity_within(tenant: str | None) -> models.SearchParams | None:
    """That words are as rare as they are among the points of one tenant; None: among all, or by a client before 1.19."""
    corpus = of_tenant(tenant)
    if corpus is None or not hasattr(models, "IdfCorpusParams"):
        return None
    return models.SearchParams(idf=models.IdfCorpusParams(corpus=corpus))


def retracting(retraction: Retraction) -> list[models.UpdateOperation]:
    """Operations that delete what a claim has written and should not: of this job, this very content and version."""
    operations: list[models.UpdateOperation] = []
    for version in sorted({version for _, version in retraction.contents}):
        etags = [etag for etag, of in retraction.contents if of == version]
        chosen = models.Filter(
            must=[
                models.FieldCondition(key=JOB_PATH, match=models.MatchValue(value=retraction.job_id)),
                models.FieldCondition(key=ETAG_PATH, match=models.MatchAny(any=etags)),
                models.FieldCondition(key=VERSION_PATH, range=models.Range(gte=version, lte=version)),
            ]
        )
        operations.append(models.DeleteOperation(delete=models.FilterSelector(filter=chosen)))
    return operations


def graph_per_tenant(spec: CollectionSpec, layout: Mapping[str, Any]) -> Mapping[str, Any]:
    """The layout of a new collection with one graph per tenant, where it has tenants; what the caller says of it stays."""
    if not spec.tenants:
        return layout
    asked = layout.get("hnsw", models.HnswConfigDiff()).model_dump(exclude_none=True)
    return {**layout, "hnsw": models.HnswConfigDiff(**{"m": 0, "payload_m": _EDGES, **asked})}
