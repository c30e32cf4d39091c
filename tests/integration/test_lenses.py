"""Lenses: one text, one model, several vectors, each under a document instruction of its own."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from qdrant_client import models

from gristmill import (
    AsyncClient,
    Chunking,
    Client,
    CollectionConflict,
    CollectionNotFound,
    Document,
    Instruction,
    InvalidInput,
    Lens,
    LongTexts,
)
from gristmill.search.lenses import Lenses
from gristmill_schemas.limits import MAX_LENSES
from gristmill_worker.demo.corpus import faq
from models import tiny_qwen3
from places import PLACES, place_of

LEGAL = "Given a contract, find what it obliges somebody to"
NEED = "Given a customer's message, find what the customer needs"
TONE = "Given a text, tell the mood it was written in"
LENSES: Lenses = {"legal": LEGAL, "need": {"document": NEED, "query": "Given a need, find who has it"}}
TEXTS = ["The tenant pays on the first of each month", "我的包裹到现在还没有收到", "Refunds take three days"]


@pytest.fixture(params=PLACES)
def mill(request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model="hash:16", threads=4) as client:
        yield client


@pytest.fixture
def name(mill: Client, collection_name: str) -> str:
    """A collection with two lenses, and the texts above in it."""
    mill.create_collection(collection_name, lenses=LENSES, chunking=Chunking(size=16, overlap=4))
    documents = [Document(id=str(n), text=text, version=1) for n, text in enumerate(TEXTS)]
    mill.enqueue(collection_name, documents).wait(60).raise_for_failures()
    return collection_name


def vectors_of(client: Client, collection: str, document_id: str) -> dict[str, npt.NDArray[np.float32]]:
    """Every dense vector of a document of one chunk."""
    (point,), _ = client._parts.store.scroll(collection, scroll_filter=_of(document_id), with_vectors=True)
    assert isinstance(point.vector, dict)
    return {each: np.asarray(vector, np.float32) for each, vector in point.vector.items() if each != "bm25"}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_qwen3(tmp_path_factory.mktemp("models") / "tiny-qwen3"))


@pytest.fixture(scope="module")
def recipe(qwen: str) -> Callable[[str], npt.NDArray[np.float32]]:
    """The model card's own way: prompt and text, the last token's state, normalised."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(qwen)
    model = transformers.AutoModel.from_pretrained(qwen, dtype=torch.float32).eval()

    def encode(text: str) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt"), use_cache=False).last_hidden_state
        last = states[0, -1].numpy()
        return np.asarray(last / np.linalg.norm(last), np.float32)

    return encode


@pytest.fixture(params=PLACES)
def qwen_mill(request: pytest.FixtureRequest, qwen: str) -> Iterator[Client]:
    with Client.embedded(**place_of(request), model=qwen, dtype="float32", device="cpu") as client:
        yield client


def test_one_text_under_three_instructions_has_three_vectors_each_the_recipes_own(
    qwen_mill: Client, recipe: Callable[[str], npt.NDArray[np.float32]], collection_name: str
) -> None:
    lenses = {"legal": LEGAL, "need": NEED, "tone": TONE}
    qwen_mill.create_collection(collection_name, lenses=lenses)
    qwen_mill.enqueue(collection_name, Document(id="a", text=TEXTS[0])).wait(60).raise_for_failures()
    stored = vectors_of(qwen_mill, collection_name, "a")
    wanted = {each: recipe(f"Instruct: {sentence}\nQuery:{TEXTS[0]}") for each, sentence in lenses.items()}
    wanted[""] = recipe(TEXTS[0])
    assert stored.keys() == wanted.keys()
    for each, vector in wanted.items():
        assert np.abs(stored[each] - vector).max() < 1e-5
        for other in wanted.keys() - {each}:
            assert vector @ wanted[other] < 0.999
    embedded = qwen_mill.embed(TEXTS[0], collection=collection_name, kind="document", lens="legal")
    assert np.abs(embedded - wanted["legal"]).max() < 1e-5


def test_a_search_ranks_by_the_lens_and_under_its_queries_instruction(
    qwen: str, recipe: Callable[[str], npt.NDArray[np.float32]]
) -> None:
    with Client.embedded(model=qwen, dtype="float32", device="cpu") as client:
        client.create_collection("c", lenses=LENSES)
        documents = list(faq())[:15]
        client.enqueue("c", documents).wait(120).raise_for_failures()
        query, orders = "没有收到包裹", {}
        for lens, document, asked in (
            (None, "{}", None),
            ("legal", f"Instruct: {LEGAL}\nQuery:{{}}", None),
            ("need", f"Instruct: {NEED}\nQuery:{{}}", "Given a need, find who has it"),
        ):
            hits = client.search("c", query, lens=lens, limit=10)
            default = client.collections.get("c").space.templates.for_query(query)
            vector = recipe(f"Instruct: {asked}\nQuery:{query}" if asked else default)
            scores = {each.id: float(vector @ recipe(document.format(each.text))) for each in documents}
            best = sorted(scores, key=lambda each: -scores[each])[:10]
            assert [round(hit.score, 4) for hit in hits] == [round(scores[each], 4) for each in best]
            assert {(hit.lens, hit.instruction) for hit in hits} == {(lens, asked)}
            orders[lens] = [hit.id for hit in hits]
        assert len({tuple(order) for order in orders.values()}) == 3


def test_a_lens_finds_what_its_documents_were_encoded_as(mill: Client, name: str) -> None:
    # The stand-in encoder finds exact texts only.
    for n, text in enumerate(TEXTS):
        for lens, sentence in (("legal", LEGAL), ("need", NEED)):
            ways = [mill.search(name, text, lens=lens, instruction=sentence, limit=1)]
            ways += mill.search_many(name, [text], lens=lens, instruction=sentence, group_by_document=True, limit=1)
            for (best,) in ways:
                assert (best.id, round(best.score, 4), best.lens, best.instruction) == (str(n), 1.0, lens, sentence)
        (plain,) = mill.search(name, text, limit=1)
        assert (plain.id, round(plain.score, 4), plain.lens) == (str(n), 1.0, None)


def test_queries_have_the_instruction_of_their_lens_unless_they_bring_one(mill: Client, name: str) -> None:
    def applied(**how: Any) -> list[tuple[str | None, str | None, str | None]]:
        hits = mill.search(name, "text", limit=1, **how)
        return [(hit.instruction, hit.instruction_text, hit.template) for hit in hits]

    default = "Given a need, find who has it"
    assert applied(lens="need") == [(default, default, "{instruction}\n{text}")]
    assert applied(lens="need", instruction="Find it") == [("Find it", "Find it", "{instruction}\n{text}")]
    assert applied(lens="legal") == applied() == [(None, None, "{text}")]
    mill.instructions.register(name, "faq", "Find the answer")
    changed: Lenses = {"legal": {"document": LEGAL, "query": "faq"}, "need": NEED}
    with pytest.raises(
        CollectionConflict, match=r"lenses is \[legal: .*asked for \[legal: .*queries: 'faq'.*update=True"
    ):
        mill.create_collection(name, lenses=changed)
    spec = mill.create_collection(name, lenses=changed, update=True)
    assert [(lens.name, lens.query) for lens in spec.lenses] == [("legal", "faq"), ("need", default)]
    assert applied(lens="legal")[0][:2] == ("faq@1", "Find the answer")
    assert mill.create_collection(name, lenses=changed) == mill.collections.get(name) == spec


def test_embed_gives_what_a_lens_stores_and_what_it_is_asked_with(mill: Client, name: str) -> None:
    stored = vectors_of(mill, name, "0")
    for lens in ("legal", "need"):
        embedded = mill.embed(TEXTS[0], collection=name, kind="document", lens=lens)
        assert embedded.tolist() == pytest.approx(stored[lens].tolist(), abs=1e-6)
    asked = mill.embed("text", collection=name, lens="need")
    by_hand = mill.embed("text", collection=name, instruction="Given a need, find who has it")
    assert asked.tolist() == by_hand.tolist() != mill.embed("text", collection=name, lens="legal").tolist()
    with pytest.raises(InvalidInput, match="instruction: expected None, since documents under lens 'legal'"):
        mill.embed("text", collection=name, kind="document", lens="legal", instruction="Find it")
    with pytest.raises(InvalidInput, match="lens: expected None without collection="):
        mill.embed("text", lens="legal")


def test_unchanged_documents_are_skipped_and_changed_ones_change_under_every_lens(mill: Client, name: str) -> None:
    before = vectors_of(mill, name, "0")
    again = mill.enqueue(name, Document(id="0", text=TEXTS[0], version=2)).wait(60)
    assert (again.skipped, again.tokens) == (1, 0)
    mill.enqueue(name, Document(id="0", text=TEXTS[0], metadata={"k": 1}, version=3)).wait(60).raise_for_failures()
    after = vectors_of(mill, name, "0")
    assert all(np.array_equal(before[each], after[each]) for each in before)
    mill.enqueue(name, Document(id="0", text="another text", version=4)).wait(60).raise_for_failures()
    changed = vectors_of(mill, name, "0")
    assert before.keys() == changed.keys() == {"", "legal", "need"}
    assert not any(np.array_equal(before[each], changed[each]) for each in before)
    assert mill.audit(name).gaps == 0
    mill.delete(name, ["0"]).wait(60)
    assert [hit.id for hit in mill.search(name, "another text", lens="need", limit=9)] != []
    assert all(hit.id != "0" for hit in mill.search(name, "another text", lens="need", limit=9))


def test_what_was_encoded_under_other_instructions_is_encoded_again(mill: Client, name: str) -> None:
    spec = mill.collections.get(name)
    assert spec.fingerprint != spec.space.fingerprint
    other = spec.model_copy(update={"lenses": (Lens(name="legal", document=TONE), spec.lenses[1])})
    del other.__dict__["fingerprint"]
    mill._collections.update(other)
    assert mill.collections.get(name).fingerprint not in (spec.fingerprint, spec.space.fingerprint)
    assert mill.audit(name).wrong_space == len(TEXTS)
    report = mill.enqueue(name, [Document(id=str(n), text=text, version=2) for n, text in enumerate(TEXTS)]).wait(60)
    assert (report.stored, report.skipped) == (len(TEXTS), 0)
    assert mill.audit(name).gaps == 0
    (best,) = mill.search(name, TEXTS[0], lens="legal", instruction=TONE, limit=1)
    assert (best.id, round(best.score, 4)) == ("0", 1.0)


@pytest.mark.parametrize("lost", ["", "legal"])
def test_a_vector_that_is_missing_is_damage_that_a_repair_mends(mill: Client, name: str, lost: str) -> None:
    whole = vectors_of(mill, name, "1")
    store = mill._parts.store
    (point,), _ = store.scroll(name, scroll_filter=_of("1"))
    store.delete_vectors(name, [lost], [point.id], wait=True)
    found = mill.audit(name)
    assert (found.gaps, found.vectorless) == (1, 1)
    assert found.findings[0].id == "1"
    assert ("has no vector 'legal'" if lost else "has no vector:") in found.findings[0].detail
    mended = mill.audit(name, repair=True)
    assert (mended.repaired, mended.left) == (1, 0)
    mill.jobs.get(mended.job_id or "").wait(60).raise_for_failures()
    assert mill.audit(name).gaps == 0
    after = vectors_of(mill, name, "1")
    assert whole.keys() == after.keys()
    assert all(np.allclose(whole[each], after[each], atol=1e-6) for each in whole)


def _of(document_id: str) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="_gristmill.id", match=models.MatchValue(value=document_id))])


def test_chunks_are_the_same_under_every_lens(mill: Client, name: str) -> None:
    text = " ".join(f"page{n}" for n in range(60))
    mill.enqueue(name, Document(id="long", text=text)).wait(60).raise_for_failures()
    document = mill.get(name, "long")
    assert document is not None
    assert document.text == text
    hits = mill.search(name, "page", lens="legal", where=_of("long"), limit=50)
    assert {(hit.chunk, hit.text) for hit in hits} == {
        (hit.chunk, hit.text) for hit in mill.search(name, "page", where=_of("long"), limit=50)
    }
    assert len(hits) == hits[0].chunks > 1
    for hit in hits:
        (best,) = mill.search(name, hit.text, lens="legal", instruction=LEGAL, where=_of("long"), limit=1)
        assert (best.chunk, round(best.score, 4)) == (hit.chunk, 1.0)


def test_a_receipt_and_a_report_count_what_every_lens_has_cost(mill: Client, collection_name: str) -> None:
    mill.create_collection(collection_name)
    plain = mill.enqueue(collection_name, Document(id="0", text=TEXTS[0])).wait(60)
    with_lenses = f"{collection_name}-lenses"
    mill.create_collection(with_lenses, lenses=LENSES)
    report = mill.enqueue(with_lenses, Document(id="0", text=TEXTS[0])).wait(60)
    words = len(LEGAL.split()) + len(NEED.split())
    assert report.tokens > 3 * plain.tokens > words / 2
    receipt = mill.receipt(with_lenses, "0")
    assert (receipt.tokens, receipt.lenses) == (report.tokens, {"legal": LEGAL, "need": NEED})
    assert mill.receipt(collection_name, "0").lenses == {}


def test_documents_like_another_are_those_that_are_alike_under_the_lens(mill: Client, name: str) -> None:
    vectors = {each: vectors_of(mill, name, each) for each in ("0", "1", "2")}
    for lens in (None, "legal", "need"):
        alike = {each: float(vectors["0"][lens or ""] @ vectors[each][lens or ""]) for each in ("1", "2")}
        for hits in (mill.similar(name, "0", lens=lens), mill.recommend(name, "0", lens=lens)):
            assert {hit.id: round(hit.score, 4) for hit in hits} == {id: round(score, 4) for id, score in alike.items()}
            assert {hit.lens for hit in hits} == {lens}
    by_text = mill.recommend(name, {"text": "text"}, lens="need")
    assert [hit.id for hit in by_text] == [hit.id for hit in mill.search(name, "text", lens="need")]
    assert by_text[0].instruction == "Given a need, find who has it"
    with pytest.raises(InvalidInput, match="lens: expected 'legal' or 'need'"):
        mill.similar(name, "0", lens="leg")


def test_keywords_stand_beside_lenses(mill: Client, name: str) -> None:
    assert [hit.id for hit in mill.search(name, "refunds", mode="keyword")] == ["2"]
    hits = mill.search(name, TEXTS[0], mode="hybrid", lens="legal", instruction=LEGAL, limit=3)
    assert (hits[0].id, hits[0].lens, hits[0].mode) == ("0", "legal", "hybrid")
    with pytest.raises(InvalidInput, match="lens: expected None with mode='keyword'"):
        mill.search(name, "refunds", mode="keyword", lens="legal")


def test_a_document_that_is_too_long_under_one_lens_fails_as_a_whole(mill: Client, collection_name: str) -> None:
    spec = mill.create_collection(
        collection_name, lenses={"legal": LEGAL}, chunking=Chunking(long_texts=LongTexts.REFUSE)
    )
    # Fits without a lens, and not with its instruction.
    documents = [Document(id="long", text="a " * (spec.space.max_tokens - 4)), Document(id="short", text="a b c")]
    report = mill.enqueue(collection_name, documents).wait(60)
    assert (report.stored, report.dead) == (1, 1)
    (letter,) = mill.dead.list(collection_name)
    assert "under lens 'legal'" in letter.reason
    assert mill.get(collection_name, "long") is None
    assert mill.audit(collection_name).gaps == 0


def test_an_index_counts_points_and_not_their_vectors(mill: Client, name: str) -> None:
    status = mill.collections.index_status(name)
    assert (status.points, status.indexed) == (len(TEXTS), 0)


@pytest.fixture(scope="module")
def local() -> Iterator[Client]:
    """A client for what is the same everywhere, with a collection "lenses" and one without any, "plain"."""
    with Client.embedded(model="hash:16") as client:
        client.create_collection("lenses", lenses=LENSES)
        client.create_collection("plain")
        yield client


MANY = {f"lens-{n}": f"Find all texts about number {n}" for n in range(MAX_LENSES + 1)}


@pytest.mark.parametrize(
    ("lenses", "told"),
    [
        ("legal", "lenses: expected a mapping of names to document instructions"),
        (["legal"], r"lenses\[0\]: expected a mapping"),
        ({"": LEGAL}, "lenses.: name: expected 1 to 64 of a-z"),
        ({"bm25": LEGAL}, "lenses.bm25: name: expected another name, since a collection's keywords have it"),
        ({"Legal Risk": LEGAL}, "expected 1 to 64 of a-z, 0-9, _ and -, .* got 'Legal Risk'"),
        ({1: LEGAL}, "lenses.1: name: expected"),
        ({"legal": ""}, "lenses.legal: document: expected"),
        ({"legal": "  "}, "lenses.legal: document: expected a sentence that says what texts are encoded for"),
        (
            {"legal": 7},
            "lenses.legal: expected a document instruction, or a mapping with `document` and `query`, got 7",
        ),
        ({"legal": {"query": NEED}}, "lenses.legal: document: expected a value, got none"),
        ({"legal": {"document": LEGAL, "queries": NEED}}, "lenses.legal: queries: expected no field of this name"),
        ({"legal": "x" * 2001}, "lenses.legal: document: expected .*2000"),
        ({"legal": "faq"}, "lenses.legal.document: expected a sentence .* no name of a registered"),
        ({"legal": "preset:nothing"}, "lenses.legal.document: expected a preset that ships"),
        ({"a": LEGAL, "b": f" {LEGAL} "}, "lenses.b.document: expected another instruction than that of 'a'"),
        ([Lens(name="a", document=LEGAL), Lens(name="a", document=NEED)], "lenses: expected each name once, got 'a'"),
        ({"a": Lens(name="b", document=LEGAL)}, "lenses.a: expected a lens of this name, or 'b' as its key"),
        (MANY, f"lenses: expected at most {MAX_LENSES}, .* got {MAX_LENSES + 1}"),
    ],
)
def test_lenses_that_cannot_be_are_refused_by_name(local: Client, lenses: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        local.create_collection("refused", lenses=lenses)
    assert "refused" not in [spec.name for spec in local.collections.list()]


@pytest.mark.parametrize(
    ("collection", "lens", "told"),
    [
        ("lenses", "legl", "lens: expected 'legal' or 'need', which collection 'lenses' has, or None .* got 'legl'"),
        ("lenses", "needs", "lens: expected 'need' or 'legal'"),
        ("lenses", "", "lens: expected 'legal' or 'need'"),
        ("lenses", 3, "lens: expected the name of one of the collection's lenses, got 3"),
        ("plain", "legal", "lens: expected None, since collection 'plain' has no lenses, .*create_collection"),
    ],
)
def test_an_unknown_lens_is_answered_with_those_there_are(local: Client, collection: str, lens: Any, told: str) -> None:
    for call in (local.search, local.search_many):
        with pytest.raises(InvalidInput, match=told):
            call(collection, "q", lens=lens)
    if isinstance(lens, str):
        with pytest.raises(InvalidInput, match=told):
            local.embed("q", collection=collection, lens=lens)


def test_a_default_instruction_of_queries_that_names_nothing_is_refused_before_anything_is_made(local: Client) -> None:
    lenses: Lenses = {"legal": {"document": LEGAL, "query": "faq"}}
    with pytest.raises(InvalidInput, match=r"lenses.legal.query: expected a registered name.*got 'faq'"):
        local.create_collection("misnamed", lenses=lenses)
    with pytest.raises(CollectionNotFound):
        local.collections.get("misnamed")
    local.create_collection("misnamed", lenses=lenses, instructions=[Instruction(name="faq", text="Find the answer")])
    assert local.search("misnamed", "q", lens="legal") == []


def test_another_lens_for_a_collection_that_is_there_comes_with_migration(local: Client) -> None:
    others: list[Lenses] = [
        {"legal": LEGAL, "need": NEED, "tone": TONE},
        {"legal": LEGAL},
        {"legal": TONE, "need": NEED},
        {},
    ]
    for other in others:
        for update in (False, True):
            with pytest.raises(
                CollectionConflict, match=r"lenses is \[legal.*, asked for \[.*comes with the migration"
            ):
                local.create_collection("lenses", lenses=other, update=update)
    with pytest.raises(CollectionConflict, match=r"lenses is \[\], asked for \[legal"):
        local.create_collection("plain", lenses=LENSES)
    same = [Lens(name="need", document=NEED), Lens(name="legal", document=LEGAL)]
    assert local.create_collection("lenses", lenses=same) == local.create_collection("lenses")


def test_a_preset_is_a_document_instruction_by_its_text(local: Client) -> None:
    spec = local.create_collection("presets", lenses={"legal": "preset:legal"})
    assert spec.lenses[0].document.startswith("Given ")
    assert local.create_collection("presets", lenses={"legal": spec.lenses[0].document}) == spec


def test_a_model_that_knows_no_instructions_is_told_of_once(qwen: str, caplog: pytest.LogCaptureFixture) -> None:
    with Client.embedded(model="hash:16") as client:
        client.create_collection("told", lenses=LENSES)
        space = client.create_collection("told", lenses=LENSES).space
        assert sum("was not trained to follow instructions" in each.message for each in caplog.records) == 1
        without = space.templates.model_copy(update={"document_instructed": "{text}"})
        with pytest.raises(
            InvalidInput, match=r"lenses.legal: expected no lens, since the templates of .* have no place"
        ):
            client.create_collection("c", space=space.model_copy(update={"templates": without}), lenses=LENSES)
    caplog.clear()
    with Client.embedded(model=qwen, device="cpu") as client:
        client.create_collection("quiet", lenses=LENSES)
    assert not [each for each in caplog.records if "instruction" in each.message]


def test_the_async_client_and_the_command_line_know_lenses(
    run: Callable[..., tuple[int, str, str]], embedded: Path
) -> None:
    options = [
        "--lens",
        f"legal={LEGAL}",
        "--lens",
        f"need={NEED}",
        "--lens-query",
        "need=Given a need, find who has it",
    ]
    code, out, err = run("collections", "create", "c", *options, "--json")
    assert code == 0, err
    made = json.loads(out)["lenses"]
    assert [(each["name"], each["query"]) for each in made] == [
        ("legal", None),
        ("need", "Given a need, find who has it"),
    ]
    (embedded / "a.jsonl").write_text(json.dumps({"id": "a", "text": TEXTS[0]}), encoding="utf-8")
    assert run("ingest", str(embedded / "a.jsonl"), "-c", "c")[0] == 0
    code, out, _ = run("search", "c", "tenant", "--lens", "need", "--json")
    (hit,) = json.loads(out)["hits"]
    assert (hit["lens"], hit["instruction"]) == ("need", "Given a need, find who has it")
    code, out, _ = run("collections", "show", "c")
    assert (code, "lens legal" in out, LEGAL in " ".join(out.split())) == (0, True, True)
    code, out, _ = run("receipt", "c", "a", "--json")
    assert json.loads(out)["lenses"] == {"legal": LEGAL, "need": NEED}
    for arguments, told in (
        (("search", "c", "tenant", "--lens", "ned"), "'need' or 'legal'"),
        (("collections", "create", "d", "--lens", "legal"), "lens: expected name=sentence"),
        (
            ("collections", "create", "d", "--lens", f"a={LEGAL}", "--lens", f"a={NEED}"),
            "lens: expected each name once",
        ),
        (
            ("collections", "create", "d", "--lens", f"a={LEGAL}", "--lens-query", "b=Find it"),
            "lens-query: expected the name",
        ),
    ):
        code, _, err = run(*arguments)
        assert code != 0
        assert told in " ".join(err.split())

    async def asked() -> list[str | None]:
        async with AsyncClient.embedded(embedded / "store", model="hash:64") as client:
            return [hit.lens for hit in await client.search("c", "tenant", lens="legal")]

    assert asyncio.run(asked()) == ["legal"]
