"""Groups of a collection: read, parted, described by their nearest documents, and written to the payload where asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from qdrant_client import QdrantClient

from gristmill.arguments import callback, flag, identifier, integer, number, refuse, tenant_name
from gristmill.ingest.intake import Intake
from gristmill.ingest.metadata import check_changes, rewritten
from gristmill.search.clustering.members import Members, read_members
from gristmill.search.clustering.partition import Labels, nearest_centres, within_reach
from gristmill.search.filters import Where, compile_filter
from gristmill.search.lenses import find_lens
from gristmill.search.unindexed import Unindexed
from gristmill.search.unmatched import Unmatched
from gristmill.store.collections import Collections
from gristmill.store.documents import beginnings
from gristmill.store.tenancy import require_tenant
from gristmill_schemas import Cluster, Clustering, ClusterMember, CollectionSpec, Document, Rejection
from gristmill_schemas.errors import InvalidInput

#: Told the stage (`reading`, `comparing`, `writing`) and how many documents are done.
Progress = Callable[[str, int], object]

#: Most groups and documents shown of each.
_MOST_GROUPS, _MOST_SHOWN = 100_000, 1000
#: Characters of a representative's text.
_SNIPPET = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """How to group, checked."""

    k: int | None
    threshold: float | None
    min_size: int
    representatives: int
    field: str | None
    dry_run: bool


def asked_groups(
    k: object, threshold: object, min_size: object, representatives: object, field: object, dry_run: object
) -> Asked:
    """What `Client.cluster` was told; raises InvalidInput naming what is wrong."""
    if (k is None) == (threshold is None):
        told = "got both" if k is not None else "got neither"
        raise InvalidInput(
            f"k: expected k=, the number of groups, or threshold=, how much alike documents of a group are; {told}",
            field="k",
        )
    least = 1 if threshold is None else 2
    if field is not None and not isinstance(field, str):
        raise refuse("apply", "the name of a metadata field", field)
    if flag("dry_run", dry_run) and field is None:
        raise refuse("dry_run", "True with apply=, the field that would be written", dry_run)
    return Asked(
        None if k is None else integer("k", k, 1, _MOST_GROUPS),
        None if threshold is None else _cosine(threshold),
        least if min_size is None else integer("min_size", min_size, least),
        integer("representatives", representatives, 0, _MOST_SHOWN),
        field,
        bool(dry_run),
    )


def _cosine(threshold: object) -> float:
    found = number("threshold", threshold)
    if not 0 < found <= 1:
        raise refuse("threshold", "a cosine above 0 and up to 1, say 0.9", threshold)
    return found


class Clusterer:
    """Groups what collections hold."""

    def __init__(
        self,
        store: QdrantClient,
        collections: Collections,
        unmatched: Unmatched,
        unindexed: Unindexed,
        intake: Intake,
    ) -> None:
        self._store = store
        self._collections = collections
        self._unmatched = unmatched
        self._unindexed = unindexed
        self._intake = intake

    def cluster(
        self,
        collection: str,
        asked: Asked,
        where: Where | None,
        tenant: str | None,
        lens: str | None,
        progress: Progress | None,
    ) -> Clustering:
        """See `Client.cluster`."""
        tell = callback("progress", progress) or _nothing
        owner = tenant_name(tenant)
        spec = self._collections.get(identifier("collection", collection))
        require_tenant(spec, owner)
        if asked.field is not None:
            check_changes(spec, {asked.field: 0})
        if lens is not None and not isinstance(lens, str):
            raise refuse("lens", "the name of one of the collection's lenses", lens)
        members = self._members(spec, asked, where, owner, lens, tell)
        found = self._described(spec, members, _parted(members, asked, tell), asked)
        answer = Clustering(
            collection=spec.name,
            k=asked.k,
            threshold=asked.threshold,
            lens=lens,
            documents=len(members.names),
            vectorless=members.vectorless,
            clusters=tuple(found),
            ungrouped=len(members.names) - sum(each.size for each in found),
        )
        return answer if asked.field is None else self._apply(spec, members, answer, asked.field, asked, owner, tell)

    def _members(
        self,
        spec: CollectionSpec,
        asked: Asked,
        where: Where | None,
        owner: str | None,
        lens: str | None,
        tell: Progress,
    ) -> Members:
        view = find_lens(spec, lens)
        conditions = compile_filter(where, owner)
        with self._unindexed.watch(spec.name, conditions):
            members = read_members(
                self._store, spec, view.name if view else "", conditions, lambda done: tell("reading", done)
            )
        if not members.names:
            if conditions:
                self._unmatched.tell(spec.name, where, owner)
            whose = " that match" if conditions else ""
            raise InvalidInput(
                f"collection: expected documents{whose} to group, {spec.name!r} holds none; `gristmill collections show "
                f"{spec.name}` says what is in it",
                field="collection",
                collection=spec.name,
            )
        if asked.k is not None and asked.k > len(members.names):
            raise refuse("k", f"at most the {len(members.names)} documents that there are to group", asked.k)
        return members

    def _described(self, spec: CollectionSpec, members: Members, labels: Labels, asked: Asked) -> list[Cluster]:
        groups = [rows for rows in _rows_by_label(labels) if len(rows) >= asked.min_size]
        described = sorted((_describe(members, rows) for rows in groups), key=lambda each: (-each[0].size, each[1]))
        clusters = [cluster for cluster, _ in described]
        shown = [cluster.members[: asked.representatives] for cluster in clusters]
        texts = beginnings(self._store, spec, [(one.id, one.tenant) for some in shown for one in some], _SNIPPET)
        return [
            cluster.model_copy(
                update={"number": number, "representatives": tuple(_with_text(one, texts) for one in some)}
            )
            for number, (cluster, some) in enumerate(zip(clusters, shown, strict=True))
        ]

    def _apply(
        self,
        spec: CollectionSpec,
        members: Members,
        found: Clustering,
        field: str,
        asked: Asked,
        owner: str | None,
        tell: Progress,
    ) -> Clustering:
        """Write each document's group to its metadata, where it is not there yet; those in no group lose theirs."""
        number_of = {(m.tenant, m.id): cluster.number for cluster in found.clusters for m in cluster.members}
        changes = ((id, tenant, {field: number_of.get((tenant, id))}) for tenant, id in members.names)
        documents = rewritten(self._store, spec, changes)
        if asked.dry_run:
            return found.model_copy(update={"field": field, "changes": sum(1 for _ in documents)})
        return found.model_copy(update={"field": field, **self._hand_over(spec, documents, owner, tell)})

    def _hand_over(
        self, spec: CollectionSpec, documents: Iterator[Document | Rejection], owner: str | None, tell: Progress
    ) -> Mapping[str, Any]:
        first = next(documents, None)
        if first is None:  # a job only if there is something to write
            return {"changes": 0}
        items = chain([first], documents)
        job = self._intake.take(spec.name, items, tenant=owner, progress=lambda done: tell("writing", done))
        return {"changes": job.report().accepted + len(job.rejections), "job_id": job.id}


def _nothing(stage: str, done: int) -> None:
    """Nobody is told."""


def _parted(members: Members, asked: Asked, tell: Progress) -> Labels:
    if asked.k is not None:
        return nearest_centres(members.vectors, asked.k)
    return within_reach(members.vectors, asked.threshold or 1, lambda done: tell("comparing", done))


def _rows_by_label(labels: Labels) -> list[Labels]:
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    return np.split(order[starts[0] :], starts[1:] - starts[0]) if len(starts) else []


def _describe(members: Members, rows: Labels) -> tuple[Cluster, str]:
    """A group with its members, nearest to the centre first, and what it is ordered by among those of its size."""
    vectors = members.vectors[rows]
    centre = vectors.mean(axis=0)
    length = np.linalg.norm(centre)
    similarities = vectors @ (centre / length if length else centre)
    nearest = np.argsort(-similarities.round(6), kind="stable")
    named = [(members.names[rows[n]], float(similarities[n])) for n in nearest]
    cluster = Cluster(
        number=0,
        size=len(rows),
        cohesion=float(similarities.mean()),
        members=tuple(ClusterMember(id=id, tenant=tenant, similarity=like) for (tenant, id), like in named),
    )
    return cluster, named[0][0][1]


def _with_text(member: ClusterMember, texts: Mapping[tuple[str, str | None], str]) -> ClusterMember:
    return member.model_copy(update={"text": texts.get((member.id, member.tenant), "")})
