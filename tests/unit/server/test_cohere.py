"""`/v2/embed` and `/v1/rerank`, as Cohere's own client and our remote reranker ask them."""

from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import numpy as np
import pytest

from gristmill_worker.batching.batcher import encode_all
from gristmill_worker.encoder import Encoder
from gristmill_worker.reranker import open_reranker
from serving import Serving

TEXTS = ["用了优惠券但没减钱", "The mill grinds grain.", "a ship sails"]


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[cohere.ClientV2]:
    with httpx.Client(timeout=60) as http:
        yield cohere.ClientV2(api_key="unused", base_url=serving.server.address, httpx_client=http)


def test_coheres_client_gets_every_form_of_the_models_own_vectors(client: cohere.ClientV2, tiny: Encoder) -> None:
    kinds: Any = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = client.embed(model=tiny.info.model, texts=TEXTS, input_type="search_document", embedding_types=kinds)
    filled = [tiny.info.templates.for_document(text) for text in TEXTS]
    expected = encode_all(tiny, tiny.tokenize(filled))
    found: Any = answer.embeddings
    np.testing.assert_allclose(np.asarray(found.float_), expected, atol=1e-6)
    int8 = np.asarray(found.int8)
    assert (np.abs(int8).max(axis=1) == 127).all()
    cosines = (int8 * expected).sum(axis=1) / np.linalg.norm(int8, axis=1)
    assert (cosines > 0.999).all()
    np.testing.assert_array_equal(np.asarray(found.uint8), int8 + 128)
    bits = np.unpackbits(np.asarray(found.ubinary, dtype=np.uint8), axis=1)
    np.testing.assert_array_equal(bits, expected > 0)
    np.testing.assert_array_equal(np.asarray(found.binary), np.asarray(found.ubinary) - 128)
    assert [len(row) for row in found.base64] == [344] * 3  # 64 float32
    assert answer.texts == TEXTS
    assert answer.meta.billed_units.input_tokens == sum(each.n_tokens for each in tiny.tokenize(filled))  # type: ignore[union-attr]


def test_int8_of_a_text_does_not_depend_on_its_neighbours(serving: Serving) -> None:
    def int8(texts: list[str]) -> Any:
        body = {"model": "hash:16", "texts": texts, "embedding_types": ["int8"]}
        return serving.http.post("/v2/embed", json=body).json()["embeddings"]["int8"][0]

    assert int8(TEXTS[:1]) == int8(TEXTS)


def test_without_an_input_type_texts_are_taken_as_they_are(serving: Serving, tiny: Encoder) -> None:
    answer = serving.http.post("/v2/embed", json={"model": tiny.info.model, "texts": TEXTS}).json()
    np.testing.assert_allclose(answer["embeddings"]["float"], encode_all(tiny, tiny.tokenize(TEXTS)), atol=1e-6)


def test_a_text_over_the_window_is_cut_only_where_that_was_asked_for(client: cohere.ClientV2) -> None:
    long = "grain " * 600
    with pytest.raises(cohere.BadRequestError, match=r"texts\[1\]: expected at most 512 tokens"):
        client.embed(model="hash:16", texts=["a", long], input_type="search_query")
    cut = client.embed(model="hash:16", texts=["a", long], input_type="search_query", truncate="END")
    assert cut.model_extra == {"truncated": [1]} or cut.truncated == [1]  # type: ignore[attr-defined]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"texts": []}, "texts"),
    ({"texts": "a"}, "texts"),
    ({"texts": ["a", ""]}, "texts[1]"),
    ({"texts": ["a"], "output_dimension": 17}, "output_dimension"),
    ({"texts": ["a"], "output_dimension": 4, "embedding_types": ["binary"]}, "embedding_types"),
    ({"texts": ["a"], "embedding_types": []}, "embedding_types"),
    ({"texts": ["a"], "embedding_types": ["int4"]}, "embedding_types[0]"),
    ({"texts": ["a"], "input_type": "image"}, "input_type"),
    ({"texts": ["a"], "images": ["data:…"]}, "images"),
    ({"texts": ["a"], "max_tokens": 7}, "max_tokens"),
    ({"texts": ["a"], "priority": 1}, "priority"),
    ({"inputs": [{"content": [{"type": "text", "text": "a"}]}]}, "texts"),
]


@pytest.mark.parametrize(("body", "field"), WRONG, ids=[f"{list(body)[-1]}-{field}" for body, field in WRONG])
def test_what_is_wrong_is_named_in_coheres_shape(serving: Serving, body: dict[str, Any], field: str) -> None:
    answer = serving.http.post("/v2/embed", json={"model": "hash:16", **body})
    assert answer.status_code == 400
    assert set(answer.json()) == {"message"}
    assert f"{field}: expected" in answer.json()["message"]


def test_coheres_client_gets_the_documents_that_answer_first(client: cohere.ClientV2) -> None:
    answer = client.rerank(model="overlap:64", query="what does the mill grind", documents=TEXTS, top_n=2)
    assert [each.index for each in answer.results] == [1, 0]
    assert answer.results[0].relevance_score > answer.results[1].relevance_score


def test_documents_may_be_objects_and_are_repeated_where_that_is_asked_for(serving: Serving) -> None:
    body = {
        "query": "mill",
        "documents": [{"text": "a ship"}, "a mill"],
        "return_documents": True,
        "instruct": "find it",
    }
    results = serving.http.post("/v1/rerank", json=body).json()["results"]
    assert [each["document"]["text"] for each in results] == ["a mill", "a ship"]


def test_a_document_over_the_window_is_cut_only_where_that_was_asked_for(serving: Serving) -> None:
    body: dict[str, Any] = {"query": "mill", "documents": ["a mill", "grain " * 100]}
    refused = serving.http.post("/v1/rerank", json=body)
    assert refused.status_code == 400
    assert "documents[1]: expected a document that fits" in refused.json()["message"]
    results = serving.http.post("/v1/rerank", json={**body, "truncate": "END"}).json()["results"]
    assert [each.get("truncated", False) for each in results] == [False, True]


WRONG_RERANKS: list[tuple[dict[str, Any], str]] = [
    ({"documents": ["a"]}, "query"),
    ({"query": "", "documents": ["a"]}, "query"),
    ({"query": "a"}, "documents"),
    ({"query": "a", "documents": []}, "documents"),
    ({"query": "a", "documents": "a"}, "documents"),
    ({"query": "a", "documents": ["a", 1]}, "documents[1]"),
    ({"query": "a", "documents": [{"text": "a", "title": "b"}]}, "documents[0]"),
    ({"query": "a", "documents": [{}]}, "documents[0]"),
    ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
    ({"query": "a", "documents": ["a"], "top_n": "1"}, "top_n"),
    ({"query": "a", "documents": ["a"], "return_documents": 1}, "return_documents"),
    ({"query": "a", "documents": ["a"], "rank_fields": ["text"]}, "rank_fields"),
    ({"query": "a", "documents": ["a"], "max_tokens_per_doc": 7}, "max_tokens_per_doc"),
    ({"query": "a", "documents": ["a"], "truncate": "START"}, "truncate"),
    ({"query": "a " * 70, "documents": ["a"]}, "query"),
]


@pytest.mark.parametrize(("body", "field"), WRONG_RERANKS, ids=[f"{list(b)[-1]}-{f}" for b, f in WRONG_RERANKS])
def test_what_is_wrong_with_a_rerank_is_named(serving: Serving, body: dict[str, Any], field: str) -> None:
    answer = serving.http.post("/v1/rerank", json=body)
    assert answer.status_code == 400
    assert f"{field}: expected" in answer.json()["message"]


def test_a_model_that_does_something_else_is_not_found(serving: Serving) -> None:
    rerank = serving.http.post("/v1/rerank", json={"model": "hash:16", "query": "a", "documents": ["a"]})
    embed = serving.embed(model="overlap:64", input="a")
    assert (rerank.status_code, embed.status_code) == (404, 404)
    assert "reranks ('overlap:64')" in rerank.json()["message"]


def test_our_remote_reranker_is_at_home_here(serving: Serving) -> None:
    remote, own = open_reranker(f"{serving.base_url}#overlap:64"), open_reranker("overlap:64")
    long = [*TEXTS, "grain " * 100]
    try:
        found, expected = (each.score("the mill", long, "find what grinds") for each in (remote, own))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    finally:
        remote.close()
