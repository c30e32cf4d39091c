"""Secrets are taken out of every text that leaves: errors, logs, reprs, what is stored as a reason.

Two nets, since either has holes. What became a setting is known (`remember`) and found wherever it turns up: as it is,
percent-encoded, escaped as in a repr, or in base64 with its user's name. What never became one is found by where it stands:
before the @ of a URL, after `password=` and its like, in a header that carries a key.

A secret that is short or a common word is hidden only where a secret stands: taking every `ab` out of every text would tell
it by its gaps, and leave no text to read.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus, unquote, urlsplit

#: What stands in a secret's place.
HIDDEN = "***"
#: Shorter secrets are hidden only where a secret stands.
MIN_KNOWN_CHARS = 4
#: Longer ones are refused at every door, which shows nothing of them.
MAX_KNOWN_CHARS = 4096
#: Below this, a secret counts only where it is a word of its own.
_WORD_CHARS = 8
#: Secrets that are remembered; the oldest make room.
_MAX_KNOWN = 128
#: Places in a URL at which its password may begin or end.
_LOOKS = 8
_COMMON = frozenset(
    {
        "default",
        "guest",
        "gristmill",
        "http",
        "https",
        "localhost",
        "none",
        "null",
        "password",
        "qdrant",
        "redis",
        "rediss",
    }
    | {
        "root",
        "admin",
        "secret",
        "test",
        "true",
        "false",
        "user",
        "unix",
        "basic",
        "bearer",
        "api-key",
        "authorization",
    }
)

#: How our own sentences write a login.
_EXAMPLE = "user:password"
# Repetitions are bounded wherever a search could start at every letter of a long text.
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s\"<>]+)")
#: A host, then no more of the authority: an @ further on belongs to the path.
_PLAIN_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?(?=[/?#]|$)")
_NAME = re.compile(r"(?i)\b[\w-]{0,40}(?:password|passwd|pwd|secret|token|api_?key|access_?key|signature)=")
_BY_NAME = re.compile(rf"({_NAME.pattern[4:]})(?!\*\*\*)([^\s\"<>&]+)", re.IGNORECASE)
_AUTHORIZATION = re.compile(
    r"(?i)\b(authorization\b['\"]?\s*[:=,]\s*(?:b(?=['\"]))?['\"]?(?:(?:bearer|basic|digest|token)\s+)?)(?!\*\*\*)([^\s'\",;)]+)"
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)(?=\S*[\d._~+/=-])([^\s'\",;)]{6,})")
_API_KEY = re.compile(r"(?i)\b((?:x-)?api-key\b['\"]?\s*[:=,]\s*(?:b(?=['\"]))?['\"]?)(?!\*\*\*)([^\s'\",;)]+)")

#: What well-known services begin their keys with, and JWTs.
_SHAPE = re.compile(r"\b(sk-|hf_|gh[oprsu]_|glpat-|xox[abprs]-|AKIA|eyJ[\w-]{4,}\.)[\w.-]{12,}")


@dataclass(frozen=True, slots=True)
class _Secret:
    """One secret, and one expression for all of its forms."""

    forms: frozenset[str]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, forms: frozenset[str]) -> _Secret:
        longest_first = sorted(forms, key=len, reverse=True)
        return cls(forms, re.compile("|".join(map(_as_pattern, longest_first))))

    def hidden_in(self, text: str) -> str:
        """The text without it. Looking for a text is much faster than for an expression, and mostly finds nothing."""
        return self.pattern.sub(HIDDEN, text) if any(form in text for form in self.forms) else text


class _Known:
    """The secrets of this process. Longer ones are looked for first, since they may hold a shorter one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: dict[str, _Secret] = {}
        self.longest_first: tuple[_Secret, ...] = ()

    def add(self, secret: str, user: str) -> None:
        if not MIN_KNOWN_CHARS <= len(secret) <= MAX_KNOWN_CHARS or secret.lower() in _COMMON:
            return
        with self._lock:
            known = self._secrets.pop(secret, None)
            forms = frozenset(_forms(secret, user)).union(known.forms if known else ())
            self._secrets[secret] = known if known and known.forms == forms else _Secret.of(forms)
            if len(self._secrets) > _MAX_KNOWN:
                del self._secrets[next(iter(self._secrets))]
            ordered = sorted(self._secrets, key=len, reverse=True)
            self.longest_first = tuple(self._secrets[each] for each in ordered)


_known = _Known()


def _forms(secret: str, user: str) -> Iterator[str]:
    """How a secret may turn up in a text."""
    for plain in {secret, unquote(secret)} - {""}:
        yield plain
        raw = plain.encode("utf-8", "surrogatepass")
        encoded = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        yield from encoded
        yield from (each.lower() for each in encoded)
        yield from (repr(plain)[1:-1], json.dumps(plain)[1:-1], plain.encode("unicode_escape").decode("ascii"))
        # A text with quotation marks of both kinds, of which the secret may hold but one.
        yield repr(f'{plain}"')[1:-2]
        for login in (plain, f":{plain}", f"{user}:{plain}"):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                yield encode(login.encode("utf-8", "surrogatepass")).decode("ascii").rstrip("=")


def _as_pattern(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _WORD_CHARS else rf"(?<!\w){escaped}(?!\w)"


def remember(secret: str, user: str = "") -> None:
    """Hide this from now on, wherever it turns up in a text. `user` is the name that goes with it."""
    _known.add(secret, user)
    for part in secret.split():
        if len(part) >= _WORD_CHARS:
            _known.add(part, user)


def remember_url(url: str) -> None:
    """Remember the password of a URL, however it was written, and of what was meant to be one."""
    scheme, found, rest = url.partition("://")
    if not found:
        scheme, rest = "", url
    for match in _NAME.finditer(rest):
        _remember_up_to_each(rest[match.end() :], "&")
    login, at, _ = rest.rpartition("@")
    if at and not _is_plain(scheme, rest):
        if not login.startswith(":"):
            remember(login)
        _remember_after_each(login, ":")
        _remember_parsed(url)


def _remember_after_each(text: str, mark: str) -> None:
    """Where a password begins is not sure in what is no proper URL."""
    before, found, after = text.partition(mark)
    for _ in range(_LOOKS):
        if not found:
            return
        remember(after.lstrip("/"), before)
        before, found, after = after.partition(mark)


def _remember_up_to_each(text: str, mark: str) -> None:
    """Nor where it ends."""
    parts = text.split(mark)
    for count in range(1, min(len(parts), _LOOKS) + 1):
        remember(mark.join(parts[:count]))


def _remember_parsed(url: str) -> None:
    """Also what a parser takes for the password, which is less where it holds a raw / # or ?."""
    try:
        parts = urlsplit(url)
        password = parts.password or ""
    except ValueError:
        return
    remember(password, parts.username or "")


def redact(text: str) -> str:
    """The text with its secrets replaced by `***`."""
    for secret in _known.longest_first:
        text = secret.hidden_in(text)
    if "://" in text:
        text = _URL.sub(_without_login, text)
    for named in (_BY_NAME, _AUTHORIZATION, _BEARER, _API_KEY, _SHAPE):
        text = named.sub(rf"\1{HIDDEN}", text)
    return text


class Guarded(str):
    """A text that may hold a secret. As good as any other to work with; its repr shows it without."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(redact(str(self)))


def _without_login(url: re.Match[str]) -> str:
    scheme, rest = url[1], url[2]
    login, at, place = rest.rpartition("@")
    if not at or login == _EXAMPLE or _is_plain(scheme.partition("://")[0], rest):
        return url[0]
    user, colon, _ = login.partition(":")
    shown = f"{user}:" if colon and re.fullmatch(r"[\w.-]*", user) else ""
    return f"{scheme}{shown}{HIDDEN}@{place}"


def _is_plain(scheme: str, rest: str) -> bool:
    """Whether a URL names no user, though there is an @ in it."""
    if rest.startswith("/") and scheme.lower() not in ("http", "https"):
        return True
    # Elsewhere than on the web what follows the host is a number: an @ there ends a password with a raw / in it.
    return scheme.lower() in ("http", "https", "file") and _PLAIN_HOST.match(rest) is not None
