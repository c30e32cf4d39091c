"""Instructions by name and version: registered once and for ever, kept with the collection, seen on every hit."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gristmill import AsyncClient, Client, CollectionConflict, CollectionNotFound, Document, Instruction, InvalidInput
from gristmill.store import instructions
from gristmill_schemas.limits import MAX_INSTRUCTION_CHARS
from gristmill_worker.encoder.open import open_encoder
from models import tiny_qwen3
from places import PLACES, place_of, ways_to
from services import QdrantServer

FREE = "Find what was said about the text"


@pytest.fixture(scope="module")
def local() -> Iterator[Client]:
    """A client for what is the same everywhere, with an empty collection `c`."""
    with Client.embedded(model="hash:16") as mill:
        mill.create_collection("c")
        yield mill


@pytest.fixture
def name(client: Client, collection_name: str) -> str:
    client.enqueue(collection_name, Document(id="a", text="text number 1")).wait(60).raise_for_failures()
    return collection_name


def test_registering_makes_a_new_version_and_changes_none(client: Client, name: str) -> None:
    first = client.instructions.register(name, "faq", "Find the answer")
    second = client.instructions.register(name, "faq", "Find the FAQ entry")
    other = client.instructions.register(name, "web", "Find pages")
    assert [each.label for each in (first, second, other)] == ["faq@1", "faq@2", "web@1"]
    assert client.instructions.list(name) == [first, second, other]
    assert client.instructions.show(name, "faq") == client.instructions.get(name, "faq@2") == second
    assert client.instructions.show(name, "faq@1") == first
    assert client.collections.get(name).instructions == (first, second, other)


def test_a_text_that_is_the_newest_already_is_not_registered_again(client: Client, name: str) -> None:
    once = client.instructions.register(name, "faq", "Find the answer")
    assert client.instructions.register(name, "faq", "Find the answer") == once
    client.instructions.register(name, "faq", "Find the entry")
    assert client.instructions.register(name, "faq", "Find the answer").label == "faq@3"


def test_a_hit_says_what_was_applied(client: Client, name: str) -> None:
    client.instructions.register(name, "faq", "Find the answer")
    client.instructions.register(name, "faq", "Find the entry")
    template = client.collections.get(name).space.templates.query_instructed
    for asked, label, text in (
        ("faq", "faq@2", "Find the entry"),
        (" faq ", "faq@2", "Find the entry"),
        ("faq@1", "faq@1", "Find the answer"),
        ("preset:web", "preset:web@1", "Given a web search query, retrieve relevant passages that answer the query"),
        ("preset:faq:zh", "preset:faq:zh@1", "给定客户的提问或投诉，找出能够解决该问题的常见问题条目"),
        (FREE, FREE, FREE),
    ):
        (hit,) = client.search(name, "text", instruction=asked)
        assert (hit.instruction, hit.instruction_text, hit.template) == (label, text, template)
    (plain,) = client.search(name, "text")
    assert (plain.instruction, plain.instruction_text, plain.template) == (None, None, "{text}")


def test_what_is_searched_with_is_the_registered_text_in_the_models_template(client: Client, name: str) -> None:
    client.instructions.register(name, "faq", "Find the answer")
    templates = client.collections.get(name).space.templates
    by_hand = templates.query_instructed.replace("{instruction}", "Find the answer").replace("{text}", "question")
    client.enqueue(name, Document(id="b", text=by_hand)).wait(60).raise_for_failures()
    # The stand-in encoder finds exact texts only.
    for asked in ("faq", "faq@1", "Find the answer"):
        best = client.search(name, "question", instruction=asked)[0]
        assert (best.id, round(best.score, 4)) == ("b", 1.0)
    assert client.embed("question", collection=name, instruction="faq").tolist() == pytest.approx(
        client.embed(by_hand, collection=name).tolist()
    )


def test_a_search_sees_what_this_client_has_registered_at_once(client: Client, name: str) -> None:
    for number in range(1, 4):
        client.instructions.register(name, "faq", f"Find the answer {number}")
        assert client.search(name, "text", instruction="faq")[0].instruction == f"faq@{number}"
    client.instructions.retire(name, "faq@3")
    assert client.search(name, "text", instruction="faq")[0].instruction == "faq@2"


def test_a_retired_version_is_not_what_the_name_means_and_can_still_be_asked_for(
    client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.instructions.register(name, "faq", "Find the answer")
    client.instructions.register(name, "faq", "Find the entry")
    (retired,) = client.instructions.retire(name, "faq@2")
    assert retired.retired_at is not None
    assert client.instructions.show(name, "faq").label == "faq@1"
    for _ in range(2):
        (hit,) = client.search(name, "text", instruction="faq@2")
        assert (hit.instruction, hit.instruction_text) == ("faq@2", "Find the entry")
    assert [each for each in caplog.messages if "faq@2 is retired" in each] == [
        f"collection {name!r}: instruction faq@2 is retired"
    ]
    assert [each.label for each in client.instructions.retire(name, "faq")] == ["faq@1", "faq@2"]
    assert client.instructions.show(name, "faq@2") == retired, "the time of the first retirement stays"
    with pytest.raises(InvalidInput, match=r"faq@1 \(retired\), faq@2 \(retired\); all versions of faq are retired"):
        client.search(name, "text", instruction="faq")
    assert client.instructions.register(name, "faq", "Find the answer").label == "faq@3", "a number is given once"


def test_what_names_nothing_is_answered_with_what_there_is(client: Client, name: str) -> None:
    client.instructions.register(name, "faq", "Find the answer")
    with pytest.raises(InvalidInput, match=r"instruction: expected a registered name.*got 'faq@7'; .* has faq@1$"):
        client.search(name, "text", instruction="faq@7")
    with pytest.raises(
        InvalidInput, match=r"name: expected a registered name, or name@version, got 'web'; .* has faq@1$"
    ):
        client.instructions.show(name, "web")
    with pytest.raises(InvalidInput, match=r"name: .*got 'faq@2'; .* has faq@1$") as refused:
        client.instructions.retire(name, "faq@2")
    assert (refused.value.field, refused.value.collection) == ("name", name)
    with pytest.raises(
        InvalidInput, match=r"instruction: expected a preset that ships .preset:web, preset:web:zh, .*'preset:x'"
    ):
        client.search(name, "text", instruction="preset:x")
    with pytest.raises(CollectionNotFound):
        client.instructions.list(f"{name}-absent")


@pytest.mark.parametrize(
    ("instruction", "text", "told"),
    [
        ("FAQ", "Find", "name: expected 1 to 64 of a-z"),
        ("faq@1", "Find", "name: expected 1 to 64 of a-z"),
        ("preset:faq", "Find", "name: expected 1 to 64 of a-z"),
        ("", "Find", "name: expected 1 to 64"),
        ("f" * 65, "Find", "name: expected 1 to 64"),
        ("faq\n", "Find", "name: expected 1 to 64"),
        ("常见问题", "Find", "name: expected 1 to 64"),
        ("faq", "", "text: expected"),
        ("faq", " \n", "text: expected a sentence"),
        ("faq", "a\0", "text: .*NUL"),
        ("faq", "x" * (MAX_INSTRUCTION_CHARS + 1), "text: expected at most 2000 characters"),
    ],
)
def test_a_name_or_a_text_that_cannot_be_registered_is_refused(
    local: Client, instruction: str, text: str, told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        local.instructions.register("c", instruction, text)
    assert local.instructions.list("c") == []


def test_an_instruction_is_as_long_as_may_be_and_no_longer(local: Client) -> None:
    longest = f"查{'x' * (MAX_INSTRUCTION_CHARS - 1)}"
    assert local.search("c", "text", instruction=longest) == []
    with pytest.raises(InvalidInput, match="instruction: expected at most 2000 characters, got 2001"):
        local.search("c", "text", instruction=longest + "x")


def test_a_collection_has_room_for_so_many(
    client: Client, collection_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "MAX_INSTRUCTIONS", 2)
    for text in ("one text", "another text"):
        client.instructions.register(collection_name, "faq", text)
    with pytest.raises(InvalidInput, match="has 2 registered instructions, all versions counted, of at most 2"):
        client.instructions.register(collection_name, "web", "Find pages")
    assert client.instructions.register(collection_name, "faq", "another text").label == "faq@2"


def test_an_instruction_that_is_created_with_another_text_becomes_a_new_version(
    client: Client, collection_name: str
) -> None:
    def create(text: str, **how: Any) -> list[str]:
        made = client.create_collection(collection_name, instructions=[{"name": "faq", "text": text}], **how)
        assert made == client.collections.get(collection_name)
        return [f"{each.label} {each.text}" for each in made.instructions]

    assert create("Find it", update=True) == ["faq@1 Find it"]
    assert create("Find it") == ["faq@1 Find it"]
    with pytest.raises(
        CollectionConflict, match=r"instructions is \[faq@1: 'Find it'\], asked for \[faq: 'Find more'\]"
    ):
        create("Find more")
    assert create("Find more", update=True) == ["faq@1 Find it", "faq@2 Find more"]
    exact = Instruction(name="faq", version=1, text="Find it")
    assert len(client.create_collection(collection_name, instructions=exact).instructions) == 2
    with pytest.raises(
        CollectionConflict, match=r"faq@1 .* is 'Find it', asked for 'Find all'; a version never changes"
    ):
        client.create_collection(
            collection_name, instructions=Instruction(name="faq", version=1, text="Find all"), update=True
        )


def test_a_change_of_chunking_loses_no_instruction(client: Client, collection_name: str) -> None:
    client.instructions.register(collection_name, "faq", "Find the answer")
    changed = client.create_collection(collection_name, chunking={"size": 32, "overlap": 0}, update=True)
    assert [each.label for each in changed.instructions] == ["faq@1"]


def test_instructions_of_one_collection_can_be_given_to_another(client: Client, collection_name: str) -> None:
    client.instructions.register(collection_name, "faq", "Find the answer")
    client.instructions.register(collection_name, "faq", "Find the entry")
    client.instructions.retire(collection_name, "faq@2")
    there = client.instructions.list(collection_name)
    client.create_collection(f"{collection_name}-copy", instructions=there)
    assert client.instructions.list(f"{collection_name}-copy") == there
    client.collections.delete(f"{collection_name}-copy")


def test_an_alias_has_the_instructions_of_its_collection(client: Client, name: str) -> None:
    from qdrant_client import models

    alias = models.CreateAlias(collection_name=name, alias_name=f"{name}-alias")
    client._parts.store.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)])
    client.search(f"{name}-alias", "text")
    client.search(name, "text")
    client.instructions.register(f"{name}-alias", "faq", "Find the answer")
    for each in (name, f"{name}-alias"):
        client.instructions.register(name, "faq", f"Find the answer in {each}")
        assert client.search(name, "text", instruction="faq")[0].instruction_text == f"Find the answer in {each}"
        assert (
            client.search(f"{name}-alias", "text", instruction="faq")[0].instruction_text
            == f"Find the answer in {each}"
        )


@pytest.fixture(params=PLACES)
def several(request: pytest.FixtureRequest, collection_name: str) -> Iterator[list[Client]]:
    """Clients that know nothing of one another, of one collection; in local mode they are one."""
    with Client.embedded(**place_of(request), model="hash:16", threads=2) as one:
        one.create_collection(collection_name)
        if request.param == "local":
            yield [one] * 3
            return
        more = [Client.embedded(**place_of(request), model="hash:16", threads=2) for _ in range(2)]
        yield [one, *more]
        for each in more:
            each.close()


def test_whoever_registers_at_the_same_time_gets_a_version_of_their_own(
    several: list[Client], collection_name: str
) -> None:
    texts = [f"Find number {number}" for number in range(12)]
    with ThreadPoolExecutor(len(texts)) as threads:
        waiting = [
            threads.submit(several[number % 3].instructions.register, collection_name, "faq", text)
            for number, text in enumerate(texts)
        ]
        made = [each.result(120) for each in waiting]
    assert sorted(made, key=lambda each: each.version) == several[0].instructions.list(collection_name)
    assert sorted(each.text for each in made) == sorted(texts)
    assert len({each.version for each in made}) == len(texts)


def test_a_version_that_another_client_has_registered_is_found_at_once(
    several: list[Client], collection_name: str
) -> None:
    assert several[0].search(collection_name, "question") == []
    several[1].instructions.register(collection_name, "faq", "Find the answer")
    assert several[0].search(collection_name, "question", instruction="faq@1") == []


def test_a_version_that_somebody_was_killed_at_is_passed_over(client: Client, collection_name: str) -> None:
    left = {"gristmill_instruction:faq@1?0123abcd": {"since": 1.0}}
    client._parts.store.update_collection(collection_name, metadata=left)
    assert client.instructions.list(collection_name) == []
    assert client.instructions.register(collection_name, "faq", "Find the answer").label == "faq@2"


def test_what_is_registered_and_cannot_be_read_costs_the_collection_nothing(
    client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = {
        "gristmill_instruction:faq@1": {"text": ""},
        "gristmill_instruction:faq@2": "Find it",
        "gristmill_instruction:web@1": {"text": "Find pages", "of_a_newer": "Gristmill"},
    }
    client._parts.store.update_collection(name, metadata=broken)
    assert [each.label for each in client.instructions.list(name)] == ["web@1"]
    assert "instruction faq@1 is passed over" in caplog.text
    assert client.instructions.register(name, "faq", "Find the answer").label == "faq@3"


def test_a_model_that_follows_none_is_told_of_once(client: Client, name: str, caplog: pytest.LogCaptureFixture) -> None:
    client.search(name, "text")
    assert caplog.messages == []
    for _ in range(2):
        client.search(name, "text", instruction=FREE)
        client.embed("text", collection=name, instruction=FREE)
    (told,) = caplog.messages
    assert "hash:16 was not trained to follow instructions" in told
    assert name in told
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("model", ["tiny", pytest.param("demo", marks=pytest.mark.model)])
def test_what_the_encoder_reads_is_the_template_filled_by_hand(
    tmp_path: Path, qdrant_server: QdrantServer, collection_name: str, model: str
) -> None:
    """By an encoder of its own, which knows nothing of instructions."""
    folder = str(tiny_qwen3(tmp_path)) if model == "tiny" else model
    place: dict[str, Any] = {"path": qdrant_server.url, **ways_to(qdrant_server)}
    encoder = open_encoder(folder, device="cpu", dtype="float32", budget_tokens=1024)
    query, document = "用了优惠券但没减钱", "优惠券在最后一步抵扣。"
    with Client.embedded(**place, model=folder, dtype="float32", budget_tokens=1024) as client:
        client.create_collection(collection_name)
        client.enqueue(collection_name, Document(id="a", text=document)).wait(60).raise_for_failures()
        client.instructions.register(collection_name, "complaint", "给定客户的投诉，找出解决办法")
        asked: list[str | None] = ["complaint", "complaint@1", "preset:faq", "preset:faq:zh", FREE, None]
        hits = [client.search(collection_name, query, instruction=each)[0] for each in asked]
        vectors = [client.embed(query, collection=collection_name, instruction=each) for each in asked]
    for hit, vector in zip(hits, vectors, strict=True):
        assert hit.template is not None
        by_hand = hit.template.replace("{instruction}", hit.instruction_text or "").replace("{text}", query)
        stored = encoder.info.templates.document.replace("{text}", document)
        expected, there = encoder.encode(encoder.tokenize([by_hand, stored]))
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        np.testing.assert_allclose(hit.score, expected @ there, atol=1e-4)
    assert len({round(hit.score, 6) for hit in hits}) == len(asked) - 1, "each another, but for the two names of one"


async def _use(client: AsyncClient, name: str) -> list[str]:
    await client.instructions.register(name, "faq", "Find the answer")
    await client.instructions.register(name, "faq", "Find the entry")
    await client.instructions.retire(name, "faq@2")
    hits = await client.search(name, "text", instruction="faq")
    assert len(await client.instructions.presets()) == 18
    return [str((await client.instructions.show(name, "faq")).label), *(str(hit.instruction) for hit in hits)]


def test_it_is_the_same_for_asyncio() -> None:
    import asyncio

    async def use() -> list[str]:
        async with AsyncClient.embedded(model="hash:16") as client:
            await client.create_collection("c")
            await (await client.enqueue("c", Document(id="a", text="t"))).wait(60)
            return await _use(client, "c")

    assert asyncio.run(use()) == ["faq@1", "faq@1"]
