"""Documents that are alike, as groups: by their stored vectors, in local mode and on the real server alike."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from gristmill import AsyncClient, Chunking, Client, Clustering, Document, InvalidInput, Lens
from gristmill_schemas import point_id
from places import PLACES, place_of

#: Tickets, and the directions of their vectors, degrees: what says the same lies close together.
TEXTS = {
    "p0": ("payment page crashes with a coupon", 0),
    "p1": ("coupon, and the payment page is gone", 10),
    "p2": ("crash when paying with a coupon", 20),
    "b0": ("battery empty after two hours", 90),
    "b1": ("the phone does not last the morning", 100),
    "x": ("please change my delivery address", 180),
}


def documents(tenant: str | None = None) -> list[Document]:
    return [Document(id=id, text=text, tenant=tenant, metadata={"kind": id[0]}) for id, (text, _) in TEXTS.items()]


def direction(degrees: float) -> list[float]:
    angle = np.deg2rad(degrees)
    return [float(np.cos(angle)), float(np.sin(angle)), *[0.0] * 14]


def turn(client: Client, collection: str, points: dict[str, float], vector: str = "") -> None:
    """Give points, by their ids, these directions: what a model would have made of their texts."""
    client._parts.store.update_vectors(
        collection,
        [models.PointVectors(id=id, vector={vector: direction(degrees)}) for id, degrees in points.items()],
    )


def fill(client: Client, collection: str, *tenants: str | None) -> None:
    for tenant in tenants or (None,):
        client.enqueue(collection, documents(tenant)).wait(60).raise_for_failures()
        turn(client, collection, {point_id(id, tenant): degrees for id, (_, degrees) in TEXTS.items()})


@pytest.fixture(scope="module", params=PLACES)
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model="hash:16", threads=2) as client:
        client.create_collection("tickets")
        fill(client, "tickets")
        yield client
        client.collections.delete("tickets")


def groups(found: Clustering) -> list[set[str]]:
    return [{member.id for member in each.members} for each in found.clusters]


def test_tickets_that_say_the_same_are_one_group_and_what_is_like_no_other_is_in_none(mill: Client) -> None:
    found = mill.cluster("tickets", threshold=0.9)
    assert groups(found) == [{"p0", "p1", "p2"}, {"b0", "b1"}]
    assert (found.documents, found.ungrouped, [each.size for each in found.clusters]) == (6, 1, [3, 2])
    assert all(0.9 <= each.cohesion <= 1.0001 for each in found.clusters)
    best = found.clusters[0].representatives[0]
    assert (best.id, best.text) == ("p1", TEXTS["p1"][0])
    assert best == found.clusters[0].members[0].model_copy(update={"text": best.text})


def test_so_many_groups_as_asked_for(mill: Client) -> None:
    found = mill.cluster("tickets", 3, representatives=1)
    assert groups(found) == [{"p0", "p1", "p2"}, {"b0", "b1"}, {"x"}]
    assert [each.number for each in found.clusters] == [0, 1, 2]
    assert mill.cluster("tickets", 3, representatives=1) == found, "the same documents, the same groups"
    assert groups(mill.cluster("tickets", 2, where={"kind": ["b", "x"]})) == [{"b0", "b1"}, {"x"}]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "k: expected k=, the number of groups, or threshold="),
    ({"k": 2, "threshold": 0.5}, "got both"),
    ({"k": 0}, "k: expected an integer from 1"),
    ({"k": 7}, "k: expected at most the 6 documents that there are to group, got 7"),
    ({"threshold": 0}, "threshold: expected a cosine above 0 and up to 1"),
    ({"threshold": 1.5}, "threshold: expected a cosine above 0 and up to 1, say 0.9, got 1.5"),
    ({"threshold": "much"}, "threshold: expected a number"),
    ({"k": 1, "where": {"kind": "none"}}, "collection: expected documents that match to group"),
    ({"k": 1, "lens": "legal"}, "lens: expected None, since collection 'tickets' has no lenses"),
    ({"k": 1, "apply": "text"}, "changes.text: this key is the document's text"),
    ({"k": 1, "apply": "_gristmill"}, "changes._gristmill: this key is"),
    ({"k": 1, "apply": 5}, "apply: expected the name of a metadata field"),
    ({"k": 1, "dry_run": True}, "dry_run: expected True with apply="),
    ({"threshold": 0.5, "min_size": 1}, "min_size: expected an integer from 2"),
]


@pytest.mark.parametrize(("how", "told"), WRONG)
def test_what_cannot_be_grouped_is_said_by_name(mill: Client, how: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        mill.cluster("tickets", **how)
    assert told in str(refused.value)


def test_a_document_counts_once_by_the_mean_of_its_chunks() -> None:
    with Client.embedded(model="hash:16", threads=2) as client:
        client.create_collection("c", chunking=Chunking(size=16, overlap=4))
        fill(client, "c")
        client.enqueue("c", Document(id="long", text=" ".join(f"w{n}" for n in range(24)))).wait(60)
        turn(client, "c", {point_id("long", None, 0): 60, point_id("long", None, 1): -40})
        found = client.cluster("c", threshold=0.9)
        assert (found.documents, groups(found)[0]) == (7, {"p0", "p1", "p2", "long"})
        client.create_collection("empty")
        with pytest.raises(InvalidInput, match="collection: expected documents to group, 'empty' holds none"):
            client.cluster("empty", 1)


def test_a_lens_has_groups_of_its_own_and_documents_without_its_vector_are_counted() -> None:
    with Client.embedded(model="hash:16", threads=2) as client:
        client.create_collection("c", lenses={"legal": Lens(name="legal", document="The legal risk")})
        fill(client, "c")
        turn(client, "c", {point_id(id, None): degrees for degrees, id in enumerate(TEXTS)}, "legal")
        assert groups(client.cluster("c", threshold=0.9, lens="legal")) == [set(TEXTS)]
        assert len(groups(client.cluster("c", threshold=0.9))) == 2
        client._parts.store.delete_vectors("c", ["legal"], [point_id("x", None)])
        found = client.cluster("c", 1, lens="legal")
        assert (found.documents, found.vectorless, found.lens) == (5, 1, "legal")


def test_groups_are_written_once_and_taken_from_those_that_leave(mill: Client) -> None:
    preview = mill.cluster("tickets", threshold=0.9, apply="group", dry_run=True)
    assert (preview.changes, preview.job_id) == (5, None)
    assert mill.count("tickets", {"group": 0}) == 0, "nothing was written"
    stages: set[str] = set()
    found = mill.cluster("tickets", threshold=0.9, apply="group", progress=lambda stage, done: stages.add(stage))
    assert found.changes == 5
    assert found.job_id is not None
    assert mill.jobs.get(found.job_id).wait(60).stored == 5
    assert stages == {"reading", "comparing", "writing"}
    assert [mill.count("tickets", {"group": n}) for n in (0, 1, None)] == [3, 2, 1]
    again = mill.cluster("tickets", threshold=0.9, apply="group")
    assert (again.changes, again.job_id) == (0, None)
    fewer = mill.cluster("tickets", threshold=0.9, min_size=3, apply="group")
    assert (fewer.changes, fewer.ungrouped) == (2, 3)
    mill.jobs.get(fewer.job_id or "").wait(60)
    assert [mill.count("tickets", {"group": n}) for n in (0, 1, None)] == [3, 0, 3]
    held = mill.get("tickets", "p0")
    assert held is not None
    assert held.metadata == {"kind": "p", "group": 0}


def test_a_tenant_groups_and_marks_its_own_documents_alone() -> None:
    async def look() -> None:
        async with AsyncClient.embedded(model="hash:16", threads=2) as client:
            await client.create_collection("c", tenants=True)
            fill(client._wrapped, "c", "acme", "evil")
            mine = client.tenant("acme")
            found = await mine.cluster("c", threshold=0.9, apply="group")
            assert {member.tenant for each in found.clusters for member in each.members} == {"acme"}
            assert (await (await mine.jobs.get(found.job_id or "")).wait(60)).stored == 5
            assert await client.tenant("evil").count("c", {"group": [0, 1]}) == 0
            with pytest.raises(InvalidInput, match="tenant: expected one"):
                await client.cluster("c", 1)

    asyncio.run(look())


def test_documents_of_several_tenants_are_told_apart_where_they_live_together() -> None:
    with Client.embedded(model="hash:16", threads=2) as client:
        client.create_collection("c")
        fill(client, "c", "acme", "evil")
        found = client.cluster("c", threshold=0.9, apply="group")
        assert [each.size for each in found.clusters] == [6, 4, 2]
        assert client.jobs.get(found.job_id or "").wait(60).stored == 12
        assert client.count("c", {"group": 2}, tenant="evil") == 1


Run = Callable[..., tuple[int, str, str]]


@pytest.mark.usefixtures("embedded")
def test_groups_are_shown_written_and_given_as_json(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    with Client() as client:
        client.create_collection("c", dimensions=16, force_dimensions=True)
        fill(client, "c")
    for alone in (("--apply", "--dry-run"), ("--dry-run", "--apply")):
        code, out, _ = run("cluster", "c", "--threshold", "0.9", *alone)
        assert (code, "group would change in 5 documents" in out) == (0, True)
    code, out, _ = run("cluster", "c", "--threshold", "0.9", "--apply", "group", "--dry-run")
    assert code == 0
    assert "group would change in 5 documents" in out
    assert "6 documents in 2 groups, 1 in none" in out
    assert "1.000 p1 coupon, and the payment page is gone" in out
    code, out, _ = run("cluster", "c", "-t", "0.9", "--apply", "group", "--json")
    told = json.loads(out)
    assert (code, told["changes"], told["job"]["stored"]) == (0, 5, 5)
    assert [each["size"] for each in told["clusters"]] == [3, 2]
    code, out, err = run("cluster", "c", "-k", "2", "-n", "1")
    assert (code, "… and 1 group more" in err) == (0, True)
    code, _, err = run("cluster", "c", "-t", "2")
    assert (code, "threshold: expected a cosine above 0 and up to 1" in err) == (2, True)
    code, _, err = run("cluster", "c", "-k", "2", "-w", "kidn=p")
    assert (code, "expected documents that match" in err) == (2, True)
    assert "did you mean 'kind'?" in caplog.text, "which a terminal shows as a note"
