"""What stands above a chunk, title or headings, is in its vector and its words, and nowhere in the text that is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from gristmill import Chunking, Client, Document, InvalidInput, SearchHit
from gristmill.store.vectors import vector_of
from gristmill_worker.encoder import Encoder, open_encoder
from gristmill_worker.encoder.base import Vectors
from models import tiny_bert
from places import ways_to
from services import QdrantServer

WORDS = "The old mill by the river grinds grain, day after day. "
GUIDE = f"# Guide\n\nSmall.\n\n## Install\n\n### Linux\n\n{WORDS * 12}\n\n## Use\n\n{WORDS * 9}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model") / "tiny-bert")


@pytest.fixture(scope="module")
def encoder(model: Path) -> Encoder:
    return open_encoder(str(model), device="cpu", dtype="float32", budget_tokens=256)


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[Client]:
    with Client.embedded(model=str(model), device="cpu", dtype="float32", budget_tokens=256, threads=4) as client:
        yield client


@pytest.fixture
def collection(client: Client, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Create a collection with a policy, named after the test."""

    def create(**policy: object) -> str:
        client.create_collection(request.node.name, chunking={"size": 64, "overlap": 0, **policy})
        return str(request.node.name)

    return create


def chunks(client: Client, name: str) -> list[SearchHit]:
    return sorted(client.search(name, "mill", limit=1000), key=lambda hit: (hit.id, hit.chunk))


def vector(client: Client, name: str, hit: SearchHit) -> Vectors:
    (point,) = client._parts.store.retrieve(name, [hit.point_id], with_vectors=True)
    found: Vectors = np.asarray(vector_of(point, ""), dtype=np.float32)
    return found


def read_as(encoder: Encoder, text: str) -> Vectors:
    found: Vectors = encoder.encode(encoder.tokenize([encoder.info.templates.for_document(text)]))[0]
    return found


def test_a_title_is_in_every_vector_and_in_no_text(
    client: Client, encoder: Encoder, collection: Callable[..., str]
) -> None:
    name, text = collection(context="title"), WORDS * 12
    client.enqueue(name, [Document(id="a", text=text, metadata={"title": " The  mill's\nbook "})]).wait(60)
    hits = chunks(client, name)
    assert len(hits) > 3
    for hit in hits:
        assert (hit.context, hit.text) == ("The mill's book", text[slice(*hit.span)])
        expected = read_as(encoder, f"The mill's book\n\n{hit.text.strip()}")
        assert np.allclose(vector(client, name, hit), expected, atol=1e-5)
    assert client.get(name, "a").text == text  # type: ignore[union-attr]


def test_a_text_that_fits_has_its_title_too_and_one_without_has_none(
    client: Client, encoder: Encoder, collection: Callable[..., str]
) -> None:
    name = collection(context="title", title_key="标题")
    documents = [
        Document(id="a", text="谷物", metadata={"标题": "石磨"}),
        Document(id="b", text="谷物", metadata={"标题": ["no", 7, "  "]}),
        Document(id="c", text="谷物", metadata={"title": "another field"}),
        Document(id="d", text="# 石磨\n谷物", metadata={"标题": "石磨"}),
    ]
    assert client.enqueue(name, documents).wait(60).stored == 4
    found = {hit.id: hit for hit in chunks(client, name)}
    assert {each: hit.context for each, hit in found.items()} == {"a": "石磨", "b": "no", "c": "", "d": ""}
    assert np.allclose(vector(client, name, found["a"]), read_as(encoder, "石磨\n\n谷物"), atol=1e-5)
    assert np.allclose(vector(client, name, found["c"]), read_as(encoder, "谷物"), atol=1e-5)


def test_a_chunk_stands_under_the_headings_above_it_but_not_those_in_it(
    client: Client, encoder: Encoder, collection: Callable[..., str]
) -> None:
    name = collection(by="markdown", context="headings")
    client.enqueue(name, [Document(id="a", text=GUIDE)]).wait(60)
    hits = chunks(client, name)
    linux = [hit for hit in hits if "### Linux" in hit.text]
    assert [(hit.context, hit.text.startswith("## Install\n\n### Linux\n\nThe")) for hit in linux] == [("Guide", True)]
    after = hits[linux[0].chunk + 1]
    assert (after.context, after.text[:12]) == ("Guide › Install › Linux", "The old mill")
    assert hits[-1].context == "Guide › Use"
    assert np.allclose(
        vector(client, name, after), read_as(encoder, f"Guide › Install › Linux\n\n{after.text.strip()}"), atol=1e-5
    )
    assert all(hit.text == GUIDE[slice(*hit.span)] for hit in hits)


def test_the_title_of_a_markdown_text_is_its_first_heading(client: Client, collection: Callable[..., str]) -> None:
    name = collection(by="markdown", context="title")
    client.enqueue(name, [Document(id="a", text=GUIDE), Document(id="b", text=GUIDE, metadata={"title": "Mine"})]).wait(
        60
    )
    said = {each: [hit.context for hit in chunks(client, name) if hit.id == each] for each in "ab"}
    assert said["a"] == ["", *["Guide"] * (len(said["a"]) - 1)]
    assert said["b"] == ["Mine"] * len(said["a"])


def test_sections_that_were_read_as_documents_stand_under_the_headings_in_their_metadata(
    client: Client, collection: Callable[..., str]
) -> None:
    name = collection(context="headings")
    text = f"Guide › Install\n\n{WORDS * 12}"
    client.enqueue(name, [Document(id="a", text=text, metadata={"headings": ["Guide", "Install"]})]).wait(60)
    said = [hit.context for hit in chunks(client, name)]
    assert said == ["", *["Guide › Install"] * (len(said) - 1)]
    assert len(said) > 2


def test_another_title_is_encoded_anew_and_other_metadata_is_not(
    client: Client, encoder: Encoder, collection: Callable[..., str]
) -> None:
    name = collection(context="title")

    def put(**metadata: str) -> tuple[int, int, bool]:
        report = client.enqueue(name, [Document(id="a", text="grain", metadata=metadata)]).wait(60)
        return report.stored, report.skipped, report.tokens > 0

    assert put(title="Mill") == (1, 0, True)
    assert put(title="Mill") == (0, 1, False)
    assert put(title="Mill", lang="en") == (1, 0, False)
    assert put(title="Stone", lang="en") == (1, 0, True)
    (hit,) = chunks(client, name)
    assert (hit.context, hit.metadata) == ("Stone", {"title": "Stone", "lang": "en"})
    assert np.allclose(vector(client, name, hit), read_as(encoder, "Stone\n\ngrain"), atol=1e-5)
    client.update_metadata(name, ["a"], {"title": "River"}).wait(60)
    (hit,) = chunks(client, name)
    assert np.allclose(vector(client, name, hit), read_as(encoder, "River\n\ngrain"), atol=1e-5)
    assert client.audit(name).gaps == 0


def test_a_policy_that_changes_leaves_what_is_unchanged_as_it_is(
    client: Client, collection: Callable[..., str]
) -> None:
    name = collection()
    documents = [Document(id="a", text=WORDS * 12, metadata={"title": "Mill"}), Document(id="b", text="grain")]
    client.enqueue(name, documents).wait(60)
    client.create_collection(name, chunking={"context": "title"}, update=True)
    spec = client.collections.get(name)
    assert (spec.chunking.size, spec.chunking.context) == (64, "title")
    report = client.enqueue(name, documents).wait(60)
    assert (report.skipped, report.tokens) == (2, 0)
    assert client.audit(name, documents).gaps == 0


@pytest.mark.parametrize("by", ["text", "markdown"])
def test_no_chunk_is_cut_whatever_stands_above_it(
    client: Client, encoder: Encoder, collection: Callable[..., str], by: str
) -> None:
    name = collection(by=by, context="headings", size=4_000)
    huge = "谷物 and grain " * 300
    text = f"# {huge}\n\n## {'x' * 3_000}\n\n### Linux\n\n{WORDS * 40}"
    report = client.enqueue(name, [Document(id="a", text=text, metadata={"headings": [huge, "Guide"]})]).wait(60)
    assert (report.stored, report.truncated, report.dead) == (1, 0, 0)
    hits = chunks(client, name)
    assert hits[-1].context == "Linux"
    for hit in hits:
        (item,) = encoder.tokenize([encoder.info.templates.for_document(f"{hit.context}\n\n{hit.text.strip()}")])
        assert not item.truncated
        assert hit.text == text[slice(*hit.span)]


def test_words_of_a_title_are_found_by_their_keywords(qdrant_server: QdrantServer, collection_name: str) -> None:
    place = {"path": qdrant_server.url, **ways_to(qdrant_server)}
    with Client.embedded(**place, model="hash:16", threads=2) as client:
        client.create_collection(collection_name, chunking=Chunking(size=16, overlap=0, context="title"))
        titled = Document(id="a", text=WORDS * 4, metadata={"title": "XJ-2000A 的说明"})
        client.enqueue(collection_name, [titled, Document(id="b", text=WORDS * 4)]).wait(60)
        for words in ("XJ-2000A", "说明"):
            hits = client.search(collection_name, words, mode="keyword", limit=50)
            assert {hit.id for hit in hits} == {"a"}
            assert sorted(hit.chunk for hit in hits) == list(range(hits[0].chunks))
            assert not any("XJ" in hit.text for hit in hits)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"by": "pages"}, "by: expected 'text' or 'markdown', got 'pages'"),
        ({"context": "summary"}, "context: expected 'none', 'title' or 'headings', got 'summary'"),
        ({"title_key": ""}, "title_key: "),
    ],
)
def test_a_policy_that_is_none_is_refused_by_its_field(client: Client, policy: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.create_collection("refused", chunking=policy)
    assert str(refused.value).startswith(f"chunking: {words}")
