"""A start of embedded mode that fails leaves nothing behind: a notebook keeps its error, and its reader tries again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gristmill import Client
from gristmill_schemas.errors import DeviceFailed
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.process import embedded


@pytest.mark.parametrize("ending", [RuntimeError, KeyboardInterrupt])
def test_a_start_that_ends_while_the_model_warms_up_leaves_the_folder_to_the_next(
    ending: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ending(HashEncoder):
        def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
            raise ending

    with monkeypatch.context() as patched:
        patched.setattr(embedded, "load_encoder", lambda _: Ending(8))
        # The error is at hand, and its traceback with it, as in a notebook.
        with pytest.raises((DeviceFailed, KeyboardInterrupt)) as _kept:
            Client.embedded(tmp_path, model="hash:8")
    with Client.embedded(tmp_path, model="hash:8") as client:
        client.create_collection("again", "hash:8")
