"""Habits brought from other libraries are answered with our names; what is printed says something."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from gristmill import AsyncClient, AuditReport, Client, Document, InvalidInput


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client.embedded(model="hash:16") as mill:
        mill.create_collection("c")
        yield mill


PARAMETERS = [
    ("search", "top_k", "limit"),
    ("search", "k", "limit"),
    ("search", "n_results", "limit"),
    ("search", "query_filter", "where"),
    ("search", "filter", "where"),
    ("search", "collection_name", "collection"),
    ("search", "query_vector", "query"),
    ("search", "prompt", "instruction"),
    ("search", "limt", "limit"),
    ("search_many", "query_texts", "queries"),
    ("enqueue", "points", "documents"),
    ("enqueue", "timeout", "timeout_s"),
    ("get", "point_ids", "ids"),
    ("count", "count_filter", "where"),
    ("delete", "points_selector", "ids"),
    ("update_metadata", "payload", "changes"),
    ("create_collection", "collection_name", "name"),
    ("create_collection", "vector_size", "dimensions"),
    ("create_collection", "metric", "distance"),
    ("embed", "sentences", "texts"),
    ("embed", "input_type", "kind"),
    ("collections.get", "collection_name", "name"),
    ("jobs.get", "id", "job_id"),
    ("jobs.list", "n", "limit"),
    ("dead.list", "index", "collection"),
    ("models.get", "model_name", "name"),
]


@pytest.mark.parametrize(("call", "name", "meant"), PARAMETERS)
def test_a_parameter_of_another_library_is_answered_with_ours(client: Client, call: str, name: str, meant: str) -> None:
    place: Any = client
    for part in call.split("."):
        place = getattr(place, part)
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{name}'; did you mean `{meant}`\?"):
        place(**{name: "x"})


def test_a_parameter_that_is_like_nothing_is_answered_with_all_there_are(client: Client) -> None:
    with pytest.raises(TypeError, match=r"Client.count\(\) got .* 'zzz'; expected one of collection, tenant, where"):
        client.count("c", zzz=1)  # type: ignore[call-arg]  # that is the point


METHODS = [
    ("upsert", "enqueue"),
    ("add_documents", "enqueue"),
    ("query_points", "search"),
    ("similarity_search", "search"),
    ("retrieve", "get"),
    ("set_payload", "update_metadata"),
    ("encode", "embed"),
    ("get_collections", "collections.list"),
    ("delete_collection", "collections.delete"),
    ("recreate_collection", "create_collection"),
    ("serach", "search"),
    ("job", "jobs"),
]


@pytest.mark.parametrize(("name", "meant"), METHODS)
def test_a_method_of_another_library_is_answered_with_ours(client: Client, name: str, meant: str) -> None:
    for mill in (client, AsyncClient.__new__(AsyncClient)):
        vars(mill).update({each: None for each in ("collections", "jobs", "dead", "models") if mill is not client})
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; did you mean `{meant}"):
            getattr(mill, name)
    assert not hasattr(client, "zzz")


def test_the_asynchronous_client_answers_as_well() -> None:
    async def ask() -> None:
        mill = AsyncClient.embedded(model="hash:16")
        with pytest.raises(TypeError, match=r"AsyncClient.enqueue\(\) got .* 'points'; did you mean `documents`"):
            await mill.enqueue("c", points=[])  # type: ignore[call-arg]  # that is the point
        with pytest.raises(TypeError, match="'top_k'; did you mean `limit`"):
            await mill.search("c", "q", top_k=1)  # type: ignore[call-arg]  # that is the point
        assert repr(mill.jobs) == "<AsyncJobs: get, list>"
        await mill.close()
        with pytest.raises(InvalidInput, match="client: expected an open one, this one was closed"):
            await mill.jobs.list()

    assert inspect.iscoroutinefunction(AsyncClient.enqueue)
    asyncio.run(ask())


@pytest.mark.parametrize(
    ("field", "meant"), [("page_content", "text"), ("payload", "metadata"), ("_id", "id"), ("namespace", "tenant")]
)
def test_a_field_of_another_librarys_document_is_answered_with_ours(field: str, meant: str) -> None:
    with pytest.raises(
        InvalidInput, match=rf"{field}: expected no field of this name, got 'x'; did you mean `{meant}`"
    ):
        Document(**{"id": "1", "text": "t", field: "x"})


def test_a_document_without_its_text_says_what_it_has() -> None:
    with pytest.raises(InvalidInput, match="text: expected a value, got none; there are 'id', 'body'"):
        Document(id="1", body="t")  # type: ignore[call-arg]  # that is the point


def test_groups_say_what_can_be_done_with_them(client: Client) -> None:
    assert repr(client.collections) == "<CollectionGroup: count, delete, get, index_status, list, wait_for_index>"
    assert repr(client.dead) == "<DeadLetters: drop, get, list, replay, scroll, summary>"


def test_a_record_says_what_is_not_as_ever() -> None:
    report = AuditReport(collection="c", fingerprint="f", documents=3, missing=1)
    assert repr(report) == str(report) == "AuditReport(collection='c', fingerprint='f', documents=3, missing=1)"
    assert repr(Document(id="1", text="x" * 9000)).count("x") < 80
