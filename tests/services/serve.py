"""A real server process of `gristmill serve`, or of a worker with `--serve`, started as a user would start it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from services.process import Server, free_port


class ServeProcess(Server):
    """Ready when its models are loaded.

    Args:
        data_dir: Folder for its log; it works in there.
        arguments: Command and options, without host and port.
        settings: Its settings by their variable.
    """

    name = "serve"

    def __init__(self, data_dir: Path, arguments: Sequence[str], settings: dict[str, str] | None = None) -> None:
        super().__init__(data_dir)
        self._arguments, self._settings = list(arguments), settings or {}
        self.port = free_port()

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.returncode

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        return [sys.executable, "-m", "gristmill", *self._arguments]

    def environment(self) -> dict[str, str]:
        """Return this process's environment without its own settings, with the server's."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("GRISTMILL_")}
        return inherited | self._settings | {"GRISTMILL_SERVE_PORT": str(self.port)}

    def is_ready(self) -> bool:
        """Ask as a load balancer does."""
        try:
            return httpx.get(f"{self.address}/readyz").is_success
        except httpx.HTTPError:
            return False
