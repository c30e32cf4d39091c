#!/usr/bin/env python3
"""Run a command with a real Redis and a real Qdrant of its own, on free ports, gone when it ends.

    scripts/with_servers.py gristmill bench pipeline --json
    scripts/with_servers.py bash        # a shell in which `gristmill worker` and `gristmill ingest` just work

The servers are those of the tests: `make services` brings them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from services import QdrantServer, RedisServer


def main(command: list[str]) -> int:
    """Start both, run the command, stop both; its exit code is ours."""
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
            return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["bash"]))
