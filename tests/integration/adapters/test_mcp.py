"""Gristmill as an MCP server, asked by the official client: in this process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import mcp
import pytest
from mcp.client.stdio import StdioServerParameters

from gristmill import Chunking, Client, InvalidInput
from gristmill.adapters.mcp import Access, build_server
from gristmill.ingest.jobs import Job

T = TypeVar("T")
TEXTS = {
    "1": "退款审核通过后，一到三个工作日原路退回。",
    "2": "优惠券要在结算页勾选才会抵扣。",
    "3": "invoice pdf 4711",
}


@pytest.fixture
def filled(mill: Client, collection_name: str) -> Iterator[str]:
    mill.create_collection(collection_name, instructions=[{"name": "faq", "text": "Find the entry that solves it"}])
    mill.indexes.create(collection_name, {"lang": "keyword"})
    documents = [
        {"id": id, "text": text, "metadata": {"lang": "en" if id == "3" else "zh"}} for id, text in TEXTS.items()
    ]
    mill.enqueue(collection_name, documents).wait().raise_for_failures()
    yield collection_name
    mill.collections.delete(collection_name)


def asked(server: Any, use: Callable[[mcp.Client], Awaitable[T]]) -> T:
    async def connect() -> T:
        async with mcp.Client(server) as client:
            return await use(client)

    return asyncio.run(connect())


def call(server: Any, tool: str, **arguments: Any) -> Any:
    """What a tool answers, or the words of its error."""

    async def use(client: mcp.Client) -> Any:
        answer = await client.call_tool(tool, arguments)
        if answer.is_error:
            return answer.content[0].text  # type: ignore[union-attr]  # an error is text
        assert json.loads(answer.content[0].text) == answer.structured_content  # type: ignore[union-attr]
        return answer.structured_content

    return asked(server, use)


def tools_of(server: Any) -> dict[str, Any]:
    async def use(client: mcp.Client) -> dict[str, Any]:
        return {tool.name: tool for tool in (await client.list_tools()).tools}

    return asked(server, use)


def test_find_gives_documents_with_their_ids_scores_and_metadata(mill: Client, filled: str) -> None:
    server = build_server(mill, Access((filled,)))
    answer = call(server, "find", query=TEXTS["1"], limit=2)
    assert answer["collection"] == filled
    best = answer["hits"][0]
    assert best["id"] == "1"
    assert (best["text"], best["metadata"], best["score"]) == (TEXTS["1"], {"lang": "zh"}, pytest.approx(1.0))
    only = call(server, "find", query="4711", where={"lang": "zh"}, instruction="faq")
    assert {hit["id"] for hit in only["hits"]} == {"1", "2"}
    assert call(server, "find", query="x", where={"lang": "fr"}) == {
        "collection": filled, "hits": [], "note": "nothing was found: try other words, mode='hybrid', or no filter",
    }  # fmt: skip
    assert call(server, "find", query="4711", mode="keyword")["hits"][0]["id"] == "3"


def test_a_server_reads_and_stores_only_where_it_was_told_so(mill: Client, filled: str) -> None:
    reading = tools_of(build_server(mill, Access((filled,))))
    assert set(reading) == {"find", "list_collections"}
    assert all(tool.annotations.read_only_hint for tool in reading.values())
    assert all("tenant" not in tool.input_schema["properties"] for tool in reading.values())
    assert all(tool.input_schema["additionalProperties"] is False for tool in reading.values())
    assert "Unknown tool" in call(build_server(mill, Access((filled,))), "store", text="t")
    writing = build_server(mill, Access((filled,), writes=True))
    assert tools_of(writing)["store"].annotations.read_only_hint is False
    told = call(writing, "store", text="新的一条", metadata={"lang": "zh"})
    assert (told["collection"], told["state"]) == (filled, "stored")
    assert call(writing, "store", text="新的一条", metadata={"lang": "zh"}) == {**told, "state": "skipped"}
    assert call(writing, "find", query="新的一条", limit=1)["hits"][0]["id"] == told["id"]
    assert call(writing, "store", text="replaced", id="3")["id"] == "3"
    stored = mill.get(filled, "3")
    assert stored is not None
    assert stored.text == "replaced"


def test_the_collections_are_listed_with_what_it_takes_to_ask_them(mill: Client, filled: str) -> None:
    (listed,) = call(build_server(mill, Access((filled,))), "list_collections")["collections"]
    assert listed == {
        "name": filled, "documents": 3, "model": "hash:16", "lenses": [],
        "modes": ["dense", "keyword", "hybrid"],
        "instructions": {"faq": "Find the entry that solves it"}, "fields": {} if mill._parts.local else {"lang": "keyword"},
    }  # fmt: skip


def test_a_tenant_is_the_servers_and_no_client_leaves_it(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, tenants=True)
    mill.enqueue(collection_name, {"id": "1", "text": "plan of evil"}, tenant="evil").wait().raise_for_failures()
    acme = build_server(mill, Access((collection_name,), tenant="acme", writes=True))
    call(acme, "store", text="plan of acme", id="1")
    assert [hit["text"] for hit in call(acme, "find", query="plan of evil")["hits"]] == ["plan of acme"]
    assert [each["documents"] for each in call(acme, "list_collections")["collections"]] == [1]
    for way in ({"tenant": "evil"}, {"where": {"_gristmill.tenant": "evil"}}):
        refused = call(acme, "find", query="plan", **way)
        assert "tenant" in refused
        assert "plan of evil" not in refused
    nobody = build_server(mill, Access((collection_name,)))
    assert call(nobody, "list_collections") == {"collections": []}
    assert "start it with --tenant" in call(nobody, "find", query="plan")
    mill.collections.delete(collection_name)


def test_collections_that_were_not_given_are_not_there(mill: Client, filled: str, collection_name: str) -> None:
    other = f"{collection_name}-other"
    mill.create_collection(other)
    narrow = build_server(mill, Access((filled,)))
    assert call(narrow, "find", query="x", collection=filled)["collection"] == filled
    refused = call(narrow, "find", query="x", collection=other)
    assert f"collection: expected one of this server's ('{filled}'), got '{other}'" in refused
    both = build_server(mill, Access((filled, other)))
    assert "collection: expected one of this server's" in call(both, "find", query="x")
    assert {each["name"] for each in call(both, "list_collections")["collections"]} == {filled, other}
    mill.collections.delete(other)


def test_an_answer_is_no_longer_than_it_may_be_and_says_what_was_cut(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name, chunking=Chunking(size=200, overlap=0))
    documents = [{"id": str(n), "text": f"word{n} " * 150, "metadata": {"n": "x" * 40}} for n in range(12)]
    mill.enqueue(collection_name, documents).wait().raise_for_failures()
    server = build_server(mill, Access((collection_name,), most_characters=3000))
    answer = call(server, "find", query="word", limit=12)
    assert len(json.dumps(answer)) < 3000 + 1000
    assert [hit["cut"] for hit in answer["hits"]] == [*[False] * (len(answer["hits"]) - 1), True]
    left = 12 - len(answer["hits"])
    assert answer["note"].startswith(f"cut to keep the answer short; {left} more were left out")
    assert "limit: expected at most 20, got 21" in call(server, "find", query="word", limit=21)
    mill.collections.delete(collection_name)


def test_an_error_is_the_tools_and_says_what_to_do(mill: Client, filled: str) -> None:
    server = build_server(mill, Access(writes=True))
    for words, tool, arguments in (
        ("CollectionNotFound: .*'absent'", "find", {"query": "x", "collection": "absent"}),
        ("query: expected text, got an empty", "find", {"query": " ", "collection": filled}),
        ("limit", "find", {"query": "x", "limit": 0}),
        ("mode", "find", {"query": "x", "mode": "magic"}),
        ("top_k: find takes no such argument; expected one of query, collection", "find", {"query": "x", "top_k": 3}),
        ("instead of .* say 'gte'", "find", {"query": "x", "collection": filled, "where": {"n": {"$gte": 1}}}),
        ("DocumentsFailed: .*text: ", "store", {"text": " ", "collection": filled}),
        ("lens: expected None, since", "find", {"query": "x", "collection": filled, "lens": "legal"}),
    ):
        assert re.search(words, call(server, tool, **arguments)), (words, call(server, tool, **arguments))


def test_the_bounds_of_a_server_are_checked_when_it_is_made() -> None:
    for wrong in ({"collections": ("",)}, {"tenant": ""}, {"most_hits": 0}, {"most_characters": 5}):
        with pytest.raises(InvalidInput):
            Access(**wrong)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store in a folder, with three documents in it."""
    place = tmp_path / "store"
    with Client.embedded(place, model="hash:64", threads=2) as client:
        client.create_collection("faq")
        client.enqueue("faq", [{"id": id, "text": text} for id, text in TEXTS.items()]).wait().raise_for_failures()
    return place


def environment(place: Path, model: str = "hash:64") -> dict[str, str]:
    return {**os.environ, "GRISTMILL_EMBEDDED_PATH": str(place), "GRISTMILL_MODEL": model}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gristmill", "mcp", *arguments]


@pytest.mark.slow
def test_over_stdio_the_official_client_finds_and_nothing_else_is_on_stdout(folder: Path) -> None:
    program, *arguments = command("--collection", "faq", "--allow-writes")
    server = StdioServerParameters(command=program, args=arguments, env=environment(folder))

    async def use(client: mcp.Client) -> None:
        assert client.server_info is not None
        assert client.server_info.name == "gristmill"
        assert {tool.name for tool in (await client.list_tools()).tools} == {"find", "list_collections", "store"}
        found = (await client.call_tool("find", {"query": TEXTS["2"], "limit": 1})).structured_content
        assert found is not None
        assert [hit["text"] for hit in found["hits"]] == [TEXTS["2"]]
        wrong = await client.call_tool("find", {"query": "x", "collection": "other"})
        assert wrong.is_error

    asked(server, use)


@contextmanager
def serving(place: Path, *arguments: str) -> Iterator[str]:
    process = subprocess.Popen(
        command("--http", "--port", "0", *arguments), env=environment(place), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        told = next((line for line in process.stderr if "MCP over HTTP at" in line), "")
        yield re.findall(r"http://\S+/mcp", told)[0]
    finally:
        process.terminate()
        _, left = process.communicate(timeout=60)
    assert "Traceback" not in left


@pytest.mark.slow
def test_over_http_a_client_brings_a_key_where_there_are_keys(folder: Path, tmp_path: Path) -> None:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    keys = tmp_path / "keys"
    keys.write_text("# of the shop\nopen-sesame\n", "utf-8")
    with serving(folder, "--api-keys", str(keys)) as url:
        assert httpx2.post(url, json={}).status_code == 401
        assert httpx2.post(url, json={}, headers={"Authorization": "Bearer open"}).status_code == 401

        async def ask() -> Any:
            key = {"Authorization": "Bearer open-sesame"}
            async with (
                httpx2.AsyncClient(headers=key) as http,
                mcp.Client(streamable_http_client(url, http_client=http)) as client,
            ):
                return (await client.call_tool("find", {"query": TEXTS["3"], "limit": 1})).structured_content

        assert [hit["id"] for hit in asyncio.run(ask())["hits"]] == ["3"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--http", "--host", "0.0.0.0"], "host: expected a loopback address (127.0.0.1) without --api-keys FILE"),
        (["--http", "--api-keys", "absent"], "api_keys: 'absent' cannot be read"),
        (["--collection", ""], "collections: "),
    ],
)
def test_a_server_that_should_not_start_says_why(
    embedded: Path, run: Callable[..., tuple[int, str, str]], arguments: list[str], words: str
) -> None:
    code, out, err = run("mcp", *arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_document_whose_collection_goes_meanwhile_is_told_as_gone(
    mill: Client, filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = mill.enqueue(filled, {"id": "1", "text": TEXTS["1"]}).wait()
    monkeypatch.setattr(Job, "report", lambda job: report.model_copy(update={"skipped": 0, "stored": 0, "gone": 1}))
    told = call(build_server(mill, Access((filled,), writes=True)), "store", text="too late")
    assert told["state"] == "gone"
