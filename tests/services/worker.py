"""A real worker process: Celery, the engine and a stand-in encoder, started as a user would start it."""

import os
import sys
from pathlib import Path

from services.process import Server


class WorkerProcess(Server):
    """`gristmill worker --no-supervise`, ready when its model is warm and its consumer about to start.

    Args:
        data_dir: Folder for its log; it works in there.
        settings: Its settings by their variable, say `{"GRISTMILL_REDIS_URL": ...}`.
        model: The stand-in encoder, or a folder.
        log_level: How much it logs.
    """

    name = "worker"

    def __init__(
        self, data_dir: Path, settings: dict[str, str], *, model: str = "hash:16", log_level: str = "info"
    ) -> None:
        super().__init__(data_dir)
        self._settings = settings
        self._model = model
        self._log_level = log_level

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        arguments = [
            "worker",
            "--no-supervise",
            "--model",
            self._model,
            "--threads",
            "4",
            "--log-level",
            self._log_level,
        ]
        return [sys.executable, "-m", "gristmill", *arguments]

    def environment(self) -> dict[str, str]:
        """Return this process's environment without its own settings, with the worker's."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GRISTMILL_")}
        return inherited | self._settings

    def is_ready(self) -> bool:
        """Look for the line that it logs when it is."""
        return self.log_path.exists() and " ready: " in self.log_path.read_text(errors="replace")
