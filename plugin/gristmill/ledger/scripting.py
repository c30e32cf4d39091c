"""Scripts: every change of the ledger in Redis is one of `scripts/*.lua`, run as a whole or not at all."""

from __future__ import annotations

from importlib import resources
from typing import Any, cast

import redis

Argument = str | int | float | bytes


class Scripts:
    """The scripts of one installation, behind the text that all of them share."""

    def __init__(self, client: redis.Redis, prefix: str, prelude: str) -> None:
        """`prelude`: Lua that gives the scripts their constants. `prefix`: first part of every key, in braces."""
        self._client = client
        self._prefix = prefix
        folder = resources.files("gristmill.ledger") / "scripts"
        shared = sorted(entry.name for entry in folder.iterdir() if entry.name.startswith("_"))
        common = prelude + "".join((folder / name).read_text() for name in shared)
        self._scripts = {
            entry.name.removesuffix(".lua"): client.register_script(common + entry.read_text())
            for entry in folder.iterdir()
            if entry.name.endswith(".lua") and not entry.name.startswith("_")
        }

    def run(self, name: str, *args: Argument) -> Any:
        """Run a script of this name; returns its answer as redis-py decodes it."""
        registered = self._scripts[name]
        try:
            return registered(keys=[self._prefix], args=list(args))
        except redis.exceptions.NoScriptError:
            # The client loads a script that the server does not know, then calls it by its hash. A server that restarts
            # in between has forgotten it again, so now the text itself goes along.
            return self._client.eval(cast("str", registered.script), 1, self._prefix, *args)
