#!/usr/bin/env python3
"""Run a command with a real Redis and a real Qdrant of its own, on free ports, gone when it ends.

    scripts/with_servers.py gristmill bench pipeline --json
    scripts/with_servers.py bash        # a shell in which `gristmill worker` and `gristmill ingest` just work

Ctrl-C is the command's; a closed terminal, a SIGTERM and a SIGKILL end it and the servers with this script. The servers are
those of the tests: `make services` brings them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from services import QdrantServer, RedisServer, ServiceMissing
from services.guardian import guarded

#: How long a command may take to end once this script was told to.
GRACE_S = 30.0


def main(command: list[str]) -> int:
    """Start both, run the command, stop both; its exit code is ours."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _leave)
    with tempfile.TemporaryDirectory(prefix="gristmill-servers-", ignore_cleanup_errors=True) as folder:
        for name in ("redis", "qdrant"):
            (Path(folder) / name).mkdir()
        with RedisServer(Path(folder) / "redis") as redis, QdrantServer(Path(folder) / "qdrant") as qdrant:
            environment = {
                "GRISTMILL_REDIS_URL": redis.url,
                "GRISTMILL_QDRANT_URL": qdrant.url,
                "GRISTMILL_QDRANT_GRPC_PORT": str(qdrant.grpc_port),
            }
            print("\n".join(f"{key}={value}" for key, value in environment.items()), file=sys.stderr)
            return run(command, {**os.environ, **environment, "PATH": _path()})


def _path() -> str:
    """With the commands of the environment that runs this, whether it was activated or not."""
    path = os.environ.get("PATH", os.defpath)
    return path if sys.prefix == sys.base_prefix else f"{Path(sys.executable).parent}{os.pathsep}{path}"


def run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run the command until it ends, or until it has had its time to."""
    # A function and not SIG_IGN, which the command would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    process = subprocess.Popen(command, env=environment)
    with guarded(process.pid):
        try:
            return process.wait()
        except SystemExit:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise
        finally:
            signal.signal(signal.SIGINT, before)


def _leave(number: int, _: object) -> None:
    """Leave through every block that is open; a second signal does not interrupt that."""
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:] or ["bash"]))
    except ServiceMissing as missing:
        sys.exit(str(missing))
