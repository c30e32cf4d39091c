"""Which models are served, and what a worker says about each."""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from gristmill.arguments import number, refuse
from gristmill.habits import Group, answers_habits
from gristmill.ledger import Ledger
from gristmill.settings import ClientSettings
from gristmill_schemas import EncoderInfo, ModelTask
from gristmill_schemas.errors import InvalidInput, NoWorker

_LOOK_S = 0.2


def engines(ledger: Ledger, *, staying: bool = False) -> Iterator[Mapping[str, Any]]:
    """What each engine of each living worker says of itself; a worker of one model without engines is its own.

    `staying` leaves out workers that drain: they take no more work.
    """
    for status in ledger.workers().values():
        if staying and status.get("state") == "draining":
            continue
        yield from cast("list[Mapping[str, Any]]", status.get("engines", [status]))


def is_served(ledger: Ledger, model_digest: str) -> bool:
    """Whether a living worker serves the model."""
    return any(engine.get("model_digest") == model_digest for engine in engines(ledger))


def digest_of(ledger: Ledger, name: str) -> str | None:
    """The digest of the model that was announced by this name last; None where it never was."""
    info = _named(ledger.models(), name)
    return None if info is None else info.digest


def _is_remote(served: str, wanted: str) -> bool:
    """Whether `served`, a model behind a URL, is the one that is meant: it goes by the name after `#`, at any address."""
    url, _, name = served.partition("#")
    if not url.startswith(("http://", "https://")):
        return False
    base, _, asked = wanted.partition("#")
    if "://" not in base:
        return wanted == name
    return asked == name if asked else _place(base) == url


def _place(url: str) -> str:
    """A URL without a login and a closing slash, as workers announce it."""
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/")


def _named(infos: Iterable[EncoderInfo], wanted: str) -> EncoderInfo | None:
    """The model of a name, a digest, or the name that it has at a server."""
    there = list(infos)
    exact = (info for info in there if wanted in (info.model, info.digest))
    return next(exact, None) or next((info for info in there if _is_remote(info.model, wanted)), None)


def _known(rerankers: Iterable[EncoderInfo]) -> str:
    names = ", ".join(info.model for info in rerankers)
    return f" (announced: {names})" if names else ""


@answers_habits
class Models(Group):
    """`client.models`: what workers have announced."""

    def __init__(self, ledger: Ledger, settings: ClientSettings) -> None:
        self._ledger = ledger
        self._settings = settings

    def list(self) -> builtins.list[EncoderInfo]:
        """Every model that a worker has ever announced, newest first."""
        return self._ledger.models()

    def get(self, name: str) -> EncoderInfo:
        """What workers say about one model.

        Args:
            name: what the worker was started with, or the model's digest.

        Raises:
            NoWorker: no worker has announced it.
        """
        if not isinstance(name, str):
            raise refuse("name", "a model's name or digest", name)
        return self.served(name, wait_s=0)

    def served(self, model: str | None, wait_s: float) -> EncoderInfo:
        """What a worker says about the model that is meant; waits for one to say it.

        Args:
            model: label or digest; None takes GRISTMILL_MODEL, or where that is not set, the one model that is being
                served.
            wait_s: how long to wait.

        Raises:
            NoWorker: nobody has announced it in that time.
        """
        if model is not None and not (isinstance(model, str) and model):
            raise refuse("model", "a model's name or digest", model)
        wanted = model or (self._settings.model if "model" in self._settings.model_fields_set else None)
        until = time.monotonic() + number("wait_s", wait_s, 0)
        while (found := self._announced(wanted)) is None:
            if time.monotonic() >= until:
                raise self._nobody(wanted)
            time.sleep(_LOOK_S)
        return found

    def reranker(self, name: str | None = None, field: str = "rerank") -> EncoderInfo:
        """What a worker says about the reranker that is meant.

        Args:
            name: what the worker was started with, or its digest; None takes GRISTMILL_RERANKER, or where that is not set,
                the one reranker that there is.
            field: the argument that errors are about.

        Raises:
            NoWorker: no worker has announced it.
            InvalidInput: it is no reranker; or there are several, and none was named.
        """
        if name is not None and not (isinstance(name, str) and name):
            raise refuse(field, "a reranker's name or digest", name)
        wanted = name or self._settings.reranker
        infos = self._ledger.models()
        rerankers = [info for info in infos if info.task is ModelTask.RERANKING]
        if wanted is None:
            return self._only(self._living(rerankers), field)
        if (found := _named(rerankers, wanted)) is not None:
            return found
        if _named(infos, wanted) is not None:
            raise InvalidInput(
                f"{field}: expected a reranker, got {wanted!r}, which embeds texts and scores no pairs{_known(rerankers)}",
                field=field,
                model=wanted,
            )
        raise NoWorker(
            f"{field}: no worker has announced the reranker {wanted!r}{_known(rerankers)}; start one: `gristmill worker "
            f"--reranker {wanted}`",
            field=field,
            model=wanted,
        )

    def _only(self, living: builtins.list[EncoderInfo], field: str) -> EncoderInfo:
        if len(living) == 1:
            return living[0]
        if living:
            raise InvalidInput(
                f"{field}: expected the name of a reranker, since several are served{_known(living)}; or set "
                "GRISTMILL_RERANKER",
                field=field,
            )
        raise NoWorker(
            f"{field}: nobody serves a reranker; start a worker with one (`gristmill worker --reranker "
            "Qwen/Qwen3-Reranker-0.6B`, or Client.embedded(reranker=…))",
            field=field,
        )

    def _living(self, infos: builtins.list[EncoderInfo]) -> builtins.list[EncoderInfo]:
        live = {engine.get("model_digest") for engine in engines(self._ledger)}
        return [info for info in infos if info.digest in live]

    def _announced(self, wanted: str | None) -> EncoderInfo | None:
        infos = self._ledger.models()
        if wanted is not None:
            return _named(infos, wanted)
        serving = self._living([info for info in infos if info.task is ModelTask.EMBEDDING])
        return serving[0] if len(serving) == 1 else None

    def _nobody(self, wanted: str | None) -> NoWorker:
        known = ", ".join(info.model for info in self._ledger.models()) or "none"
        if wanted is None and known != "none":
            return NoWorker(
                f"model: expected one that is being served, got none; name one of those announced: {known}",
                field="model",
            )
        name = wanted or self._settings.model
        return NoWorker(
            f"model: no worker has announced {name!r} (announced: {known}); start one: `gristmill worker --model {name}`",
            field="model",
            model=name,
        )
