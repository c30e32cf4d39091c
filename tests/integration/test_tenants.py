"""Collections that keep tenants apart: nothing goes in without a tenant, and nothing comes out."""

from collections.abc import Callable
from typing import Any

import pytest
from qdrant_client import QdrantClient

from gristmill import Client, CollectionConflict, Document, InvalidInput
from places import ways_to
from services import QdrantServer

Call = Callable[..., Any]


@pytest.fixture
def shared(client: Client, collection_name: str) -> str:
    """A collection of two tenants who have a document of the same id each."""
    name = f"{collection_name}-shared"
    client.create_collection(name, tenants=True)
    documents = [Document(id="1", text=f"the plans of {each}", tenant=each) for each in ("acme", "evil")]
    client.enqueue(name, documents).wait(60).raise_for_failures()
    return name


#: What reads or changes documents, told everything but whose they are.
CALLS: dict[str, Call] = {
    "search": lambda client, name, **of: client.search(name, "plans", **of),
    "search_many": lambda client, name, **of: client.search_many(name, ["plans"], **of),
    "similar": lambda client, name, **of: client.similar(name, "1", **of),
    "recommend": lambda client, name, **of: client.recommend(name, "1", **of),
    "get": lambda client, name, **of: client.get(name, "1", **of),
    "scroll": lambda client, name, **of: client.scroll(name, **of),
    "count": lambda client, name, **of: client.count(name, **of),
    "delete": lambda client, name, **of: client.delete(name, "2", **of),
    "delete_where": lambda client, name, **of: client.delete_where(name, {"absent": 1}, **of),
    "update_metadata": lambda client, name, **of: client.update_metadata(name, "1", {"k": 1}, **of),
    "receipt": lambda client, name, **of: client.receipt(name, "1", **of),
}


def test_whoever_reads_or_changes_documents_says_whose(client: Client, shared: str) -> None:
    for call in CALLS.values():
        with pytest.raises(InvalidInput, match=r"keeps tenants apart, got none; pass tenant=.*client\.tenant") as no:
            call(client, shared)
        assert (no.value.field, no.value.collection) == ("tenant", shared)
    assert len(client.jobs.list()) == 1  # nothing was begun
    for call in CALLS.values():
        call(client, shared, tenant="acme")


def test_documents_without_a_tenant_are_refused_one_by_one(client: Client, shared: str) -> None:
    job = client.enqueue(shared, [{"id": "2", "text": "whose"}, {"id": "3", "text": "mine", "tenant": "acme"}])
    assert (report := job.wait(60)).stored == 1
    assert report.rejected == 1
    (rejection,) = job.rejections
    assert rejection.id == "2"
    assert "tenant: expected one, since collection" in rejection.reason
    assert client.count(shared, tenant="acme") == 2


def test_an_audit_looks_for_no_document_without_a_tenant(client: Client, shared: str) -> None:
    report = client.audit(shared, [{"id": "2", "text": "whose"}], repair=True)
    assert (report.rejected, report.gaps, report.job_id) == (1, 0, None)


def test_that_a_collection_keeps_tenants_apart_is_said_at_creation_and_stays(client: Client, shared: str) -> None:
    assert client.create_collection(shared).tenants
    assert client.collections.get(shared).tenants
    with pytest.raises(CollectionConflict, match=r"tenants is 'True', asked for 'False'.*cannot be changed"):
        client.create_collection(shared, tenants=False, update=True)
    with pytest.raises(InvalidInput, match="tenants: expected True or False") as refused:
        client.create_collection("another", tenants="acme")  # type: ignore[arg-type]  # that is the question
    assert refused.value.field == "tenants"


@pytest.mark.server
def test_each_tenant_has_a_graph_of_its_own(qdrant_server: QdrantServer, collection_name: str) -> None:
    store: QdrantClient = qdrant_server.client()
    with Client.embedded(qdrant_server.url, **ways_to(qdrant_server), model="hash:16") as client:
        client.create_collection(collection_name, tenants=True, hnsw={"ef_construct": 64})
        assert client.create_collection(collection_name, tenants=True, hnsw={"ef_construct": 64}).tenants
        client.create_collection(f"{collection_name}-told", tenants=True, hnsw={"m": 8})
    (of, told) = (store.get_collection(name) for name in (collection_name, f"{collection_name}-told"))
    assert (of.config.hnsw_config.m, of.config.hnsw_config.payload_m) == (0, 16)
    assert (told.config.hnsw_config.m, told.config.hnsw_config.payload_m) == (8, 16)
    params = of.payload_schema["_gristmill.tenant"].params
    assert getattr(params, "is_tenant", None) is True
