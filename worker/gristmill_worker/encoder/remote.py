"""The encoder on another machine: any server with an OpenAI-compatible `/v1/embeddings` (SGLang, vLLM, TEI, infinity).

Such servers drop instructions and prefixes, so templates are applied here, before the text leaves. A batch is cut into
requests by estimated tokens and count; a few travel at once; answers come as base64 floats, never as JSON numbers,
unless the server knows only those. Overload and network faults are tried again a bounded number of times, as
`Retry-After` asks.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import httpx
import numpy as np
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gristmill_schemas import EncoderInfo, Pooling
from gristmill_schemas.errors import EncodingFailed, InvalidInput, ModelUnavailable, Unavailable
from gristmill_worker.batching.planner import plan
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans, chunk_spans, counting_splitter
from gristmill_worker.encoder.model.families import family_of
from gristmill_worker.encoder.model.recipe import Overrides

_NO_IDS: Final = np.empty(0, dtype=np.int32)
#: Requests in flight; servers batch across requests, and more than a few only queue there.
CONCURRENCY: Final = 8
#: Texts per request; TEI's default limit is 32.
MAX_TEXTS: Final = 32
ATTEMPTS: Final = 6
#: Longest pause between two attempts, whatever the server asks for.
MAX_WAIT_S: Final = 30.0
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


def estimate_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand: one per CJK character, one per four other bytes."""
    if text.isascii():
        return len(text) // 4 + 3
    wide = sum(character > "\u2e7f" for character in text)
    return wide + (len(text) - wide) // 3 + 3


class RemoteEncoder:
    """See `Encoder`. Requests run on threads of its own, so `launch` returns at once."""

    device = "remote"
    dtype = "float32"

    def __init__(
        self, client: httpx.Client, name: str, info: EncoderInfo, *, budget_tokens: int = 8_192, wait_s: float = 0.5
    ) -> None:
        """Speak to a server.

        Args:
            client: its base URL ends in `/v1`; it carries the key and the timeouts.
            name: the model as the server calls it.
            info: what the model is; `open_remote` finds out.
            budget_tokens: most estimated tokens per request.
            wait_s: first pause before another attempt; it doubles, with jitter.
        """
        self.info = info
        self.budget_tokens = budget_tokens * CONCURRENCY
        self._request_tokens = budget_tokens
        self._client, self._name, self._wait_s = client, name, wait_s
        self._threads = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="gristmill-remote")

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Estimate the cost only; the server tokenizes, and is told to refuse what is too long, not to cut it."""
        return [TokenizedText(text, _NO_IDS, estimate_tokens(text)) for text in texts]

    def chunk(self, text: str, size: int, overlap: int) -> Spans:
        """Spans of at most `size` estimated tokens; see the protocol."""
        size = min(size, self.info.max_tokens)
        if estimate_tokens(text) <= size:
            return [(0, len(text))]
        return chunk_spans(text, counting_splitter(estimate_tokens, size, overlap)) or [(0, len(text))]

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """See `Encoder.encode`."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """Send the requests; the returned call gathers the answers.

        Raises:
            Unavailable: the server stays away or overloaded after all attempts.
            EncodingFailed: it refuses the input or answers nonsense.
        """
        groups = [
            part[at : at + MAX_TEXTS]
            for part in plan([item.n_tokens for item in batch], self._request_tokens)
            for at in range(0, len(part), MAX_TEXTS)
        ]
        sent = [self._threads.submit(self.request, [batch[index].text for index in group]) for group in groups]
        return lambda: self._gather(len(batch), groups, sent)

    def _gather(self, rows: int, groups: list[list[int]], sent: list[Future[Vectors]]) -> Vectors:
        out = np.empty((rows, self.info.dimensions), dtype=np.float32)
        for group, future in zip(groups, sent, strict=True):
            vectors = future.result()
            if vectors.shape[1] != self.info.dimensions:
                raise EncodingFailed(
                    f"{self._name}: expected {self.info.dimensions} dimensions from the server, got {vectors.shape[1]}"
                )
            out[group] = vectors
        if self.info.normalize:
            out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
        return out

    def request(self, texts: Sequence[str]) -> Vectors:
        """One request, tried again where that helps; float32 (B, D) as the server sent them."""
        retrying = Retrying(
            retry=retry_if_exception_type(Unavailable),
            stop=stop_after_attempt(ATTEMPTS),
            wait=_Wait(self._wait_s),
            reraise=True,
        )
        return retrying(post, self._client, self._name, texts)

    def close(self) -> None:
        """Finish what is under way and hang up."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._client.close()


def post(client: httpx.Client, name: str, texts: Sequence[str]) -> Vectors:
    """One attempt at one request; float32 (B, D).

    Raises:
        Unavailable: the server is away or overloaded: worth another attempt.
        EncodingFailed: it refuses the input or answers nonsense.
    """
    body = {"model": name, "input": list(texts), "encoding_format": "base64"}
    try:
        response = client.post("embeddings", json=body)
    except httpx.TransportError as error:
        raise Unavailable(f"{client.base_url} cannot be reached: {error}") from error
    if response.status_code in _TRANSIENT:
        raise Unavailable(f"{client.base_url}: {_reason(response)}", _retry_after(response))
    if response.is_error:
        raise EncodingFailed(f"{client.base_url}: {_reason(response)}")
    return _vectors(response, len(texts))


class _Wait(wait_random_exponential):
    """As long as the server asks, else exponentially longer with jitter; never above the bound."""

    def __init__(self, first_s: float) -> None:
        super().__init__(multiplier=first_s, max=MAX_WAIT_S)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, Unavailable) and error.retry_after_s is not None:
            return min(error.retry_after_s, MAX_WAIT_S)
        return super().__call__(retry_state)


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        return None


def _reason(response: httpx.Response) -> str:
    return f"{response.status_code} {response.reason_phrase}: {response.text[:300].strip()}"


def _vectors(response: httpx.Response, rows: int) -> Vectors:
    try:
        data = sorted(response.json()["data"], key=lambda item: item["index"])
        vectors = np.stack([_vector(item["embedding"]) for item in data])
    except (KeyError, TypeError, ValueError) as error:
        raise EncodingFailed(f"{response.url}: expected OpenAI embeddings, got {response.text[:200]!r}") from error
    if len(vectors) != rows or not np.isfinite(vectors).all():
        raise EncodingFailed(f"{response.url}: expected {rows} finite vectors, got {len(vectors)}")
    return vectors


def _vector(embedding: Any) -> Vectors:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4").astype(np.float32, copy=False)
    return np.asarray(embedding, dtype=np.float32)


def open_remote(
    url: str, *, overrides: Overrides | None = None, api_key: str | None = None, budget_tokens: int | None = None
) -> RemoteEncoder:
    """Connect to `http(s)://HOST/v1#MODEL`; without `#MODEL` the server must serve exactly one.

    The digest is that of the model's name: servers do not show their weights, so who names the model vouches for it.

    Raises:
        ModelUnavailable: the server cannot be reached, or does not serve the model.
        InvalidInput: it serves several, and none was named.
    """
    base, _, name = url.partition("#")
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    client = httpx.Client(base_url=base.rstrip("/") + "/", headers=key, timeout=httpx.Timeout(300.0, connect=5.0))
    try:
        name = name or _only_model(client)
        info = _info(name, _probe(client, name), overrides or Overrides())
    except Exception:
        client.close()
        raise
    return RemoteEncoder(client, name, info, budget_tokens=budget_tokens or 8_192)


def _probe(client: httpx.Client, name: str) -> int:
    """The size of the model's vectors, found by asking for one."""
    try:
        return int(post(client, name, ["probe"]).shape[1])
    except (Unavailable, EncodingFailed) as error:
        raise ModelUnavailable(f"{name} at {client.base_url}: {error}") from error


def _info(name: str, dimensions: int, overrides: Overrides) -> EncoderInfo:
    family = family_of(name)
    fields: dict[str, Any] = {"templates": family.templates} if family else {}
    if overrides.templates:
        fields["templates"] = overrides.templates
    return EncoderInfo(
        model=name,
        digest="remote-" + hashlib.sha256(name.encode()).hexdigest()[:25],
        pooling=overrides.pooling or (family.pooling if family else Pooling.MEAN),
        dimensions=dimensions,
        min_dimensions=family.min_dimensions if family else None,
        normalize=overrides.normalize is not False,
        max_tokens=overrides.max_tokens or (family and family.max_tokens) or 8_192,
        instruction_aware=bool(family and family.instruction_aware),
        **fields,
    )


def _only_model(client: httpx.Client) -> str:
    try:
        response = client.get("models")
        names = [str(item["id"]) for item in response.raise_for_status().json()["data"]]
    except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(f"{client.base_url}models: {error}; name the model: URL#MODEL") from error
    if len(names) != 1:
        raise InvalidInput(f"model: {client.base_url} serves {names}; say which: URL#MODEL")
    return names[0]
