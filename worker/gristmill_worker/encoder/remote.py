"""The encoder on another machine: any server with an OpenAI-compatible `/v1/embeddings` (SGLang, vLLM, TEI, infinity).

Such servers drop instructions and prefixes, so templates are applied here, before the text leaves. A launch is one request;
answers come as base64 floats, never as JSON numbers, unless the server knows only those.

Whose fault is it? Statuses 400, 413 and 422 blame the texts. Everything else that is not one finite vector of the right size
per text is the server's fault or that of what stands before it, and comes as `Unavailable`: nothing waits or is tried again
here, since whoever has the work knows how long it may wait.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import httpx
import numpy as np

from gristmill.proxies import Way
from gristmill.retry_after import retry_after_s
from gristmill_schemas import EncoderInfo, Pooling
from gristmill_schemas.errors import EncodingFailed, InvalidInput, ModelUnavailable, Unavailable
from gristmill_schemas.redaction import remember_url, without_secrets
from gristmill_worker.encoder.base import REMOTE, BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans, counted_chunks
from gristmill_worker.encoder.model.families import family_of
from gristmill_worker.encoder.model.recipe import Overrides

log = logging.getLogger(__name__)

_NO_IDS: Final = np.empty(0, dtype=np.int32)
#: Requests in flight; servers batch across requests, and more than a few only queue there.
IN_FLIGHT: Final = 8
#: Texts per request; TEI's default limit is 32.
MAX_TEXTS: Final = 32
#: Estimated tokens per request.
MAX_TOKENS: Final = 8_192
#: Seconds for one answer; a server that is loaded beyond that should say 429 or 503.
_ANSWER_S: Final = 120.0
_CONNECT_S: Final = 5.0
#: Statuses by which a server may blame a text: malformed, too large, unprocessable.
_BLAMES_TEXT: Final = frozenset({400, 413, 422})
#: How servers say that a request holds too many texts: TEI ("batch size 64 > maximum allowed batch size 32"), OpenAI
#: ("array too long"), gateways ("too many inputs", "at most 96 texts"). Not "input too long", which blames a text.
_TOO_MANY: Final = re.compile(
    r"batch[ _-]?size|(array|list|batch) (is )?too (long|large)|too many (inputs|texts|items|strings)|"
    r"(at most|maximum( of| number of)?|more than) \d* ?(inputs|texts|items|strings|elements)",
    re.IGNORECASE,
)
_STATED: Final = re.compile(
    r"(?:maximum allowed batch size|maximum batch size|batch size limit|at most|maximum of|more than|<=|>)\D{0,8}(\d{1,6})",
    re.IGNORECASE,
)
#: Longest window whose end is looked for, in tokens: what a server on a CPU reads in a while.
_PROBED_TOKENS: Final = 8_192
#: Cosine distance of what a server read as the same text. Texts of which half is different are hundreds of times further.
_SAME: Final = 1e-5
#: What to look at, by status.
_ADVICE: Final = {
    401: "check the key (GRISTMILL_REMOTE_API_KEY)",
    403: "check the key (GRISTMILL_REMOTE_API_KEY) and what it may do",
    404: "check the address, which ends in /v1 as a rule, and the model's name after #",
    405: "check the address, which ends in /v1 as a rule",
}


def estimate_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand: one per CJK character, one per four other bytes."""
    if text.isascii():
        return len(text) // 4 + 3
    wide = sum(character > "\u2e7f" for character in text)
    return wide + (len(text) - wide) // 3 + 3


class RemoteEncoder:
    """See `Encoder`. Requests run on threads of its own, so `launch` returns at once."""

    device = REMOTE
    dtype = "float32"

    def __init__(
        self,
        client: httpx.Client,
        name: str,
        info: EncoderInfo,
        *,
        budget_tokens: int = MAX_TOKENS,
        silent_window: int | None = None,
    ) -> None:
        """Speak to a server.

        Args:
            client: its base URL ends in `/v1`; it carries the key and the timeouts.
            name: the model as the server calls it.
            info: what the model is; `open_remote` finds out.
            budget_tokens: most estimated tokens per request.
            silent_window: tokens behind which it passes over the rest of a text without a word, if it does.
        """
        self._silent_window = silent_window
        self.info = info
        self.limits = BatchLimits(budget_tokens, texts=MAX_TEXTS, in_flight=IN_FLIGHT)
        self._client, self._name = client, name
        #: Most texts that the server takes in one request, once it has refused more.
        self._most: int | None = None
        # One more than bulk work keeps busy, so that a query does not wait for a thread.
        self._threads = ThreadPoolExecutor(IN_FLIGHT + 1, thread_name_prefix="gristmill-remote")

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Estimate the cost only: the server tokenizes.

        What is too long for it, it refuses. Where it cuts silently instead, a text that seems too long counts as truncated,
        so that its collection's policy decides, and receipts tell.
        """
        return [self._record(text) for text in texts]

    def _record(self, text: str) -> TokenizedText:
        count = estimate_tokens(text)
        cut = self._silent_window is not None and count > self._silent_window
        return TokenizedText(text, _NO_IDS, count, truncated=cut)

    def chunk(self, text: str, size: int, overlap: int) -> Spans:
        """Spans of at most `size` estimated tokens; see the protocol."""
        size = min(size, self.info.max_tokens, self._silent_window or size)
        if estimate_tokens(text) <= size:
            return [(0, len(text))]
        return counted_chunks(text, estimate_tokens, size, overlap) or [(0, len(text))]

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """See `Encoder.encode`."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """Send one request; the returned call waits for its answer.

        Raises:
            Unavailable: the server is away, overloaded, or answers what is no answer.
            EncodingFailed: it blames the texts.
        """
        if not batch:
            return lambda: np.empty((0, self.info.dimensions), dtype=np.float32)
        return self._threads.submit(self._request, [item.text for item in batch]).result

    def _request(self, texts: Sequence[str]) -> Vectors:
        vectors = self._posted(texts)
        if vectors.shape[1] != self.info.dimensions:
            raise Unavailable(
                f"{self._client.base_url}: expected vectors of {self.info.dimensions} dimensions, got {vectors.shape[1]}; "
                f"check that it still serves {self._name}"
            )
        if self.info.normalize:
            # In float64, where the square of a large float32 is still finite.
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
            vectors = np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
        return vectors

    def _posted(self, texts: Sequence[str]) -> Vectors:
        """The vectors of so many texts as one batch may hold, request by request where the server takes fewer."""
        most = self._most or len(texts)
        parts = [texts[at : at + most] for at in range(0, len(texts), most)]
        if len(parts) > 1:
            return np.concatenate([self._posted(part) for part in parts])
        try:
            return post(self._client, self._name, texts)
        except EncodingFailed as error:
            if len(texts) == 1 or not _TOO_MANY.search(str(error)):
                raise
            self._most = max(1, min(most, _stated(str(error)) or len(texts) // 2, len(texts) - 1))
            self.limits = replace(self.limits, texts=self._most)
            return self._posted(texts)

    def close(self) -> None:
        """Finish what is under way and hang up."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._client.close()


def _stated(reason: str) -> int | None:
    """The most texts that a refusal names, if it does."""
    found = _STATED.search(reason)
    return int(found[1]) if found else None


def post(client: httpx.Client, name: str, texts: Sequence[str]) -> Vectors:
    """One request; float32 (B, D) as the server sent them, finite, one per text.

    Raises:
        Unavailable: the server is away, overloaded, or answers what is no answer.
        EncodingFailed: it blames the texts.
    """
    body = {"model": name, "input": list(texts)}
    try:
        response = _ask(client, "POST", "embeddings", {**body, "encoding_format": "base64"})
    except EncodingFailed as error:
        if "encoding_format" not in str(error):
            raise
        # A server that knows only JSON numbers, and says so.
        response = _ask(client, "POST", "embeddings", body)
    try:
        with np.errstate(over="ignore"):
            return _vectors(response.json(), len(texts))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unavailable(
            _no_answer(response, "OpenAI embeddings", error), may_be_the_request=True
        ) from without_secrets(error)


def _ask(client: httpx.Client, method: str, path: str, body: object = None) -> httpx.Response:
    try:
        response = client.request(method, path, json=body)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise Unavailable(
            f"{client.base_url} cannot be reached: {reason}; check that the server runs there"
        ) from without_secrets(error)
    if response.is_success:
        return response
    reason = f"{response.url}: {response.status_code} {response.reason_phrase}: {response.text[:300].strip()}"
    if response.status_code in _BLAMES_TEXT:
        raise EncodingFailed(reason)
    if response.has_redirect_location:
        raise Unavailable(f"{reason}; it has moved: use {response.headers['location']} as its address")
    advice = _ADVICE.get(response.status_code)
    raise Unavailable(
        f"{reason}; {advice}" if advice else reason,
        retry_after_s(response.headers),
        may_be_the_request=response.status_code == httpx.codes.INTERNAL_SERVER_ERROR,
    )


def _no_answer(response: httpx.Response, expected: str, error: Exception) -> str:
    kind = response.headers.get("content-type", "no content type")
    return (
        f"{response.url}: expected {expected}, got {kind} ({error}): {response.text[:200]!r}; "
        "check the address, and whether a proxy answers in the server's place"
    )


def _vectors(answer: Any, rows: int) -> Vectors:
    """The vectors of an answer in the order of the texts, whatever order they came in."""
    data = sorted(answer["data"], key=lambda item: item["index"])
    indices = [item["index"] for item in data]
    if indices != list(range(rows)):
        raise ValueError(f"expected the indices 0 to {rows - 1}, each once, got {indices[:40]}")
    vectors = np.stack([_vector(item["embedding"]) for item in data])
    if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
        raise ValueError(f"expected {rows} finite vectors, got NaN, infinity or none")
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
        Unavailable: the server is away, overloaded, or answers what is no answer.
        ModelUnavailable: it refuses to encode one word with this model.
        InvalidInput: it serves several, and none was named.
    """
    base, _, name = url.partition("#")
    client = _open_client(base, api_key)
    try:
        name = name or _only_model(client)
        info = _info(client, name, overrides or Overrides())
        window = silent_window(client, name, info.max_tokens)
    except Exception:
        client.close()
        raise
    return RemoteEncoder(client, name, info, budget_tokens=budget_tokens or MAX_TOKENS, silent_window=window)


def _open_client(base: str, api_key: str | None) -> httpx.Client:
    """A client that logs and says its address without a login, which goes into a header like the key."""
    address = _address(base)
    login = httpx.BasicAuth(address.username, address.password) if address.userinfo else None
    key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    shown = address.copy_with(username=None, password=None, path=address.path.rstrip("/") + "/")
    timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
    way = Way(address.scheme, address.host, address.port or (443 if address.scheme == "https" else 80))
    return httpx.Client(base_url=shown, headers=key, auth=login, timeout=timeout, transport=way)


def _address(base: str) -> httpx.URL:
    remember_url(base)
    try:
        address = httpx.URL(base)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidInput(
            f"model: expected a URL such as http://host:8000/v1#NAME, got {base!r}", field="model"
        ) from without_secrets(error)
    if not address.host or address.query:
        raise InvalidInput(
            f"model: expected a URL such as http://host:8000/v1#NAME, with a host and without a query, got {base!r}; a key "
            "goes into GRISTMILL_REMOTE_API_KEY",
            field="model",
        )
    return address


def _probe(client: httpx.Client, name: str) -> int:
    """The size of the model's vectors, found by asking for one."""
    try:
        return int(post(client, name, ["probe"]).shape[1])
    except EncodingFailed as error:
        raise ModelUnavailable(f"{name}: {error}; check the model's name after #") from error


def silent_window(client: httpx.Client, name: str, max_tokens: int) -> int | None:
    """How many tokens the server reads of a text that is too long for it, where it says nothing about the rest.

    Two texts that begin alike, and then go on for as long, each in its own way, have one vector where only their beginning
    is read.

    Returns:
        At most a sixteenth too few, counted in short English words; None where the server refuses what is too long, or
        reads more than `max_tokens`. In the first case a warning says what to do.

    Raises:
        Unavailable: whatever it is sent, it gives one vector.
    """
    low, high = 0, min(max_tokens, _PROBED_TOKENS) * 9 // 8
    try:
        if not _reads_the_same(client, name, high):
            return None
        while high - low > max(1, high // 16):
            middle = (low + high) // 2
            low, high = (low, middle) if _reads_the_same(client, name, middle) else (middle, high)
    except EncodingFailed:
        return None  # it refuses, as it should
    except Unavailable as away:
        log.warning("%s: whether it cuts long texts silently could not be found out: %s", name, away)
        return None
    if not low:
        raise Unavailable(f"{name} at {client.base_url} gives different texts one vector; check what serves it")
    log.warning(
        "%s at %s reads about %d tokens of a text and passes over the rest without a word. Longer ones count as truncated "
        "here. Better have it refuse them (TEI: --auto-truncate false), or give it a larger window",
        name,
        client.base_url,
        low,
    )
    return low


def _reads_the_same(client: httpx.Client, name: str, words: int) -> bool:
    """Whether two texts have one vector that differ only behind so many words."""
    alike = "river " * words
    first, second = post(client, name, [alike + "copper " * words, alike + "winter " * words]).astype(np.float64)
    return 1 - float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-30) < _SAME


def _info(client: httpx.Client, name: str, overrides: Overrides) -> EncoderInfo:
    family = family_of(name)
    fields: dict[str, Any] = {"templates": family.templates} if family else {}
    if overrides.templates:
        fields["templates"] = overrides.templates
    return EncoderInfo(
        # As it was given, since that is the name by which applications ask for it; without a login.
        model=f"{str(client.base_url).rstrip('/')}#{name}",
        digest="remote-" + hashlib.sha256(name.encode()).hexdigest()[:25],
        pooling=overrides.pooling or (family.pooling if family else Pooling.MEAN),
        dimensions=_probe(client, name),
        min_dimensions=family.min_dimensions if family else None,
        normalize=overrides.normalize is not False,
        max_tokens=overrides.max_tokens or (family and family.max_tokens) or 8_192,
        instruction_aware=bool(family and family.instruction_aware),
        **fields,
    )


def _only_model(client: httpx.Client) -> str:
    try:
        response = _ask(client, "GET", "models")
    except EncodingFailed as error:
        raise ModelUnavailable(f"{error}; name the model: URL#MODEL") from error
    try:
        names = [str(item["id"]) for item in response.json()["data"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable(_no_answer(response, "a list of models", error)) from without_secrets(error)
    if len(names) != 1:
        raise InvalidInput(f"model: {client.base_url} serves {names}; say which: URL#MODEL")
    return names[0]
