"""A device that falls ill: what the workers' encoders run on here, and the hands that make it ill.

Both sides meet in a folder. The test puts an illness into it, a worker process finds it there:

    once-*     the first process whose device has done some work takes it, and is ill until it ends; the next one is well
    chronic    every process is ill, from its warm-up on, for as long as the file is there
    hold       batches do not end while the file is there, though not for longer than `LONGEST_BATCH_S`
    struck-*   how the worker says that it fell ill; `holding` that a batch is being held, `released` that it has ended

A text with `POISON-DEVICE` in it gives the first illness to the device of any process that encodes it.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

import numpy as np

from gristmill_worker.encoder.base import Vectors

ENVIRONMENT = "GRISTMILL_TEST_DEVICE"
LONGEST_BATCH_S = 90.0
#: A device does this much before it falls ill of what lies about.
_TEXTS_BEFORE = 64


class Illness(StrEnum):
    """What is wrong with everything that is computed from now on."""

    ASSERT = "assert"  #: a kernel raised; the context is lost, so all later calls of the process raise too
    NAN = "nan"
    ZEROS = "zeros"
    SAME = "same"  #: one vector for every text


class Ward:
    """The test's side of the folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    @property
    def environment(self) -> dict[str, str]:
        """Variables of those workers that live in this ward."""
        return {ENVIRONMENT: str(self._folder)}

    def once(self, illness: Illness) -> None:
        """One process falls ill; a fresh one is well."""
        self._put(f"once-{uuid.uuid4().hex}", illness)

    def chronic(self, illness: Illness) -> None:
        """Every process is ill from now on, however often it is started again."""
        self._put("chronic", illness)

    @property
    def struck(self) -> int:
        """How many processes have fallen ill."""
        return len(list(self._folder.glob("struck-*")))

    def hold(self) -> None:
        """From now on no batch ends."""
        for name in ("holding", "released"):
            (self._folder / name).unlink(missing_ok=True)
        (self._folder / "hold").touch()

    @property
    def holding(self) -> bool:
        """Whether a batch is being held."""
        return (self._folder / "holding").exists()

    @property
    def released(self) -> bool:
        """Whether a batch that was held has ended since."""
        return (self._folder / "released").exists()

    def release(self) -> None:
        """Batches end again."""
        (self._folder / "hold").unlink(missing_ok=True)

    def _put(self, name: str, illness: Illness) -> None:
        unseen = self._folder / f".{name}"
        unseen.write_text(illness)
        unseen.rename(self._folder / name)


class Device:
    """The worker's side: one per process."""

    def __init__(self) -> None:
        self._folder = Path(os.environ.get(ENVIRONMENT, "/nonexistent"))
        self._illness: Illness | None = None
        self._texts = 0
        self._same: Vectors | None = None

    def run(self, texts: Sequence[str], launch: Callable[[], Callable[[], Vectors]]) -> Callable[[], Vectors]:
        """What `launch` gives, or what an ill device makes of it."""
        if self._illness is Illness.ASSERT:
            raise RuntimeError("CUDA error: device-side assert triggered")
        self._illness = self._illness or self._catch(texts)
        self._texts += len(texts)
        result = launch()
        return lambda: self._computed(result())

    def _computed(self, vectors: Vectors) -> Vectors:
        # An error of a kernel comes out where somebody waits for it, not where it was launched.
        self._hold()
        if self._illness is Illness.ASSERT:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if self._illness is Illness.NAN:
            return np.full_like(vectors, np.nan)
        if self._illness is Illness.ZEROS:
            return np.zeros_like(vectors)
        if self._illness is Illness.SAME:
            self._same = vectors[:1] if self._same is None else self._same
            return np.repeat(self._same, len(vectors), axis=0)
        return vectors

    def _catch(self, texts: Sequence[str]) -> Illness | None:
        caught = self._chronic() or (self._infectious() if self._texts >= _TEXTS_BEFORE else None)
        if any("POISON-DEVICE" in text for text in texts):
            caught = Illness.ASSERT
        if caught is not None and self._folder.is_dir():
            (self._folder / f"struck-{os.getpid()}").touch()
        return caught

    def _chronic(self) -> Illness | None:
        try:
            return Illness((self._folder / "chronic").read_text())
        except FileNotFoundError:
            return None

    def _infectious(self) -> Illness | None:
        for token in self._folder.glob("once-*"):
            mine = token.with_name(f"taken-{os.getpid()}-{token.name}")
            try:
                token.rename(mine)
            except FileNotFoundError:  # another process has it
                continue
            return Illness(mine.read_text())
        return None

    def _hold(self) -> None:
        until = time.monotonic() + LONGEST_BATCH_S
        held = False
        while (self._folder / "hold").exists() and time.monotonic() < until:
            (self._folder / "holding").touch()
            held = True
            threading.Event().wait(0.01)
        if held:
            (self._folder / "released").touch()
