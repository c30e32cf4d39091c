"""All checks of one model, in one run. Nothing heavy is loaded before the clock of the start-up runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gristmill_schemas.errors import InvalidInput
from gristmill_worker.encoder.base import REMOTE, Encoder
from gristmill_worker.encoder.model.families import card_names
from gristmill_worker.encoder.model.find import locate
from gristmill_worker.encoder.model.known_checks import KnownModel, known_model
from gristmill_worker.encoder.open import open_encoder
from gristmill_worker.verify import checks
from gristmill_worker.verify.pairs import LANGUAGES, Pair, read_pairs
from gristmill_worker.verify.rows import Row, Verdict, at_most, not_applicable

#: Models that are no files.
_NO_FOLDER = ("hash:", "card:", "random:", "http://", "https://")


@dataclass(frozen=True, slots=True)
class Expectations:
    """What a model is held to."""

    #: The model card's example; None looks it up by the model's name, or its card's title.
    known: KnownModel | None = None
    pairs: Sequence[Pair] = field(default_factory=read_pairs)
    #: Least share of questions that find their own passage first.
    found_first: float = 0.8
    startup_s: float = 15.0
    #: In 10^9 bytes.
    memory_gb: float = 3.0

    def among(self, languages: Sequence[str]) -> Expectations:
        """The same with the pairs of some languages only.

        Raises:
            InvalidInput: a language of which there are no pairs.
        """
        if unknown := [language for language in languages if language not in LANGUAGES]:
            raise InvalidInput(f"language: expected {' or '.join(LANGUAGES)}, got {unknown[0]!r}", field="language")
        return replace(self, pairs=[pair for pair in self.pairs if pair.language in languages])


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of a model."""

    model: str
    device: str
    dtype: str
    checks: list[Row]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return all(row.verdict is not Verdict.FAIL for row in self.checks)


def verify(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    expected: Expectations | None = None,
) -> Report:
    """Check one model; arguments and errors are those of `open_encoder`.

    Args:
        model: see `open_encoder`. What has to be fetched is fetched before the clock of the start-up runs.
        revision: see `open_encoder`.
        device: see `open_encoder`.
        dtype: see `open_encoder`.
        expected: what it is held to.
    """
    folder = None if model.startswith(_NO_FOLDER) else locate(model, revision).folder
    started = time.perf_counter()
    encoder = open_encoder(model, revision=revision, device=device, dtype=dtype)
    startup_s = time.perf_counter() - started
    wanted = expected or Expectations()
    wanted = replace(wanted, known=wanted.known or _known(encoder, folder))
    rows = list(_rows(encoder, startup_s, wanted))
    rows += _exactness(encoder, folder, model, revision)
    return Report(encoder.info.model, encoder.device, encoder.dtype, rows)


def _known(encoder: Encoder, folder: Path | None) -> KnownModel | None:
    """By the model's name, else by its card's title: a downloaded folder may go by any name."""
    titles = card_names(folder / "README.md") if folder else []
    return next(filter(None, map(known_model, [encoder.info.model, *titles])), None)


def _rows(encoder: Encoder, startup_s: float, wanted: Expectations) -> Iterator[Row]:
    """Memory last: the untouched copies that the others need are no part of it."""
    yield checks.published(encoder, wanted.known)
    yield from checks.retrieval(encoder, wanted.pairs, wanted.found_first)
    yield checks.lenses(encoder)
    yield at_most("start-up", startup_s, wanted.startup_s, "s", "imports, loading, checking the pass, measuring")
    yield checks.memory(encoder, wanted.memory_gb)


def _exactness(encoder: Encoder, folder: Path | None, model: str, revision: str | None) -> list[Row]:
    if folder is None and not model.startswith("random:"):
        where = "behind a server" if encoder.device == REMOTE else "without weights"
        return [not_applicable(check, f"the model runs {where}") for check in ("parity", "sentence-transformers")]
    from gristmill_worker.verify.exactness import parity, peer

    return [parity(encoder, model, revision), peer(encoder, folder, model, revision)]
