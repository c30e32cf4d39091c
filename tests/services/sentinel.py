"""A real Redis Sentinel, which is redis-server in another mode: it watches one primary and moves it on request."""

import contextlib
from pathlib import Path

import redis

from services.process import Server, free_port
from services.redis import RedisServer, find_redis

MASTER = "mill"


class SentinelServer(Server):
    """A Sentinel on the loopback interface that watches a primary by the name of `MASTER`.

    Args:
        data_dir: Folder for its configuration, which it rewrites, and its log.
        primary: What it watches.
        password: What it asks its own clients for.
    """

    name = "redis-sentinel"

    def __init__(self, data_dir: Path, *, primary: RedisServer, password: str) -> None:
        super().__init__(data_dir)
        self.program = find_redis()
        self.port = free_port()
        self.password = password
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"requirepass {password}",
            f"sentinel monitor {MASTER} 127.0.0.1 {primary.port} 1",
            f"sentinel auth-pass {MASTER} {primary.password}",
            f"sentinel failover-timeout {MASTER} 10000",
        ]
        self._config = data_dir / "sentinel.conf"
        self._config.write_text("\n".join(lines) + "\n")

    def client(self) -> redis.Redis:
        """Return a plain client of the Sentinel; the caller closes it."""
        return redis.Redis(port=self.port, password=self.password, socket_timeout=60)

    def command(self) -> list[str]:
        """Return the program and its configuration."""
        return [self.program, str(self._config), "--sentinel"]

    def is_ready(self) -> bool:
        """Ping."""
        with contextlib.closing(self.client()) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def primary(self) -> int:
        """The port of the primary, as it says."""
        with contextlib.closing(self.client()) as client:
            address = client.sentinel_get_master_addr_by_name(MASTER)
        assert isinstance(address, tuple), "it watches one primary by this name"
        return address[1]

    def knows_a_replica(self) -> bool:
        """Whether it could move the primary."""
        with contextlib.closing(self.client()) as client:
            return bool(client.sentinel_slaves(MASTER))

    def fail_over(self) -> bool:
        """Begin to move the primary to its replica, as after its death; False while it knows too little of the replica."""
        with contextlib.closing(self.client()) as client, contextlib.suppress(redis.ResponseError):
            return bool(client.sentinel_failover(MASTER))
        return False
