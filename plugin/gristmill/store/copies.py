"""Collections of which Qdrant keeps several copies: what to ask of it so that the fence holds on all of them.

By default Qdrant sends a write to all copies at once and in no agreed order, and a read asks one of them. Two conditional
writes of one document may then leave different contents behind on different copies, each by the rules. So where there are
several:

- **writes** go through the one node that leads a shard (`strong`), by which they reach every copy in the same order. Not
  `medium`: who leads is there whoever is thought to be alive, and two nodes that think differently write past each other.
- **reads** by which the fence decides ask a majority (`quorum`), and get what all of it agrees on. Where copies differ,
  since a node died midway through a write, a point counts as absent, and is written again.

A listing page by page asks one copy: Qdrant drops what copies disagree about after it has cut the page, and takes a short
page for the last. With one copy all of this is left out of the request.
"""

from __future__ import annotations

from qdrant_client import grpc, models

from gristmill_schemas import CollectionSpec


def ordering(spec: CollectionSpec) -> models.WriteOrdering | None:
    """What a write says about its order among others."""
    return models.WriteOrdering.STRONG if spec.replicas > 1 else None


def consistency(spec: CollectionSpec) -> models.ReadConsistencyType | None:
    """What a read says about the copies it asks."""
    return models.ReadConsistencyType.QUORUM if spec.replicas > 1 else None


def grpc_ordering(spec: CollectionSpec) -> grpc.WriteOrdering | None:
    """`ordering`, as a field of a message."""
    return grpc.WriteOrdering(type=grpc.WriteOrderingType.Strong) if spec.replicas > 1 else None


def grpc_consistency(spec: CollectionSpec) -> grpc.ReadConsistency | None:
    """`consistency`, as a field of a message."""
    return grpc.ReadConsistency(type=grpc.ReadConsistencyType.Quorum) if spec.replicas > 1 else None
