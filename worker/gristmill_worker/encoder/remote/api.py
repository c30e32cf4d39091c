"""One model of one server: requests to `/v1/embeddings`, and what came back as vectors or as an error that says whose fault.

Answers come as base64 floats, never as JSON numbers, unless the server knows only those. Nothing waits or is tried again
here, since whoever has the work knows how long it may wait.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np

from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_schemas.redaction import without_secrets
from gristmill_worker.encoder.base import Vectors
from gristmill_worker.encoder.remote.refusals import refusal, words_in

log = logging.getLogger(__name__)

#: How servers that know only JSON numbers refuse base64: by the field's name, or as older vLLM by the format's.
_FORMAT: Final = re.compile(r"encoding_format|base64", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server made of some texts."""

    #: float32 (B, D), as it sent them: finite, one per text, in order.
    vectors: Vectors
    #: Tokens that it counted in all of them together; None where it says nothing that could be a count.
    tokens: int | None


class Api:
    """One model of one server. Safe to call from many threads."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        """Take over a client.

        Args:
            client: its base URL ends in `/v1`; it carries the key and the timeouts.
            name: the model as the server calls it.
        """
        self.name = name
        self._client = client
        self._base64 = True

    @property
    def address(self) -> str:
        """The base URL, without a login."""
        return str(self._client.base_url).rstrip("/")

    def embed(self, texts: Sequence[str]) -> Answer:
        """One request.

        Raises:
            Unavailable: the server is away, overloaded, or answers what is no answer; `NoSuchModel` where it says so.
            EncodingFailed: it blames the texts; `BatchRefused` where there were only too many.
        """
        response = self._embeddings({"model": self.name, "input": list(texts)})
        try:
            with np.errstate(over="ignore"):
                answer = response.json()
                if not answer.get("data") and any(words_in(answer)):
                    raise refusal(response)
                return Answer(_vectors(answer, len(texts)), _tokens(answer))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise Unavailable(
                _no_answer(response, "OpenAI embeddings", error), may_be_the_request=True
            ) from without_secrets(error)

    def _embeddings(self, body: dict[str, Any]) -> httpx.Response:
        if not self._base64:
            return self._ask("POST", "embeddings", body)
        try:
            return self._ask("POST", "embeddings", {**body, "encoding_format": "base64"})
        except EncodingFailed as error:
            if not _FORMAT.search(str(error)):
                raise
            log.debug("%s: asked for JSON numbers instead of base64: %s", self.name, error)
        response = self._ask("POST", "embeddings", body)
        # Only now: had the texts been at fault, this would have been refused as well.
        self._base64 = False
        return response

    def models(self) -> list[str]:
        """Names of the models that the server says it serves.

        Raises:
            Unavailable: the server is away, or answers what is no list.
            EncodingFailed: it refuses to say.
        """
        response = self._ask("GET", "models")
        try:
            return [str(item["id"]) for item in response.json()["data"]]
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(_no_answer(response, "a list of models", error)) from without_secrets(error)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(
                f"{self._client.base_url} cannot be reached: {reason}; check that the server runs there"
            ) from without_secrets(error)
        if not response.is_success:
            raise refusal(response)
        return response


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


def _tokens(answer: Any) -> int | None:
    usage = answer.get("usage")
    counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return counted if type(counted) is int and counted > 0 else None
