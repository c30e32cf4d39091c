"""What was measured on this machine, kept in the user's cache folder: a small JSON file per machine, model and versions.

    {"format": 3, "key": {"model": …, "device": …, "dtype": …, …}, "model": "demo", "measured_at": "2026-…",
     "budget_tokens": 1024, "curve": [[512, 1900.0], [1024, 2110.5]], "stopped": "the time was up", "fallback": 256}

Written beside and moved into place, so that a reader never sees half of one; what cannot be read is as good as nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from platformdirs import user_cache_path

log = logging.getLogger(__name__)

#: A changed procedure makes old measurements void.
_FORMAT: Final = 3
#: Everything that is kept is looked at again after so long: a moment that spoiled it spoils it no longer.
FRESH_FOR: Final = timedelta(days=1)
#: Within this share of the best throughput, smaller is better.
GOOD_ENOUGH: Final = 0.97

Key = Mapping[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured, and the budget that follows from it."""

    #: Budgets in tokens, ascending, each with the best tokens/s that was seen. Empty: not even the smallest fitted.
    curve: tuple[tuple[int, float], ...]
    #: Why nothing larger was tried.
    stopped: str
    #: The budget where nothing fitted.
    fallback: int

    @property
    def budget_tokens(self) -> int:
        """The smallest budget that is as good as the best, in tokens as `BatchLimits` counts them."""
        return min(
            (budget for budget, rate in self.curve if rate >= GOOD_ENOUGH * self._best[1]), default=self.fallback
        )

    @property
    def tokens_per_s(self) -> float:
        """What was measured at that budget; 0 where nothing was."""
        return dict(self.curve).get(self.budget_tokens, 0.0)

    @property
    def _best(self) -> tuple[int, float]:
        return max(self.curve, key=lambda point: point[1], default=(self.fallback, 0.0))

    def why(self) -> str:
        """The choice in words."""
        if not self.curve:
            return "nothing that was tried fitted into memory"
        budget, rate = self._best
        best = "the best" if budget == self.budget_tokens else f"as good as {budget:,}, within {1 - GOOD_ENOUGH:.0%}"
        return f"{best} of those tried ({rate:,.0f} tokens/s at best), {self.stopped}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement as it is kept."""

    #: All that it depends on: machine, device, threads, model, number format, versions.
    key: Key
    #: Name of the model, for people.
    model: str
    calibration: Calibration
    measured_at: datetime

    @property
    def fresh(self) -> bool:
        """Whether it need not be looked at again. One from the future was made by a clock that was wrong."""
        return timedelta(0) <= now() - self.measured_at < FRESH_FOR

    def describe(self) -> str:
        """What was chosen, why, when, and from what, in one line."""
        found, key = self.calibration, self.key
        curve = " · ".join(f"{budget:,}: {rate:,.0f}" for budget, rate in found.curve)
        return (
            f"{self.model} on {key.get('device')} in {key.get('dtype')}, {key.get('threads')} threads: "
            f"{found.budget_tokens:,} tokens per batch, {found.why()}; "
            f"measured {self.measured_at:%Y-%m-%d %H:%M} UTC, tokens/s by budget: {curve or '-'}"
        )


class Budgets:
    """The folder of measurements."""

    def __init__(self, folder: Path | None = None) -> None:
        """Nothing is read yet.

        Args:
            folder: where measurements are kept; None means the user's cache folder.
        """
        self.folder = folder or user_cache_path("gristmill", appauthor=False) / "budgets"

    def get(self, key: Key) -> Measured | None:
        """What was measured for this key; None where nothing was, or nothing that can be read."""
        return _read(self._path(key))

    def put(self, measured: Measured) -> None:
        """Keep it. A read-only or full disk costs a measurement at each start, nothing else."""
        path, found = self._path(measured.key), measured.calibration
        record = {
            "format": _FORMAT,
            "key": dict(measured.key),
            "model": measured.model,
            "measured_at": measured.measured_at.isoformat(timespec="seconds"),
            "budget_tokens": found.budget_tokens,
            "curve": found.curve,
            "stopped": found.stopped,
            "fallback": found.fallback,
        }
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch = path.with_suffix(f".{os.getpid()}")
            scratch.write_text(json.dumps(record, indent=1), encoding="utf-8")
            scratch.replace(path)
        log.info("%s", measured.describe())

    def all(self) -> Iterator[Measured]:
        """Everything that can be read, the newest first."""
        found = (_read(path) for path in self.folder.glob("*.json"))
        return iter(sorted((each for each in found if each), key=lambda each: each.measured_at, reverse=True))

    def forget(self) -> int:
        """Drop all measurements; gives how many."""
        dropped = 0
        for path in self.folder.glob("*.json"):
            with contextlib.suppress(OSError):
                path.unlink()
                dropped += 1
        return dropped

    def _path(self, key: Key) -> Path:
        name = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:24]
        return self.folder / f"{name}.json"


def _read(path: Path) -> Measured | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return _measured(json.loads(path.read_text(encoding="utf-8")))
    return None


def _measured(record: Mapping[str, Any]) -> Measured | None:
    """A record as it was written; None where it cannot be one of ours.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    curve = tuple((int(budget), float(rate)) for budget, rate in record["curve"])
    found = Calibration(curve, str(record["stopped"]), int(record["fallback"]))
    sound = all(budget > 0 and math.isfinite(rate) and rate > 0 for budget, rate in curve) and found.fallback > 0
    # The budget follows from the curve: another one was written by somebody else.
    if record["format"] != _FORMAT or not sound or record["budget_tokens"] != found.budget_tokens:
        return None
    measured_at = datetime.fromisoformat(record["measured_at"]).astimezone(UTC)
    return Measured(dict(record["key"]), str(record["model"]), found, measured_at)


def remembered(key: Key, model: str, measure: Callable[[], Calibration], budgets: Budgets) -> Measured:
    """What was measured for this key before, else what `measure` finds, which is then kept.

    Args:
        key: everything that the budget depends on.
        model: its name, for people.
        measure: measures.
        budgets: where measurements are kept.
    """
    if (known := budgets.get(key)) is not None:
        return known
    measured = Measured(key, model, measure(), now())
    budgets.put(measured)
    return measured


def now() -> datetime:
    """When it is, in UTC."""
    return datetime.now(UTC)
