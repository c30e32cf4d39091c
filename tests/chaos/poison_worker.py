"""A worker whose encoder can be poisoned by the text: `POISON-RAISE` raises, `POISON-KILL` ends the process.

`POISON-REFUSE` gives the point one dimension too many, so that Qdrant itself refuses it; `POISON-WIRE` nests its payload
deeper than the wire allows, so that it never gets there: as if the contract had a hole. A file named by
GRISTMILL_TEST_CURE takes the poison away. Run: `poison_worker.py MODEL`.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gristmill.settings import load_settings
from gristmill_worker.encoder import Encoder, TokenizedText, Vectors
from gristmill_worker.pipeline import prepare as preparing
from gristmill_worker.pipeline import sink
from gristmill_worker.pipeline.engine import load_encoder
from gristmill_worker.process.app import run_worker
from gristmill_worker.settings import WorkerSettings

CURE = Path(os.environ.get("GRISTMILL_TEST_CURE", "/nonexistent"))


class PoisonEncoder:
    """Any encoder, with a weakness."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        if not CURE.exists():
            if any("POISON-KILL" in item.text for item in batch):
                os._exit(9)
            if any("POISON-RAISE" in item.text for item in batch):
                raise RuntimeError("poisoned")
        return self._encoder.launch(batch)


def poison_the_points() -> None:
    """Make marked documents unacceptable to Qdrant, or to the client's wire format."""

    def point(point_id: str, vector: Vectors, payload: dict[str, Any], version: int, chunk: int) -> sink.Point:
        text = str(payload.get("text"))
        if "POISON-REFUSE" in text and not CURE.exists():
            vector = np.append(vector, np.float32(1))
        if "POISON-WIRE" in text and not CURE.exists():
            deep: Any = 1
            for _ in range(64):
                deep = {"deeper": deep}
            payload = {**payload, "deep": deep}
        return sink.Point(point_id, vector, payload, version, chunk)

    setattr(preparing, "Point", point)  # noqa: B010 - mypy knows the name only where it is defined


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    settings = load_settings(WorkerSettings, model=sys.argv[1])
    poison_the_points()
    run_worker(settings, encoders=[PoisonEncoder(load_encoder(settings))])
