"""`/v1/embeddings` and `/v1/models`, as OpenAI's own client and our remote encoder ask them."""

import base64
from typing import Any, get_args

import numpy as np
import openai
import pytest

from gristmill import Client
from gristmill.search.embedding import Kind
from gristmill_worker.batching.batcher import encode_all
from gristmill_worker.encoder import Encoder, open_encoder
from serving import Serving

TEXTS = ["用了优惠券但没减钱", "The mill grinds grain.", "a", "why? " * 40]


@pytest.fixture(scope="module")
def client(serving: Serving) -> Any:
    with openai.OpenAI(base_url=serving.base_url, api_key="unused", max_retries=0) as client:
        yield client


def plain(encoder: Encoder, texts: list[str]) -> Any:
    return encode_all(encoder, encoder.tokenize(texts))


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_openais_client_gets_the_models_own_vectors_of_the_texts_as_they_are(
    client: openai.OpenAI, tiny: Encoder, encoding_format: Any
) -> None:
    answer = client.embeddings.create(model=tiny.info.model, input=TEXTS, encoding_format=encoding_format, user="me")
    rows: list[Any] = [each.embedding for each in answer.data]
    if encoding_format == "base64":  # asked for by name, it comes as it is
        rows = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in rows]
    np.testing.assert_allclose(np.asarray(rows), plain(tiny, TEXTS), atol=1e-6)
    assert answer.usage.prompt_tokens == sum(each.n_tokens for each in tiny.tokenize(TEXTS))


def test_one_string_is_one_text(client: openai.OpenAI, tiny: Encoder) -> None:
    answer = client.embeddings.create(model=tiny.info.model, input=TEXTS[0])
    np.testing.assert_allclose([answer.data[0].embedding], plain(tiny, TEXTS[:1]), atol=1e-6)


def test_token_ids_are_the_models_input_as_it_stands(client: openai.OpenAI, tiny: Encoder) -> None:
    ids = [each.ids.tolist() for each in tiny.tokenize(TEXTS)]
    many = client.embeddings.create(model=tiny.info.model, input=ids)
    one = client.embeddings.create(model=tiny.info.model, input=ids[0])
    np.testing.assert_allclose([each.embedding for each in many.data], plain(tiny, TEXTS), atol=1e-6)
    np.testing.assert_allclose(one.data[0].embedding, many.data[0].embedding, atol=1e-6)


@pytest.mark.parametrize(
    ("extension", "filled"),
    [
        ({"input_type": "query"}, "query: {}"),
        ({"input_type": "document"}, "passage: {}"),
        ({"input_type": "query", "instruction": "find the mill"}, "find the mill\nquery: {}"),
        ({"instruction": "find the mill"}, "find the mill\nquery: {}"),
    ],
)
def test_only_who_asks_for_it_gets_the_template(
    client: openai.OpenAI, tiny: Encoder, extension: dict[str, str], filled: str
) -> None:
    templates = tiny.info.templates
    kind = templates.for_document if extension.get("input_type") == "document" else templates.for_query
    answer = client.embeddings.create(model=tiny.info.model, input=["the mill"], extra_body=extension)
    expected = plain(tiny, [kind("the mill", extension.get("instruction"))])
    np.testing.assert_allclose([answer.data[0].embedding], expected, atol=1e-6)
    assert not np.allclose(expected, plain(tiny, ["the mill"]), atol=1e-3), filled


def test_fewer_dimensions_are_the_beginning_at_length_one(client: openai.OpenAI) -> None:
    whole = client.embeddings.create(model="hash:16", input="a").data[0].embedding
    short = client.embeddings.create(model="hash:16", input="a", dimensions=4).data[0].embedding
    np.testing.assert_allclose(short, np.asarray(whole[:4]) / np.linalg.norm(whole[:4]), atol=1e-6)


def test_a_text_over_the_window_is_cut_only_where_that_was_asked_for(serving: Serving, tiny: Encoder) -> None:
    long = "grain " * 400
    refused = serving.embed(model=tiny.info.model, input=["a", long])
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "input[1]"
    for end in ("END", "START"):
        cut = serving.embed(model=tiny.info.model, input=["a", long], truncate=end).json()
        assert cut["truncated"] == [1]
        assert "truncated" not in cut["data"][0]
        assert cut["data"][1]["truncated"] is True
        assert cut["usage"]["prompt_tokens"] <= tiny.info.max_tokens + len(tiny.tokenize(["a"])[0].ids)


def test_which_end_is_cut_shows_in_the_vector(serving: Serving) -> None:
    text = " ".join(f"word{number}" for number in range(600))
    rows = {end: serving.embed(model="hash:16", input=text, truncate=end).json() for end in ("END", "START")}
    words = text.split()
    for end, kept in (("END", words[:512]), ("START", words[-512:])):
        alone = serving.embed(model="hash:16", input=" ".join(kept)).json()
        assert rows[end]["data"][0]["embedding"] == alone["data"][0]["embedding"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"input": ""}, "input"),
    ({"input": []}, "input"),
    ({"input": ["a", ""]}, "input[1]"),
    ({"input": ["a", 1]}, "input[1]"),
    ({"input": [1, "a"]}, "input[1]"),
    ({"input": [[1], []]}, "input[1]"),
    ({"input": [-1]}, "input[0]"),
    ({"input": [2**40]}, "input[0]"),
    ({"input": [True]}, "input[0]"),
    ({"input": [1.0]}, "input[0]"),
    ({"input": {"text": "a"}}, "input"),
    ({"input": None}, "input"),
    ({"input": "\ud800"}, "input"),
    ({"input": "a\0b"}, "input"),
    ({"input": "a", "dimensions": 4.0}, "dimensions"),
    ({"input": "a", "dimensions": "4"}, "dimensions"),
    ({"input": "a", "dimensions": True}, "dimensions"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "dimensions": -4}, "dimensions"),
    ({"input": "a", "dimensions": 17}, "dimensions"),
    ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
    ({"input": "a", "user": 7}, "user"),
    ({"input": "a", "normalize": True}, "normalize"),
    ({"input": "a", "input_type": "question"}, "input_type"),
    ({"input": "a", "instruction": ""}, "instruction"),
    ({"input": "a", "instruction": "preset:nothing"}, "instruction"),
    ({"input": "a", "instruction": "faq"}, "instruction"),
    ({"input": "a", "truncate": "MIDDLE"}, "truncate"),
    ({"input": "a", "truncate": True}, "truncate"),
    ({"input": "a " * 600}, "input"),
    ({"input": ["a " * 600]}, "input[0]"),
    ({"input": ["a"] * 2049}, "input"),
    ({}, "input"),
]


@pytest.mark.parametrize(("body", "param"), WRONG, ids=[f"{list(body)}-{param}" for body, param in WRONG])
def test_what_is_wrong_is_named_in_openais_shape(serving: Serving, body: dict[str, Any], param: str) -> None:
    import json

    raw = json.dumps({"model": "hash:16", **body})
    answer = serving.http.post("/v1/embeddings", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert "expected" in error["message"]
    assert "got" in error["message"]


def test_token_ids_of_another_model_are_refused_by_their_place(serving: Serving, tiny: Encoder) -> None:
    for ids, place in (([[1, 2], [3, 100_000]], "input[1][1]"), ([3, 100_000], "input[1]")):
        error = serving.embed(model=tiny.info.model, input=ids).json()["error"]
        assert error["param"] == place
        assert "got 100000" in error["message"]


def test_token_ids_take_no_instruction(serving: Serving, tiny: Encoder) -> None:
    for extension in ({"instruction": "find the mill"}, {"input_type": "query"}):
        answer = serving.embed(model=tiny.info.model, input=[1, 2], **extension)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(extension)))


def test_a_size_that_the_model_has_not_declared_is_refused(serving: Serving, tiny: Encoder) -> None:
    error = serving.embed(model=tiny.info.model, input="a", dimensions=32).json()["error"]
    assert error["param"] == "dimensions"
    assert "only its full size 64" in error["message"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[1", b'{"input": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000, b"[]"]
)
def test_what_is_no_json_is_a_bad_request(serving: Serving, raw: bytes) -> None:
    answer = serving.http.post("/v1/embeddings", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "expected" in answer.json()["error"]["message"]


def test_a_body_and_an_instruction_are_told_of_in_words_of_this_api(serving: Serving) -> None:
    told = serving.http.post("/v1/embeddings", json=[]).json()["error"]["message"]
    assert told == "body: expected a JSON object, got []"
    told = serving.embed(model="hash:16", input="a", instruction="faq").json()["error"]["message"]
    assert "preset:web" in told
    assert "collection=" not in told


def test_a_model_that_is_not_there_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("text-embedding-3-small")


def test_the_models_are_listed_and_each_is_found(client: openai.OpenAI, tiny: Encoder) -> None:
    assert [each.id for each in client.models.list()] == ["hash:16", tiny.info.model, "overlap:64"]
    assert client.models.retrieve(tiny.info.model).id == tiny.info.model


def test_a_client_of_the_queue_gets_the_same_vectors(client: openai.OpenAI, tiny: Encoder) -> None:
    with Client.embedded(model=tiny.info.model, dtype="float32", budget_tokens=2048) as own:
        for kind in get_args(Kind):
            for instruction in (None, "preset:faq"):
                asked = {"input_type": kind} | ({"instruction": instruction} if instruction else {})
                answer = client.embeddings.create(model=tiny.info.model, input=TEXTS[:3], extra_body=asked)
                expected = own.embed(TEXTS[:3], kind=kind, instruction=instruction)
                np.testing.assert_allclose([each.embedding for each in answer.data], expected, atol=1e-6)


def test_our_remote_encoder_is_at_home_here(serving: Serving, tiny: Encoder) -> None:
    remote = open_encoder(f"{serving.base_url}#{tiny.info.model}")
    try:
        np.testing.assert_allclose(remote.encode(remote.tokenize(TEXTS)), plain(tiny, TEXTS), atol=1e-6)
        assert remote.tokenize(["grain " * 400])[0].truncated  # its window is what the server says
    finally:
        remote.close()
