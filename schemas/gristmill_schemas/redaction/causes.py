"""What libraries raised, named as a cause without the secrets that it quotes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import ParamSpec

from gristmill_schemas.redaction.texts import redact


class Foreign(Exception):
    """What a library raised, in its words but without the secrets that they held."""


def without_secrets(error: BaseException) -> BaseException:
    """The error, to be named as a cause; a stand-in for it where its text, or that of its own causes, holds a secret."""
    if all(redact(text) == text for text in map(_text_of, _chain(error))):
        return error
    kind = type(error)
    return Foreign(redact(f"{kind.__module__}.{kind.__qualname__}: {_text_of(error)}")).with_traceback(
        error.__traceback__
    )


P = ParamSpec("P")


def clean_causes(translating: Callable[P, AbstractContextManager[None]]) -> Callable[P, AbstractContextManager[None]]:
    """Have a context manager that translates foreign errors name them as causes without their secrets."""

    @contextmanager
    def cleaning(*args: P.args, **named: P.kwargs) -> Iterator[None]:
        try:
            with translating(*args, **named):
                yield
        except Exception as error:
            if error.__cause__ is not None:
                error.__cause__ = without_secrets(error.__cause__)
            raise

    return cleaning


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return seen


def _text_of(error: BaseException) -> str:
    return f"{error!s} {error!r}"
