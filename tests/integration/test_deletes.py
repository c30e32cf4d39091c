"""Deletes by id, by filter and of whole jobs take the same fenced path as writes, and reach every chunk."""

import pytest

from gristmill import Client, Document, InvalidInput

LONG = " ".join(f"word{n}" for n in range(60))


def documents(count: int, **metadata: object) -> list[Document]:
    return [Document(id=f"d{n}", text=f"text number {n}", metadata={"n": n, **metadata}) for n in range(count)]


def points(client: Client, name: str) -> int:
    return client.collections.count(name)


def test_documents_are_deleted_by_id_with_all_their_chunks(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [*documents(3), Document(id="long", text=LONG)]).wait(60)
    assert points(client, collection_name) > 4
    report = client.delete(collection_name, ["long", "d0", "never there"]).wait(60)
    assert (report.accepted, report.deleted, report.absent, report.superseded) == (3, 2, 1, 0)
    assert points(client, collection_name) == 2


def test_late_older_work_does_not_revive_a_deleted_document(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="a", text="one", version=1)]).wait(60)
    client.delete(collection_name, ["a"], version=5).wait(60)
    late = client.enqueue(collection_name, [Document(id="a", text="late", version=3)]).wait(60)
    assert (late.superseded, points(client, collection_name)) == (1, 0)
    newer = client.enqueue(collection_name, [Document(id="a", text="newer", version=6)]).wait(60)
    assert (newer.stored, points(client, collection_name)) == (1, 1)


def test_an_older_deletion_leaves_a_newer_document(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="a", text="nine", version=9)]).wait(60)
    report = client.delete(collection_name, ["a"], version=5).wait(60)
    assert (report.superseded, report.deleted, points(client, collection_name)) == (1, 0, 1)


def test_a_deletion_reaches_only_its_own_tenant(client: Client, collection_name: str) -> None:
    same_id = [Document(id="a", text="mine", tenant=tenant) for tenant in (None, "x", "y")]
    client.enqueue(collection_name, same_id).wait(60)
    client.delete(collection_name, ["a"], tenant="x").wait(60)
    client.delete(collection_name, ["a"]).wait(60)
    assert points(client, collection_name) == 1
    assert client.receipt(collection_name, "a", tenant="y").state == "stored"


def test_deletes_by_filter_are_not_confused_by_their_own_deleting(
    client: Client, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than two pages, and the workers delete what has been scrolled while the rest still is."""
    monkeypatch.setattr("gristmill.store.points.PAGE", 100)
    count = 250
    client.enqueue(collection_name, documents(count, doomed=True)).wait(60)
    client.enqueue(collection_name, [Document(id="kept", text="kept", metadata={"doomed": False})]).wait(60)
    report = client.delete_where(collection_name, {"doomed": True}).wait(60)
    assert (report.accepted, report.deleted) == (count, count)
    assert points(client, collection_name) == 1


def test_a_delete_by_filter_is_no_obstacle_to_newer_versions(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, [Document(id="a", text="one", version=1, metadata={"n": 1})]).wait(60)
    assert client.delete_where(collection_name, {"n": 1}).wait(60).deleted == 1
    newer = client.enqueue(collection_name, [Document(id="a", text="two", version=2)]).wait(60)
    assert (newer.stored, newer.superseded, points(client, collection_name)) == (1, 0, 1)


def test_a_filter_that_matches_nothing_deletes_nothing(client: Client, collection_name: str) -> None:
    client.enqueue(collection_name, documents(3)).wait(60)
    report = client.delete_where(collection_name, {"n": 99}).wait(60)
    assert (report.accepted, points(client, collection_name)) == (0, 3)
    with pytest.raises(InvalidInput, match="at least one condition"):
        client.delete_where(collection_name, {})


def test_deletes_by_filter_stay_within_the_tenant(client: Client, collection_name: str) -> None:
    same = [Document(id="a", text="t", metadata={"lang": "en"}, tenant=tenant) for tenant in ("x", "y")]
    client.enqueue(collection_name, same).wait(60)
    client.delete_where(collection_name, {"lang": "en"}, tenant="x").wait(60)
    assert client.receipt(collection_name, "a", tenant="y").state == "stored"
    assert points(client, collection_name) == 1


def test_a_job_is_deleted_except_for_what_others_wrote_since(client: Client, collection_name: str) -> None:
    first = client.enqueue(collection_name, [*documents(5), Document(id="long", text=LONG)])
    first.wait(60)
    client.enqueue(collection_name, [Document(id="d0", text="changed since")]).wait(60)
    report = client.delete_where(collection_name, job=first.id).wait(60)
    assert (report.accepted, report.deleted) == (5, 5)
    assert points(client, collection_name) == 1
    assert client.receipt(collection_name, "d0").state == "stored"
