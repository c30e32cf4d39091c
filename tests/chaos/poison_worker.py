"""A worker whose encoder can be poisoned by the text: `POISON-RAISE` raises, `POISON-KILL` ends the process.

`POISON-REFUSE` makes the store's client refuse the point: its payload is nested deeper than the wire allows, as if the
contract had a hole. A file named by GRISTMILL_TEST_CURE takes the poison away. Run: `poison_worker.py MODEL`.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gristmill.settings import load_settings
from gristmill_schemas import CollectionSpec, PointSystem
from gristmill_worker import preparing, sink
from gristmill_worker.app import run_worker
from gristmill_worker.encoder import Encoder, TokenizedText, Vectors
from gristmill_worker.engine import load_encoder
from gristmill_worker.fence import Task
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


def poison_the_payload() -> None:
    """Nest the payload of marked documents deeper than protobuf allows."""
    honest = sink.payload_of

    def payload_of(spec: CollectionSpec, task: Task, system: PointSystem) -> dict[str, Any]:
        payload = honest(spec, task, system)
        if "POISON-REFUSE" in task.document.text and not CURE.exists():
            deep: Any = 1
            for _ in range(64):
                deep = {"deeper": deep}
            payload["deep"] = deep
        return payload

    setattr(preparing, "payload_of", payload_of)  # noqa: B010 - mypy knows the name only where it is defined


if __name__ == "__main__":
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s")
    settings = load_settings(WorkerSettings, model=sys.argv[1])
    poison_the_payload()
    run_worker(settings, encoder=PoisonEncoder(load_encoder(settings)))
