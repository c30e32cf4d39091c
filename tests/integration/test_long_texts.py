"""Nothing is cut silently: long texts are chunked, truncated and reported, or refused, as the collection asks."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gristmill import Chunking, Client, Document, LongTexts
from models import tiny_bert

LONG = " ".join(f"第{n}句话说的是磨坊。The mill grinds grain number {n}." for n in range(60))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder: Path = tiny_bert(tmp_path_factory.mktemp("model") / "tiny-bert")
    return Client.embedded(model=str(folder), device="cpu", dtype="float32", budget_tokens=256, threads=4)


@pytest.fixture
def collection(client: Client, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Create a collection with a policy, named after the test."""

    def create(policy: LongTexts, size: int = 64, overlap: int = 8) -> str:
        name = str(request.node.name)
        client.create_collection(name, chunking=Chunking(long_texts=policy, size=size, overlap=overlap))
        return name

    return create


def test_chunks_cover_the_text_and_carry_their_offsets(client: Client, collection: Callable[..., str]) -> None:
    name = collection(LongTexts.CHUNK)
    report = client.enqueue(name, [Document(id="a", text=LONG, metadata={"k": 1})]).wait(60)
    assert (report.stored, report.truncated) == (1, 0)
    hits = client.search(name, "mill", limit=1000)
    assert len(hits) == report.chunks > 3
    assert {hit.chunks for hit in hits} == {report.chunks}
    assert all(hit.text == LONG[slice(*hit.span)] and hit.metadata == {"k": 1} for hit in hits)
    covered = {at for hit in hits for at in range(*hit.span)}
    assert all(at in covered or LONG[at].isspace() for at in range(len(LONG)))


def test_a_shorter_new_version_leaves_no_old_chunk_behind(client: Client, collection: Callable[..., str]) -> None:
    name = collection(LongTexts.CHUNK)
    client.enqueue(name, [Document(id="a", text=LONG)]).wait(60)
    client.enqueue(name, [Document(id="a", text="短。")]).wait(60)
    assert client.collections.count(name) == 1
    assert client.search(name, "短", limit=10)[0].text == "短。"


def test_changed_metadata_reaches_every_chunk_without_encoding_again(
    client: Client, collection: Callable[..., str]
) -> None:
    name = collection(LongTexts.CHUNK)
    client.enqueue(name, [Document(id="a", text=LONG, metadata={"old": 1})]).wait(60)
    report = client.enqueue(name, [Document(id="a", text=LONG, metadata={"new": 2})]).wait(60)
    assert (report.stored, report.tokens) == (1, 0)
    hits = client.search(name, "mill", limit=1000)
    assert len(hits) > 3
    assert all(hit.metadata == {"new": 2} for hit in hits)
    assert all(hit.text == LONG[slice(*hit.span)] for hit in hits)


def test_truncation_is_counted(client: Client, collection: Callable[..., str]) -> None:
    name = collection(LongTexts.TRUNCATE)
    huge = LONG * 5
    report = client.enqueue(name, [Document(id="a", text=huge), Document(id="b", text="short")]).wait(60)
    assert (report.stored, report.truncated, report.chunks) == (2, 1, 2)


def test_a_refused_text_is_a_dead_letter_and_its_neighbour_is_stored(
    client: Client, collection: Callable[..., str]
) -> None:
    name = collection(LongTexts.REFUSE)
    huge = LONG * 5
    report = client.enqueue(name, [Document(id="a", text=huge), Document(id="b", text="short")]).wait(60)
    assert (report.stored, report.dead) == (1, 1)
    (letter,) = client.dead.list(collection=name)
    assert letter.document is not None
    assert letter.document.id == "a"
    assert "at most" in letter.reason
