"""A client that stays open: collections made anew, aliases that move, points of other tools."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from qdrant_client import models

import gristmill.search.descriptions
from gristmill import Client, Document, Instruction
from gristmill.ledger import HighWater
from gristmill_schemas import Parcel, PointSystem, point_id
from waiting import eventually


def documents(count: int, **fields: Any) -> list[Document]:
    return [Document(id=str(n), text=f"text number {n}", **fields) for n in range(count)]


def remake(client: Client, name: str, **options: Any) -> None:
    client.collections.delete(name)
    client.create_collection(name, **options)


def search(client: Client, name: str, **options: Any) -> set[str]:
    return {hit.id for hit in client.search(name, "text number 1", **options)}


def test_a_search_after_the_collection_was_made_anew_in_another_size_succeeds(
    client: Client, collection_name: str
) -> None:
    client.enqueue(collection_name, documents(3)).wait(60)
    assert len(search(client, collection_name)) == 3
    remake(client, collection_name, dimensions=8, force_dimensions=True)
    client.enqueue(collection_name, documents(2)).wait(60)
    assert search(client, collection_name) == {"0", "1"}


def test_a_search_after_the_collection_was_made_anew_in_another_space_of_the_same_size_succeeds(
    client: Client, collection_name: str
) -> None:
    space = client.collections.get(collection_name).space
    client.enqueue(collection_name, documents(3)).wait(60)
    assert len(search(client, collection_name)) == 3
    remake(client, collection_name, space=space.model_copy(update={"max_tokens": 7}))
    client.enqueue(collection_name, documents(2)).wait(60)
    assert search(client, collection_name) == {"0", "1"}


def test_a_search_after_the_collection_was_made_anew_with_another_text_key_shows_the_text(
    client: Client, collection_name: str
) -> None:
    client.enqueue(collection_name, documents(1)).wait(60)
    assert len(search(client, collection_name)) == 1
    remake(client, collection_name, text_key="body")
    client.enqueue(collection_name, documents(1, metadata={"n": 1})).wait(60)
    (hit,) = client.search(collection_name, "text")
    assert (hit.text, hit.metadata) == ("text number 0", {"n": 1})


def test_a_search_of_what_was_empty_when_it_was_first_asked_and_made_anew_since_succeeds(
    client: Client, collection_name: str
) -> None:
    assert search(client, collection_name) == set()
    remake(client, collection_name, dimensions=8, force_dimensions=True)
    assert search(client, collection_name) == set()


def test_a_search_follows_its_alias_to_a_collection_of_another_size(client: Client, collection_name: str) -> None:
    alias, other = f"{collection_name}-alias", f"{collection_name}-other"
    client.create_collection(other, dimensions=8, force_dimensions=True)
    client.enqueue(collection_name, documents(2)).wait(60)
    client.enqueue(other, [Document(id="other", text="text number 1")]).wait(60)
    for meaning, found in ((collection_name, {"0", "1"}), (other, {"other"}), (collection_name, {"0", "1"})):
        create = models.CreateAlias(collection_name=meaning, alias_name=alias)
        client._parts.store.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
        assert search(client, alias) == found


def test_a_description_is_not_remembered_for_ever(
    client: Client, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered instructions are part of it, and no hit shows that they have changed."""
    client.enqueue(collection_name, documents(1)).wait(60)
    assert len(search(client, collection_name)) == 1
    client._parts.collections.register(
        client.collections.get(collection_name), Instruction(name="faq", text="Find the answer")
    )
    monkeypatch.setattr(gristmill.search.descriptions, "KEPT_S", 0.0)
    (hit,) = client.search(collection_name, "text", instruction="faq")
    assert hit.instruction == "faq@1"


def test_grouped_search_keeps_tenants_with_equal_ids_apart(client: Client, collection_name: str) -> None:
    for tenant in (None, "x", "y"):
        client.enqueue(collection_name, documents(10, tenant=tenant)).wait(60)
    hits = client.search(collection_name, "text number 1", limit=50, group_by_document=True)
    assert len({(hit.tenant, hit.id) for hit in hits}) == len(hits) == 30


def test_points_of_another_tool_are_left_out_of_searches_and_mentioned_once(
    client: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.enqueue(collection_name, documents(3)).wait(60)
    theirs = [models.PointStruct(id=n, vector=[0.25] * 16, payload={"theirs": True}) for n in range(20)]
    client._parts.store.upsert(collection_name, theirs, wait=True)
    with caplog.at_level(logging.WARNING, logger="gristmill"):
        for _ in range(3):
            for grouped in (False, True):
                assert search(client, collection_name, limit=3, group_by_document=grouped) == {"0", "1", "2"}
    assert len([line for line in caplog.messages if "no search shows" in line]) == 1
    assert client.audit(collection_name).foreign == 20


def test_a_point_of_another_tool_under_one_of_our_ids_costs_only_its_document_and_stays(
    client: Client, collection_name: str
) -> None:
    squatter = models.PointStruct(id=point_id("1", None), vector=[0.25] * 16, payload={"theirs": True})
    client._parts.store.upsert(collection_name, [squatter], wait=True)
    report = client.enqueue(collection_name, documents(3)).wait(60)
    assert (report.stored, report.dead) == (2, 1)
    (letter,) = client.dead.list()
    assert letter.error == "ForeignPoint"
    assert "not Gristmill's" in letter.reason
    (kept,) = client._parts.store.retrieve(collection_name, [point_id("1", None)])
    assert kept.payload == {"theirs": True}


def test_a_parcel_of_a_newer_gristmill_waits_for_a_newer_worker_and_holds_nobody_up(
    client: Client, collection_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec, ledger = client.collections.get(collection_name), client._parts.ledger
    ticket = ledger.open_job(collection_name)
    newer = Parcel(
        id="newer",
        job_id=ticket.job_id,
        collection=collection_name,
        model_digest=spec.space.model_digest,
        documents=tuple(documents(2)),
        version=ticket.version,
        enqueued_at=ticket.opened_at,
    ).model_copy(update={"format": Parcel.FORMAT + 1})
    ledger.accept(newer, 0, HighWater(documents=100, bytes=1_000_000))
    ledger.close_job(ticket.job_id)
    client._parts.dispatcher.publish(spec.space.model_digest, 1)
    assert client.enqueue(collection_name, [Document(id="other", text="other")]).wait(60).stored == 1
    eventually(lambda: any("upgrade workers first" in line for line in caplog.messages))
    report = client.jobs.get(ticket.job_id).report()
    assert (report.pending, report.dead, client.dead.list()) == (2, 0, [])


def test_a_point_of_a_newer_gristmill_is_left_to_a_newer_worker(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, documents(2)).wait(60)
    store = client._parts.store
    store.set_payload(collection_name, {"format": PointSystem.FORMAT + 1}, [point_id("1", None)], key="_gristmill")
    job = client.enqueue(collection_name, [Document(id="1", text="changed")])
    assert search(client, collection_name) == {"0"}
    assert client.enqueue(collection_name, [Document(id="0", text="changed")]).wait(60).stored == 1
    assert (job.report().dead, job.report().pending) == (0, 1)
    assert client.dead.list() == []
