"""What embedding servers say when they refuse, word for word, and what is made of it.

The bodies are quoted from each server's source or from reports of its users; numbers and names are the test's.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from embedding_server import SIZE, EmbeddingServer, embedding_server
from gristmill_schemas.errors import EncodingFailed, ModelUnavailable, Unavailable
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.batching.submission import Row, stacked
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.encoder.remote.encoder import MAX_TEXTS, RemoteEncoder

MOST = 5


def openai(message: str, kind: str = "invalid_request_error", code: object = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def old_vllm(message: str, kind: str = "BadRequestError", code: int = 400) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def tei(message: str, kind: str = "Validation", code: int = 413) -> dict[str, Any]:
    return {"message": message, "code": code, "type": kind}


def llama_cpp(message: str, code: int, kind: str, **more: int) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": kind, **more}}


NGINX = """<html>
<head><title>413 Request Entity Too Large</title></head>
<body>
<center><h1>413 Request Entity Too Large</h1></center>
<hr><center>nginx/1.24.0</center>
</body>
</html>"""

#: A text that is longer than the window: its own fault, whatever the status.
TOO_LONG: dict[str, tuple[int, Any]] = {
    "OpenAI": (
        400,
        openai("This model's maximum context length is 8192 tokens, however you requested 8916 tokens (8916 in your prompt; "
               "0 for the completion). Please reduce your prompt; or completion length."),
    ),
    "OpenAI, of several": (400, openai("Invalid 'input[3]': maximum context length is 8192 tokens.")),
    "vLLM": (
        400,
        old_vllm("This model's maximum context length is 512 tokens. However, you requested 1451 tokens in the input for "
                 "embedding generation. Please reduce the length of the input."),
    ),
    "SGLang": (400, old_vllm("The input (61709 tokens) is longer than the model's context length (40960 tokens).")),
    "TEI": (413, tei("Input validation error: `inputs` must have less than 512 tokens. Given: 534")),
    "TEI, characters": (413, tei("Input validation error: `inputs` must have less than 32000 characters. Given: 67337")),
    "Ollama": (400, openai("the input length exceeds the context length", "api_error")),
    "Ollama, as 500": (500, openai("the input length exceeds the context length", "api_error")),
    "llama.cpp": (
        500,
        llama_cpp("input (4391 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
                  500, "server_error"),
    ),
    "llama.cpp, as 400": (
        400,
        llama_cpp("input is too large to process. increase the physical batch size", 400, "invalid_request_error"),
    ),
    "llama.cpp, context": (
        500, llama_cpp("input is larger than the max context size. skipping", 500, "server_error"),
    ),
    "llama.cpp, its own type": (
        400,
        llama_cpp("the request exceeds the available context size. try increasing the context size or enable context shift",
                  400, "exceed_context_size_error", n_prompt_tokens=1407, n_ctx=256),
    ),
    "llama-box": (
        500, openai("decoding exceeds the available context size. try increasing the context size.", "server_error", 500),
    ),
    "SiliconFlow": (413, {"code": 20042, "message": "input must have less than 512 tokens", "data": None}),
    "SiliconFlow, as 200": (200, {"code": 20042, "message": "input must have less than 8192 tokens", "data": None}),
}  # fmt: skip

#: More texts than it takes, and the largest number that may be learned of it: what it names, else half of what it refused.
TOO_MANY: dict[str, tuple[int, Any, int]] = {
    "TEI": (422, tei(f"batch size 24 > maximum allowed batch size {MOST}", code=422), MOST),
    "TEI, as 413": (413, tei(f"batch size 24 > maximum allowed batch size {MOST}"), MOST),
    "SiliconFlow": (
        413, {"code": 20042, "message": f"input batch size 24 > maximum allowed batch size {MOST}", "data": None}, MOST,
    ),
    "OpenAI": (
        400,
        openai(f"Invalid 'input': array too long. Expected an array with maximum length {MOST}, but got an array with "
               "length 24 instead.", code="array_above_max_length"),
        MOST,
    ),
    "Azure": (
        400,
        openai(f"Too many inputs. The max number of inputs is {MOST}. We hope to increase the number of inputs per request "
               "soon."),
        MOST,
    ),
    "DashScope": (
        400,
        openai("<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not be larger than "
               f"{MOST}.: input.contents", "InvalidParameter", "InvalidParameter"),
        MOST,
    ),
    "infinity": (
        422,
        {"detail": [{"type": "too_long", "loc": ["body", "input"], "input": ["at most 3 texts"] * 24,
                     "msg": f"List should have at most {MOST} items after validation, not 24"}]},
        MOST,
    ),
    "Mistral": (400, old_vllm("Too many inputs in request, split into more batches."), MAX_TEXTS // 2),
    "Gemini": (
        400,
        {"error": {"code": 400, "status": "INVALID_ARGUMENT",
                   "message": f"* BatchEmbedContentsRequest.requests: at most {MOST} requests can be in one batch\n"}},
        MOST,
    ),
    "Cohere": (400, {"message": f"invalid request: total number of texts must be at most {MOST} - received 24"}, MOST),
    "Zhipu": (400, {"error": {"code": "1214", "message": f"input数组最大不得超过{MOST}条"}}, MOST),
}  # fmt: skip

#: More tokens, or bytes, than it takes in one request.
TOO_MUCH: dict[str, tuple[int, Any]] = {
    "OpenAI": (
        400,
        openai("Requested 309209 tokens, max 300000 tokens per request", "max_tokens_per_request", "max_tokens_per_request"),
    ),
    "Mistral": (400, old_vllm("Too many tokens in batch. Max is 16384 got 17555", "invalid_request_error")),
    "Mistral, newer": (400, old_vllm("Too many tokens overall, split into more batches.", "invalid_request_prompt")),
    "Voyage": (
        400,
        {"detail": "Request to model 'voyage-3' failed. The max allowed tokens per submitted batch is 120000. Your batch "
                   "has 130000 tokens after truncation. Please lower the number of tokens in the batch."},
    ),
    "nginx": (413, NGINX),
    "axum": (413, "Failed to buffer the request body: length limit exceeded"),
    "Express": (413, openai("request entity too large", "PayloadTooLargeError")),
}  # fmt: skip

#: No such model, or none that embeds: a mistyped name.
NO_MODEL: dict[str, tuple[int, Any]] = {
    "OpenAI": (
        404,
        openai("The model `bge` does not exist or you do not have access to it.", code="model_not_found"),
    ),
    "vLLM": (404, old_vllm("The model `bge` does not exist.", "NotFoundError", 404)),
    "Ollama": (404, openai('model "bge" not found, try pulling it first', "not_found_error")),
    "Ollama, a model that only chats": (501, openai("this model does not support embeddings", "api_error")),
    "LM Studio": (
        404, openai('Failed to load model "bge". Error: Model is not embedding.', code="model_not_found"),
    ),
    "SiliconFlow": (400, {"code": 20012, "message": "Model does not exist. Please check it carefully.", "data": None}),
    "LiteLLM": (
        400, openai("/embeddings: Invalid model name passed in model=bge. Call `/v1/models` to view available models"),
    ),
}  # fmt: skip

#: Too early, or too often.
NOT_NOW: dict[str, tuple[int, Any]] = {
    "llama.cpp, loading": (503, llama_cpp("Loading model", 503, "unavailable_error")),
    "LM Studio, none loaded": (
        400, {"error": "No models loaded. Please load a model in the developer page or use the 'lms load' command."},
    ),
    "LM Studio, unloaded": (400, {"error": "Model is unloaded."}),
    "LM Studio, crashed": (400, {"error": "The model has crashed without additional information. (Exit code: null)"}),
    "Ollama, full": (503, openai("server busy, please try again.  maximum pending requests exceeded", "api_error")),
    "TEI, full": (429, tei("Model is overloaded", "Overloaded", 429)),
    "TEI, unwell": (503, tei("unhealthy", "Unhealthy", 503)),
    "TEI, its back end": (424, tei("CUDA_ERROR_ILLEGAL_ADDRESS", "Backend", 424)),
    "OpenAI, rate": (
        429,
        openai("Rate limit reached for text-embedding-3-small in organization org-x on tokens per min (TPM): Limit 1000000, "
               "Used 999910, Requested 1200. Please try again in 66ms.", "tokens", "rate_limit_exceeded"),
    ),
    "OpenAI, quota": (
        429,
        openai("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota",
               "insufficient_quota"),
    ),
    "SiliconFlow, rate": (403, "Request was rejected due to rate limiting. If you want more, please contact us."),
    "Hugging Face": (503, {"error": "Model BAAI/bge-m3 is currently loading", "estimated_time": 20.0}),
    "vLLM, its engine": (500, old_vllm("EngineCore encountered an issue. See stack trace (above) for the root cause.",
                                       "InternalServerError", 500)),
}  # fmt: skip

NO_BASE64: dict[str, tuple[int, Any]] = {
    "vLLM, older": (400, old_vllm("base64 encoding is not currently supported")),
    "pydantic": (
        422,
        {"detail": [{"type": "literal_error", "loc": ["body", "encoding_format"], "msg": "Input should be 'float'",
                     "input": "base64"}]},
    ),
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with embedding_server() as running:
        yield running


@pytest.fixture
def encoder(server: EmbeddingServer) -> Iterator[RemoteEncoder]:
    opened = open_encoder(f"{server.url}#BAAI/bge-m3", max_tokens=64)
    assert isinstance(opened, RemoteEncoder)
    server.requests.clear()
    yield opened
    opened.close()


def expected(texts: list[str]) -> Any:
    truth = HashEncoder(SIZE)
    return truth.encode(truth.tokenize(texts))


def rows_of(encoder: RemoteEncoder, texts: list[str]) -> list[Row]:
    with closing(Batcher(encoder)) as batcher:
        return batcher.submit(encoder.tokenize(texts)).result(timeout=30)


@pytest.mark.parametrize("who", TOO_LONG)
def test_a_text_that_is_too_long_fails_alone(encoder: RemoteEncoder, server: EmbeddingServer, who: str) -> None:
    server.judge = lambda body: TOO_LONG[who] if any("long" in text for text in body["input"]) else None
    texts = ["a", "b", "a long one", "c", "d"]
    rows = rows_of(encoder, texts)
    assert [isinstance(row, EncodingFailed) for row in rows] == [False, False, True, False, False]
    assert encoder.limits.texts == MAX_TEXTS, "nobody said that these were too many"
    server.requests.clear()
    with pytest.raises(EncodingFailed):
        encoder.encode(encoder.tokenize(texts))
    assert len(server.requests) == 1, "a batch that is too large would be asked for in parts"


@pytest.mark.parametrize("who", TOO_MANY)
def test_more_texts_than_a_server_takes_are_asked_for_in_parts(
    encoder: RemoteEncoder, server: EmbeddingServer, who: str
) -> None:
    status, body, learned = TOO_MANY[who]
    server.judge = lambda asked: (status, body) if len(asked["input"]) > MOST else None
    texts = [f"text number {number}" for number in range(24)]
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(texts)), expected(texts), atol=1e-6)
    assert encoder.limits.texts is not None
    assert encoder.limits.texts <= learned
    server.requests.clear()
    assert not any(isinstance(row, Exception) for row in rows_of(encoder, texts))
    assert max(len(request["input"]) for request in server.requests) <= MOST


@pytest.mark.parametrize("who", TOO_MUCH)
def test_more_text_than_a_server_takes_is_asked_for_in_parts(
    encoder: RemoteEncoder, server: EmbeddingServer, who: str
) -> None:
    server.judge = lambda body: TOO_MUCH[who] if sum(map(len, body["input"])) > 2_000 else None
    texts = [f"text number {number} " * 20 for number in range(24)]
    before = encoder.limits
    np.testing.assert_allclose(encoder.encode(encoder.tokenize(texts)), expected(texts), atol=1e-6)
    assert encoder.limits.tokens < before.tokens
    assert encoder.limits.texts == before.texts
    server.requests.clear()
    assert not any(isinstance(row, Exception) for row in rows_of(encoder, texts))
    assert all(sum(map(len, request["input"])) <= 2_000 for request in server.requests), "it has been learned"


@pytest.mark.parametrize("who", TOO_MUCH)
def test_a_text_that_is_too_much_alone_fails_alone(encoder: RemoteEncoder, server: EmbeddingServer, who: str) -> None:
    server.judge = lambda body: TOO_MUCH[who] if any("long" in text for text in body["input"]) else None
    rows = rows_of(encoder, ["a", "b", "a long one", "c"])
    assert [isinstance(row, EncodingFailed) for row in rows] == [False, False, True, False]


@pytest.mark.parametrize("who", NO_MODEL)
def test_a_mistyped_model_is_said_at_the_start_with_those_that_are_served(server: EmbeddingServer, who: str) -> None:
    server.judge = lambda body: NO_MODEL[who]
    with pytest.raises(ModelUnavailable, match=r"check the model's name after #: it serves BAAI/bge-m3$"):
        open_encoder(f"{server.url}#bge")


@pytest.mark.parametrize("who", NO_MODEL)
def test_a_model_that_is_served_no_longer_costs_no_text(
    encoder: RemoteEncoder, server: EmbeddingServer, who: str
) -> None:
    tokenized = encoder.tokenize(["a", "b"])
    server.judge = lambda body: NO_MODEL[who]
    with pytest.raises(Unavailable, match="check the model's name"):
        encoder.encode(tokenized)
    assert len(server.requests) == 1


@pytest.mark.parametrize("who", NOT_NOW)
def test_a_server_that_is_not_ready_costs_one_request_and_no_text(
    encoder: RemoteEncoder, server: EmbeddingServer, who: str
) -> None:
    with closing(Batcher(encoder)) as batcher:
        server.requests.clear()
        server.judge = lambda body: NOT_NOW[who]
        rows = batcher.submit(encoder.tokenize(["a", "b", "c"])).result(timeout=30)
    assert all(isinstance(row, Unavailable) and "check the key" not in str(row) for row in rows)
    assert len(server.requests) == 1
    with pytest.raises(Unavailable):
        open_encoder(f"{server.url}#BAAI/bge-m3")


@pytest.mark.parametrize("who", NO_BASE64)
def test_a_server_that_knows_only_numbers_is_asked_for_base64_once(server: EmbeddingServer, who: str) -> None:
    server.judge = lambda body: NO_BASE64[who] if "encoding_format" in body else None
    server.as_numbers = True
    with closing(open_encoder(server.url, max_tokens=64)) as encoder:
        for texts in (["a", "b"], ["c"], ["d"]):
            np.testing.assert_allclose(encoder.encode(encoder.tokenize(texts)), expected(texts), atol=1e-6)
    assert sum("encoding_format" in request for request in server.requests) == 1


def test_a_text_about_base64_is_no_server_without_it(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    server.judge = lambda body: (400, openai("no base64 here, please")) if "base64" in body["input"][0] else None
    with pytest.raises(EncodingFailed, match="no base64 here"):
        encoder.encode(encoder.tokenize(["base64"]))
    server.requests.clear()
    encoder.encode(encoder.tokenize(["a"]))
    assert server.requests[0]["encoding_format"] == "base64"


def test_what_a_server_repeats_of_a_text_is_not_its_own_word(encoder: RemoteEncoder, server: EmbeddingServer) -> None:
    text = "rate limit, batch size 2 > maximum allowed batch size 1, model not found, no models loaded"
    server.judge = lambda body: (
        (
            422,
            {
                "detail": [
                    {"type": "string_type", "loc": ["body", "input", 0], "msg": "bad string", "input": body["input"]}
                ]
            },
        )
        if text in body["input"]
        else None
    )
    rows = rows_of(encoder, ["a", text, "b"])
    assert [isinstance(row, EncodingFailed) for row in rows] == [False, True, False]
    assert encoder.limits.texts == MAX_TEXTS
    assert "bad string" in str(rows[1])


def test_vectors_are_the_same_whichever_way_they_were_asked_for(
    encoder: RemoteEncoder, server: EmbeddingServer
) -> None:
    texts = [f"text number {number}" for number in range(24)]
    whole = stacked(rows_of(encoder, texts), SIZE)
    server.judge = lambda body: TOO_MUCH["nginx"] if len(body["input"]) > 3 else None
    np.testing.assert_array_equal(stacked(rows_of(encoder, texts), SIZE), whole)
