"""A real Qdrant server without Docker: the binary that `make services` fetches, or the one that QDRANT_BIN names."""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
import urllib.request
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from services.process import Server, ServerError, ServiceMissing, accepts_connections, free_port

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

#: Where `scripts/fetch_qdrant.py` leaves the binary.
CACHED = Path(__file__).parents[2] / ".cache" / "qdrant" / "qdrant"


def find_qdrant() -> str:
    """Return the path of the Qdrant binary, or raise `ServiceMissing`."""
    chosen = Path(os.environ.get("QDRANT_BIN") or CACHED)
    if chosen.is_file() and os.access(chosen, os.X_OK):
        return str(chosen)
    raise ServiceMissing(f"no Qdrant binary at {chosen}: run `make services`, or point QDRANT_BIN at one")


class QdrantServer(Server):
    """A Qdrant server on the loopback interface, telemetry off.

    Args:
        data_dir: Folder for storage, snapshots and the log.
        api_key: Key that every request must carry; None asks for none.
        read_only_key: A second key that may only read.
        settings: Further settings by their environment name, say `{"QDRANT__STORAGE__ON_DISK_PAYLOAD": "true"}`.
        cluster: Be a node of a cluster: True begins one, a node of it joins it.
    """

    name = "qdrant"

    def __init__(
        self,
        data_dir: Path,
        *,
        api_key: str | None = None,
        read_only_key: str | None = None,
        settings: dict[str, str] | None = None,
        cluster: Literal[True] | QdrantServer | None = None,
    ) -> None:
        super().__init__(data_dir)
        self.program = find_qdrant()
        self.http_port = free_port()
        self.grpc_port = free_port()
        self.api_key = api_key
        self.read_only_key = read_only_key
        self._settings = settings or {}
        self._cluster = cluster
        self._peer_port = free_port()

    @property
    def url(self) -> str:
        """URL of the REST interface; gRPC is on `grpc_port`."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def peer_url(self) -> str:
        """Where the other nodes of its cluster find it."""
        return f"http://127.0.0.1:{self._peer_port}"

    def peer_ids(self) -> list[int]:
        """The nodes of its cluster, itself first. Of those with a copy of a shard, the highest leads."""
        cluster = self._ask("GET", "/cluster")
        return [cluster["peer_id"], *(int(each) for each in cluster["peers"] if int(each) != cluster["peer_id"])]

    def client(self, *, api_key: str | None = None, timeout_s: int = 60, prefer_grpc: bool = True) -> QdrantClient:
        """Return a client with the server's key or another one; the caller closes it."""
        from qdrant_client import QdrantClient  # most of a second, not for who only hands out tests

        with warnings.catch_warnings():
            # On the loopback interface a key needs no TLS; and the tests turn warnings into errors.
            warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
            return QdrantClient(
                host="127.0.0.1",
                port=self.http_port,
                grpc_port=self.grpc_port,
                prefer_grpc=prefer_grpc,
                https=False,
                api_key=api_key or self.api_key,
                timeout=timeout_s,
                check_compatibility=False,  # warns where the client is more than one minor version ahead
                verify=False,  # reads no certificates, of which plain HTTP needs none
            )

    def drop_collections(self, prefix: str) -> None:
        """Delete every collection whose name starts with `prefix`."""
        # Past the client, of which each costs longer to make than this takes.
        for collection in self._ask("GET", "/collections")["collections"]:
            if collection["name"].startswith(prefix):
                self._ask("DELETE", f"/collections/{urllib.parse.quote(collection['name'], safe='')}")

    def wipe(self) -> None:
        """Lose everything that it has stored, as with a volume that was not mounted again. It must not be running."""
        if self.running:
            raise ServerError(f"{self.name} is running: stop it first")
        for folder in ("storage", "snapshots"):
            shutil.rmtree(self.data_dir / folder, ignore_errors=True)

    def command(self) -> list[str]:
        """Return the program and its place in a cluster; everything else is in its environment."""
        alone = [self.program, "--disable-telemetry"]
        if self._cluster is None:
            return alone
        joining = ["--bootstrap", self._cluster.peer_url] if isinstance(self._cluster, QdrantServer) else []
        return [*alone, "--uri", self.peer_url, *joining]

    def environment(self) -> dict[str, str]:
        """Return this process's environment, less any Qdrant settings in it, with the server's own."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("QDRANT__")}
        own = {
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self.http_port),
            "QDRANT__SERVICE__GRPC_PORT": str(self.grpc_port),
            "QDRANT__SERVICE__ENABLE_STATIC_CONTENT": "false",
            "QDRANT__STORAGE__STORAGE_PATH": str(self.data_dir / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(self.data_dir / "snapshots"),
            "QDRANT__TELEMETRY_DISABLED": "true",
        }
        if self._cluster is not None:
            own |= {"QDRANT__CLUSTER__ENABLED": "true", "QDRANT__CLUSTER__P2P__PORT": str(self._peer_port)}
        return inherited | own | self._keys() | self._settings

    def is_ready(self) -> bool:
        """Ask `/readyz`, which needs no key, and see that the gRPC port is open."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=1) as answer:
                return answer.status == 200 and accepts_connections(self.grpc_port)
        except OSError:  # refused, reset, timed out, or HTTP 503 while shards load: all mean "not yet"
            return False

    def _ask(self, method: str, path: str) -> Any:
        headers = {"api-key": self.api_key} if self.api_key else {}
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["result"]

    def _keys(self) -> dict[str, str]:
        keys = {"QDRANT__SERVICE__API_KEY": self.api_key, "QDRANT__SERVICE__READ_ONLY_API_KEY": self.read_only_key}
        return {name: key for name, key in keys.items() if key is not None}
