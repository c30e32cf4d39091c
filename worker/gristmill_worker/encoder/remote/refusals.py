"""What a server means by a refusal: whose fault it is, by its status and its own words.

Servers agree on little: llama.cpp and Ollama refuse a text that is too long with 500, LM Studio says 400 while no model is
loaded, and what one means by "batch size" is another's context. Words decide, where they are known; else the status: 400,
413 and 422 blame the texts, everything else is the server's fault. The test of this module quotes what each says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import httpx

from gristmill.retry_after import retry_after_s
from gristmill_schemas.errors import EncodingFailed, GristmillError, Unavailable

#: Statuses by which a server may blame a text: malformed, too large, unprocessable.
_BLAMES_TEXT: Final = frozenset({400, 413, 422})
#: What was asked for may be the cause: an internal error, or TEI's failing back end.
_MAY_BE_THE_REQUEST: Final = frozenset({424, 500})
#: One text is longer than the model's window.
_TOO_LONG: Final = re.compile(
    r"maximum (context|model|input|sequence) length|must have less than \d+ (tokens|characters)|"
    r"(longer|larger) than the (model|max)|exceeds? (the )?(available|maximum|max|model|context|n_ctx)\b|"
    r"too large to process|exceed_context_size|context_length_exceeded|(input|prompt) (is )?too long",
    re.IGNORECASE,
)
#: The window that such a refusal names.
_WINDOW: Final = re.compile(
    r"(?:context length(?: is)?|less than|batch size:|maximum allowed length) ?\(?(\d{1,8})(?: tokens|\))",
    re.IGNORECASE,
)
#: The request holds too many texts. Not "input too long", which blames one.
_TOO_MANY: Final = re.compile(
    r"batch[ _-]?size|(array|list|batch) (is )?too (long|large)|too many (inputs|texts|items|strings)|"
    r"(at most|maximum( of| number of)?|more than) \d* ?(inputs|texts|items|strings|elements|requests)|"
    r"number of (inputs|texts|items)|input数组",
    re.IGNORECASE,
)
#: The request holds too many tokens or bytes, in however many texts.
_TOO_MUCH: Final = re.compile(
    r"tokens per (request|batch|submitted batch)|too many tokens (in batch|overall)|(entity|payload|body) (is )?too large|"
    r"length limit exceeded",
    re.IGNORECASE,
)
#: The most texts that such a refusal names.
_STATED: Final = re.compile(
    r"(?:maximum allowed batch size|maximum batch size|batch size limit(?: is)?|number of inputs is|maximum length|at most|"
    r"maximum of|more than|larger than|不得超过|不能超过|<=|>)\D{0,8}(\d{1,6})",
    re.IGNORECASE,
)
#: The server is well, and serves no such model, or none that embeds.
_NO_MODEL: Final = re.compile(
    r"model_not_found|\bmodels?\b.{0,200}?(does not exist|not found)|(unknown|invalid|no such) model|"
    r"does not support embeddings|model is not embedding",
    re.IGNORECASE | re.DOTALL,
)
#: Nothing is wrong with what was asked: it came too early, or too often.
_NOT_NOW: Final = re.compile(
    r"no models? (is |are )?loaded|loading model|model (is |has )?(been |currently |still )?(loading|unloaded|crashed)|"
    r"overloaded|rate.?limit|too many requests|quota|too busy|server busy|try again later",
    re.IGNORECASE,
)
#: What to look at, by status.
_ADVICE: Final = {
    401: "check the key (GRISTMILL_REMOTE_API_KEY)",
    403: "check the key (GRISTMILL_REMOTE_API_KEY) and what it may do",
    404: "check the address, which ends in /v1 as a rule, and the model's name after #",
    405: "check the address, which ends in /v1 as a rule",
}
#: Where in an answer a server's own words are. Other keys may repeat what it was sent, which has words of its own.
_SAYS: Final = ("error", "errors", "message", "msg", "detail", "type", "error_type", "code", "loc")


class TooLong(EncodingFailed):
    """A text is longer than the model's window.

    Attributes:
        window: tokens, special ones included, that it may have, where the server says so.
    """

    def __init__(self, message: str, *, window: int | None = None) -> None:
        self.window = window
        super().__init__(message)


class BatchRefused(EncodingFailed):
    """A request holds too much, and each of its texts may be fine.

    Attributes:
        counted: whether it holds too many texts; else too many tokens or bytes.
        most: the most texts that a request may hold, where the server says so.
    """

    def __init__(self, message: str, *, counted: bool, most: int | None = None) -> None:
        self.counted, self.most = counted, most
        super().__init__(message)


class NoSuchModel(Unavailable):
    """The server does not serve this model, or not for embeddings."""


def refusal(response: httpx.Response) -> GristmillError:
    """The error that an answer without vectors means: `EncodingFailed` blames the texts, `Unavailable` the server.

    Some gateways refuse with 200 and words; that is read as 400.
    """
    words = said(response)
    status = _status(response)
    reason = f"{response.url}: {response.status_code} {response.reason_phrase}: {words[:300]}"
    if status in _BLAMES_TEXT or status == httpx.codes.INTERNAL_SERVER_ERROR:
        if status in _BLAMES_TEXT and _TOO_MUCH.search(words):
            return BatchRefused(reason, counted=False)
        if _TOO_LONG.search(words):
            stated = _WINDOW.search(words)
            return TooLong(reason, window=int(stated[1]) if stated else None)
        if status in _BLAMES_TEXT and _TOO_MANY.search(words):
            stated = _STATED.search(words)
            return BatchRefused(reason, counted=True, most=int(stated[1]) if stated else None)
    return _not_the_texts(response, words, reason)


def _not_the_texts(response: httpx.Response, words: str, reason: str) -> GristmillError:
    status = _status(response)
    if 400 <= status < 500 and _NOT_NOW.search(words):
        return Unavailable(reason, retry_after_s(response.headers))
    if (status in _BLAMES_TEXT or status in (404, 501)) and _NO_MODEL.search(words):
        return NoSuchModel(f"{reason}; check the model's name after #", retry_after_s(response.headers))
    if status in _BLAMES_TEXT:
        return EncodingFailed(reason)
    if response.has_redirect_location:
        return Unavailable(f"{reason}; it has moved: use {response.headers['location']} as its address")
    advice = _ADVICE.get(status)
    return Unavailable(
        f"{reason}; {advice}" if advice else reason,
        retry_after_s(response.headers),
        may_be_the_request=status in _MAY_BE_THE_REQUEST,
    )


def _status(response: httpx.Response) -> int:
    return httpx.codes.BAD_REQUEST if response.is_success else response.status_code


def said(response: httpx.Response) -> str:
    """A server's own words, without what it repeats of the request."""
    try:
        words = "; ".join(words_in(response.json()))
    except ValueError:
        words = ""
    return words or response.text.strip() or response.reason_phrase


def words_in(value: Any) -> Iterator[str]:
    """What an answer says in its own words."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from words_in(each)
    elif isinstance(value, dict):
        for key in _SAYS:
            yield from words_in(value.get(key))
