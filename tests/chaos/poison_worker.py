"""A worker whose encoder can be poisoned by the text: `POISON-RAISE` raises, `POISON-KILL` ends the process.

`POISON-REFUSE` gives the point one dimension too many, so that Qdrant itself refuses it; `POISON-WIRE` nests its payload
deeper than the wire allows, so that it never gets there: as if the contract had a hole. A file named by
GRISTMILL_TEST_CURE takes the poison away; one named by GRISTMILL_TEST_ENCODED gets a line for each text that is encoded.
What its device suffers from is in `device.py`.
"""

import faulthandler
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chaos.device import Device
from gristmill.settings import load_settings
from gristmill_worker.encoder import Encoder, TokenizedText, Vectors
from gristmill_worker.pipeline import prepare as preparing
from gristmill_worker.pipeline import sink
from gristmill_worker.pipeline.engine import load_encoder
from gristmill_worker.process.app import run_worker
from gristmill_worker.settings import WorkerSettings

#: Has a worker write to its log what each of its threads is doing.
STACKS = signal.SIGUSR2


class PoisonEncoder:
    """Any encoder, with a weakness."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._device = Device()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        texts = [item.text for item in batch]
        note_encoded(texts)
        if not cured():
            if any("POISON-KILL" in text for text in texts):
                os._exit(9)
            if any("POISON-RAISE" in text for text in texts):
                raise RuntimeError("poisoned")
        return self._device.run(texts, lambda: self._encoder.launch(batch))

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        return self.launch(batch)()


def cured() -> bool:
    """Whether the poison has been taken away."""
    return Path(os.environ.get("GRISTMILL_TEST_CURE", "/nonexistent")).exists()


def note_encoded(texts: Sequence[str]) -> None:
    """Leave word of what is about to be encoded, whatever becomes of this process."""
    if path := os.environ.get("GRISTMILL_TEST_ENCODED"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write("".join(f"{time.time():.3f} {len(texts)} {text}\n" for text in texts))


def poison_the_points() -> None:
    """Make marked documents unacceptable to Qdrant, or to the client's wire format."""

    def point(
        point_id: str, vectors: Vectors, payload: dict[str, Any], version: int, chunk: int, size: int
    ) -> sink.Point:
        text = str(payload.get("text"))
        if "POISON-REFUSE" in text and not cured():
            vectors = np.append(vectors, np.ones((len(vectors), 1), dtype=np.float32), axis=1)
        if "POISON-WIRE" in text and not cured():
            deep: Any = 1
            for _ in range(64):
                deep = {"deeper": deep}
            payload = {**payload, "deep": deep}
        return sink.Point(point_id, vectors, payload, version, chunk, size)

    setattr(preparing, "Point", point)  # noqa: B010 - mypy knows the name only where it is defined


def work(model: str, environment: Mapping[str, str], folder: str, log: str) -> None:
    """Be a worker of this model until SIGTERM, with this environment, in this folder; what it says goes to `log`."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    # Whoever does not end in time is asked where it stands.
    faulthandler.register(STACKS, all_threads=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    settings = load_settings(WorkerSettings, model=model)
    poison_the_points()
    encoder = PoisonEncoder(load_encoder(settings))
    # The warm-up of a broken device fails.
    encoder.encode(encoder.tokenize(["warm up", "once more"]))
    run_worker(settings, encoders=[encoder])
