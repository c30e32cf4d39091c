"""The reranker on another machine: any server with `/rerank` (TEI, vLLM, SGLang, infinity, Cohere, Jina).

They agree on a query and documents, and on little else:

    TEI                       {"query", "texts"}                → [{"index", "score"}, …]
    SGLang                    {"model", "query", "documents"}   → [{"index", "score", …}, …], takes "instruct"
    vLLM, Cohere, Jina …      {"model", "query", "documents"}   → {"results": [{"index", "relevance_score"}, …]}
    Gristmill                 the same, takes "instruct" where its model does, and cuts only where "truncate" asks for it

Which it is, a first request finds out. Servers make their own pairs and cut them silently, so of a long document it is
estimated whether all of it was read; Gristmill's says.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Final

import httpx
import numpy as np

from gristmill_schemas import EncoderInfo, ModelTask, Pooling
from gristmill_schemas.errors import EncodingFailed, ModelUnavailable, Unavailable
from gristmill_schemas.redaction import without_secrets
from gristmill_worker.encoder.base import REMOTE
from gristmill_worker.encoder.hash_encoder import count_tokens
from gristmill_worker.encoder.remote.open import open_client
from gristmill_worker.encoder.remote.refusals import BatchRefused, refusal
from gristmill_worker.reranker.base import Expired, Scores, check_time, scored
from gristmill_worker.reranker.recipe import ROW

#: Documents per request; TEI's default limit is 32.
_MAX_TEXTS: Final = 32
_IN_FLIGHT: Final = 4
#: What servers cut pairs at, as a rule, where nothing else is known.
_WINDOW: Final = 8_192
#: A document's score, and whether the server says that it read only a part of it.
_Result = tuple[float, bool]
_PROBE: Final = ("What grinds grain?", ["A mill grinds grain into flour.", "A ship sails."])


class RemoteReranker:
    """See `Reranker`. Several requests run at once; the server batches across them."""

    device = REMOTE
    dtype = "float32"
    sick = None

    def __init__(self, client: httpx.Client, name: str, max_tokens: int | None = None) -> None:
        """Take over a client and ask the server a first question.

        Raises:
            Unavailable: the server is away, or answers what is no answer.
            ModelUnavailable: it serves no such reranker.
        """
        self._client, self._name = client, name
        self._path, self._texts_key, self._instructs, self._is_ours = "rerank", "documents", False, False
        self._threads = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="gristmill-rerank")
        self._lock = Lock()
        self._since: dict[int, float] = {}
        self._most = _MAX_TEXTS
        self._done = 0
        self._find_out()
        address = str(client.base_url).rstrip("/")
        self.info = EncoderInfo(
            model=f"{address}#{name}" if name else address,
            task=ModelTask.RERANKING,
            digest="remote-reranker-" + hashlib.sha256((name or address).encode()).hexdigest()[:16],
            pooling=Pooling.MEAN,
            dimensions=ROW,
            normalize=False,
            max_tokens=max_tokens or _WINDOW,
            instruction_aware=self._instructs,
        )

    @property
    def busy_since(self) -> float | None:
        """See `Reranker.busy_since`."""
        with self._lock:
            return min(self._since.values(), default=None)

    def score(
        self, query: str, documents: Sequence[str], instruction: str | None = None, expired: Expired = lambda: False
    ) -> Scores:
        """See `Reranker.score`; `Unavailable` comes from here as the server gives it."""
        starts = range(0, len(documents), self._most)
        parts = [documents[start : start + self._most] for start in starts]

        def one(part: Sequence[str]) -> list[_Result]:
            check_time(expired)
            return self._scores(query, part, instruction)

        found = [result for results in self._threads.map(one, parts) for result in results]
        room = self.info.max_tokens - count_tokens(query)
        self._done += len(found)
        whole = [
            not truncated if self._is_ours else count_tokens(document) <= room
            for document, (_, truncated) in zip(documents, found, strict=True)
        ]
        return scored([score for score, _ in found], whole)

    def _find_out(self) -> None:
        """Where `/rerank` is, what the server wants texts to be called, and whether it takes instructions."""
        query, texts = _PROBE
        try:
            answer = self._found(query, texts)
        except EncodingFailed as first:
            self._texts_key = "texts"
            try:
                answer = self._found(query, texts)
            except EncodingFailed as error:
                raise ModelUnavailable(
                    f"{self._client.base_url}: expected a server with /rerank, and it refuses a first question: {error} "
                    f"(and with `documents`: {first})"
                ) from error
        self._read(answer, len(texts))
        told = answer.json()
        meta = told.get("meta") if isinstance(told, dict) else None
        takes = meta.get("instruction_aware") if isinstance(meta, dict) else None
        self._is_ours = takes is not None
        # SGLang alone answers with a bare list to `documents`.
        self._instructs = takes is True or (self._texts_key == "documents" and isinstance(told, list))

    def _found(self, query: str, texts: Sequence[str]) -> httpx.Response:
        """The answer of the first place below the address that knows of reranking: TEI has it at the root, SGLang in /v1."""
        root = self._client.base_url.join("/")
        places = [self._path, str(root.join("rerank")), str(root.join("v1/rerank"))]
        for self._path in places[:-1]:
            response = self._post(self._body(query, texts, None))
            if response.status_code != httpx.codes.NOT_FOUND:
                return _checked(response)
        self._path = places[-1]
        return _checked(self._post(self._body(query, texts, None)))

    def _scores(self, query: str, texts: Sequence[str], instruction: str | None) -> list[_Result]:
        try:
            return self._read(self._ask(query, texts, instruction), len(texts))
        except BatchRefused as error:
            if len(texts) == 1:
                raise EncodingFailed(str(error)) from error
            middle = (len(texts) + 1) // 2
            self._most = max(1, min(self._most, error.most or middle))
            parts = (texts[:middle], texts[middle:])
            return [result for part in parts for result in self._scores(query, part, instruction)]

    def _ask(self, query: str, texts: Sequence[str], instruction: str | None) -> httpx.Response:
        return _checked(self._post(self._body(query, texts, instruction)))

    def _body(self, query: str, texts: Sequence[str], instruction: str | None) -> dict[str, Any]:
        body: dict[str, Any] = {"query": query, self._texts_key: list(texts)}
        if self._texts_key == "texts":
            return body | {"raw_scores": False, "truncate": True}
        named = {"model": self._name} if self._name else {}
        named |= {"truncate": "END"} if self._is_ours else {}
        return body | named | ({"instruct": instruction} if self._instructs and instruction is not None else {})

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        key = id(body)
        with self._lock:
            self._since[key] = time.monotonic()
        try:
            return self._client.post(self._path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{self._client.base_url} cannot be reached: {str(error) or type(error).__name__}; check that the server "
                "runs there"
            ) from without_secrets(error)
        finally:
            with self._lock:
                del self._since[key]

    def _read(self, response: httpx.Response, texts: int) -> list[_Result]:
        try:
            answer = response.json()
            results = answer if isinstance(answer, list) else answer["results"]
            by_index = {int(each["index"]): _result(each) for each in results}
            found = [by_index[index] for index in range(texts)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Unavailable(
                f"{response.url}: expected a score for each of {texts} documents, got {response.text[:200]!r} ({error}); "
                "check the address, and that it serves a reranker",
                may_be_the_request=True,
            ) from without_secrets(error)
        if not np.isfinite([score for score, _ in found]).all():
            raise Unavailable(f"{response.url}: expected finite scores, got {found[:8]}")
        return found

    def status(self) -> dict[str, Any]:
        """See `Reranker.status`."""
        return {
            "model": self.info.model,
            "model_digest": self.info.digest,
            "task": self.info.task,
            "device": self.device,
            "dtype": self.dtype,
            "busy": len(self._since),
            "texts": self._done,
        }

    def close(self) -> None:
        """Finish what is under way and hang up."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._client.close()


def _checked(response: httpx.Response) -> httpx.Response:
    if not response.is_success:
        raise refusal(response)
    return response


def _result(told: Any) -> _Result:
    score = told["relevance_score"] if "relevance_score" in told else told["score"]
    return float(score), bool(told.get("truncated"))


def open_remote(url: str, *, api_key: str | None = None, max_tokens: int | None = None) -> RemoteReranker:
    """Connect to `http(s)://HOST[/v1]#NAME`.

    Raises:
        Unavailable: the server is away, overloaded, or answers what is no answer.
        ModelUnavailable: it does not rerank.
        InvalidInput: it is no such URL.
    """
    base, _, name = url.partition("#")
    client = open_client(base, api_key)
    try:
        return RemoteReranker(client, name, max_tokens)
    except Exception:
        client.close()
        raise
