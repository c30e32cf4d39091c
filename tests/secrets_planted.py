"""Every place that takes a secret, in every form; and whether one can be seen in a text."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st


def _encoded(secret: str) -> str:
    return quote(secret, safe="")


def _raw(secret: str) -> str:
    return secret


_WRITTEN: dict[str, Callable[[str], str]] = {"encoded": _encoded, "raw": _raw}
_REDIS = [
    "redis://app:{}@127.0.0.1:1/0", "redis://:{}@127.0.0.1:1/0", "redis://127.0.0.1:1/0?password={}",
    "redis://127.0.0.1:1/0?username=app&password={}&health_check_interval=5", "rediss://app:{}@127.0.0.1:1/0",
    "unix:///tmp/no.sock?password={}", "unix://app:{}@/tmp/no.sock", "sentinel://:{}@127.0.0.1:1/0?master_name=m",
    "sentinel://127.0.0.1:1/0?master_name=m&sentinel_password={}", "redis://:{}@127.0.0.1:port/0", "redis:/:{}@127.0.0.1",
    ":{}@127.0.0.1:1", "http://:{}@127.0.0.1:1", "redis://{}@127.0.0.1:1/0",
]  # fmt: skip
_QDRANT = [
    "http://app:{}@127.0.0.1:1", "https://app:{}@127.0.0.1:1/prefix", "https://:{}@127.0.0.1:1", "http://{}@127.0.0.1:1",
    "https://127.0.0.1:1?api_key={}", "ftp://app:{}@127.0.0.1:1", "http:/app:{}@127.0.0.1:1",
]  # fmt: skip
_KEYS = ["{}", " {}\n", "Bearer {}", "{}\nX-Other: 1", '"{}"', "{}é"]

#: Settings that take a secret, and how it is written there.
PLACES: list[tuple[str, str, Callable[[str], str]]] = [
    *[("redis_url", form, write) for form in _REDIS for write in _WRITTEN.values()],
    *[(name, form, write) for name in ("qdrant_url", "model") for form in _QDRANT for write in _WRITTEN.values()],
    *[(name, form, _raw) for name in ("qdrant_api_key", "remote_api_key") for form in _KEYS],
    *[("webhook_secret", form, _raw) for form in (*_KEYS, "whsec_{}", "whsec_{},whsec_QUJD")],
]


def secrets() -> st.SearchStrategy[str]:
    """Passwords as people and generators make them, and worse."""
    plain = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=7, max_size=40)
    nasty = st.text(st.sampled_from("@:/#?%&=;'\"\\+<>[]{}é中aB9"), min_size=7, max_size=40)
    # Begun in a way that no word of ours does: it would be found for another reason.
    return (plain | nasty).map(lambda secret: f"Z9~{secret}")


def planted() -> st.SearchStrategy[tuple[str, str, str]]:
    """A secret, the setting that it stands in, and that setting's value. Keys are of ASCII, or they are none."""
    places = st.tuples(secrets(), st.sampled_from(PLACES))
    real = places.filter(lambda both: both[0].isascii() or not both[1][0].endswith(("_key", "_secret")))
    return real.map(lambda both: (both[0], both[1][0], both[1][1].format(both[1][2](both[0]))))


def traces(secret: str, text: str) -> list[str]:
    """The forms in which a secret can be seen in a text."""
    users = ("app", "")
    logins = [base64.b64encode(f"{user}:{secret}".encode()).decode().rstrip("=") for user in users]
    forms = {
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
    }
    return [form for form in forms.union(logins) if form in text]


def shown_by(error: BaseException) -> str:
    """All that an error shows of itself and of what led to it."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error)[1:]])


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter("%(name)s %(message)s").format(record))


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """What anybody logs meanwhile, at every level, as an application's own handler gets it."""
    handler, root = _Kept(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
