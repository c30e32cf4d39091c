"""`gristmill similar`, `facets`, and what `gristmill search` can be told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client, Document
from places import ways_to
from services import QdrantServer

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def place(embedded: Path) -> None:
    """A collection "made" of ten documents."""
    with Client() as client:
        client.create_collection("made")
        documents = [Document(id=f"d{n}", text=f"text {n}", metadata={"n": n, "lang": "zh"}) for n in range(10)]
        client.enqueue("made", documents).wait(60).raise_for_failures()


@pytest.mark.usefixtures("place")
def test_a_search_at_a_prompt_is_varied_boosted_and_explained(run: Run) -> None:
    code, out, _ = run("search", "made", "text", "--explain", "--exact", "--offset", "1", "--around", "1", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["explanation"]["mode"] == "dense"
    assert told["explanation"]["took_ms"]["total"] > 0
    assert told["hits"][0]["passage"].startswith("text")
    code, out, _ = run("search", "made", "text", "--boost", '{"field": "n"}', "-n", "2", "--json")
    assert [hit["id"] for hit in json.loads(out)["hits"]] == ["d9", "d8"]
    code, out, err = run("search", "made", "text", "--diversity", "0.5", "--explain")
    assert (code, out.count("text")) == (0, 5)
    assert '"diversity": 0.5' in err
    for wrong, told_of in (
        (["--boost", "soon"], "boost[0]: expected JSON"),
        (["--diversity", "2"], "diversity: expected"),
    ):
        code, _, err = run("search", "made", "text", *wrong)
        assert code == 2
        assert told_of in err


@pytest.mark.usefixtures("place")
def test_documents_like_others_and_values_of_a_field_are_shown(run: Run) -> None:
    code, out, _ = run("similar", "made", "d1", "d2", "--unlike", "d3", "-n", "9", "--json")
    found = {hit["id"] for hit in json.loads(out)["hits"]}
    assert (code, len(found), found & {"d1", "d2", "d3"}) == (0, 7, set())
    code, out, _ = run("similar", "made", "d1", "-w", "n>=5")
    assert (code, out.count("text")) == (0, 5)
    code, _, err = run("similar", "made", "nobody")
    assert (code, "'nobody'" in err) == (2, True)
    code, out, _ = run("facets", "made", "lang")
    assert (code, out.split()) == (0, ["zh", "10", "documents"])
    code, out, _ = run("facets", "made", "n", "-w", "n<3", "-n", "2", "--json")
    assert json.loads(out)["facets"] == [{"value": 0, "count": 1}, {"value": 1, "count": 1}]


@pytest.mark.usefixtures("place")
def test_an_export_is_read_back_by_an_ingest(run: Run, tmp_path: Path) -> None:
    code, out, err = run("export", "made")
    records = [json.loads(line) for line in out.splitlines()]
    assert (code, sorted(each["id"] for each in records)) == (0, sorted(f"d{n}" for n in range(10)))
    assert "10 documents" in err
    assert records[0].keys() == {"id", "text", "metadata", "version"}
    (tmp_path / "made.jsonl").write_text(out, encoding="utf-8")
    assert run("ingest", str(tmp_path / "made.jsonl"), "-c", "copy")[0] == 0
    assert sorted(run("export", "copy")[1].splitlines()) == sorted(out.splitlines())
    code, out, _ = run("export", "made", "-w", "n>=5", "-n", "3")
    assert (code, len(out.splitlines())) == (0, 3)
    assert all(json.loads(line)["metadata"]["n"] >= 5 for line in out.splitlines())
    assert run("export", "nowhere")[0] == 1


@pytest.mark.usefixtures("place")
def test_ctrl_c_ends_an_export_behind_a_whole_page_and_says_how_to_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gristmill.cli.browsing.commands._PAGE", 4)
    scroll = Client.scroll

    def interrupted(self: Client, *args: Any, cursor: str | None = None, **how: Any) -> Any:
        if cursor is not None:
            raise KeyboardInterrupt
        return scroll(self, *args, cursor=cursor, **how)

    with monkeypatch.context() as patched:
        patched.setattr(Client, "scroll", interrupted)
        code, first, err = run("export", "made")
    assert (code, len(first.splitlines())) == (130, 4)
    said = re.search(r"4 documents written: the same command with --cursor (\S+) goes on", " ".join(err.split()))
    assert said is not None
    rest = run("export", "made", "--cursor", said[1])[1]
    assert {json.loads(line)["id"] for line in (first + rest).splitlines()} == {f"d{n}" for n in range(10)}
    assert len((first + rest).splitlines()) == 10


@pytest.mark.usefixtures("place")
def test_pages_of_documents_are_shown(run: Run) -> None:
    code, out, err = run("scroll", "made", "-n", "4")
    assert (code, out.count("version"), out.count("text")) == (0, 4, 4)
    cursor = err.split("--cursor")[1].split()[0]
    code, out, _ = run("scroll", "made", "-n", "9", "--cursor", cursor, "--json")
    page = json.loads(out)
    assert (code, len(page["documents"]), page["cursor"]) == (0, 6, None)
    assert run("scroll", "made", "-w", "n=99")[1].strip() == "no documents"


def test_a_lens_is_named_beside_its_hits(run: Run, embedded: Path) -> None:
    with Client() as client:
        client.create_collection("viewed", lenses={"legal": "Given a contract, find what it obliges somebody to"})
        client.enqueue("viewed", [Document(id="a", text="rent"), Document(id="b", text="keys")]).wait(60)
    for command in (["search", "viewed", "rent"], ["similar", "viewed", "a"]):
        assert "lens" not in run(*command)[1]
        assert "lens legal" in run(*command, "--lens", "legal")[1]


def test_a_field_without_an_index_is_told_of_with_the_command_that_makes_one(
    run: Run, qdrant_server: QdrantServer, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = ways_to(qdrant_server)["qdrant_grpc_port"]
    for name, value in {"EMBEDDED_PATH": qdrant_server.url, "QDRANT_GRPC_PORT": port, "MODEL": "hash:16"}.items():
        monkeypatch.setenv(f"GRISTMILL_{name}", str(value))
    with Client() as client:
        client.create_collection(collection_name)
    code, _, err = run("facets", collection_name, "lang")
    assert code == 2
    assert f"gristmill collections index create {collection_name} lang=keyword" in " ".join(err.split())
