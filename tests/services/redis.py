"""A real redis-server from PATH, as Gristmill needs it: append-only file, `noeviction`; on request password and TLS."""

import contextlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import redis

from services.process import Server, ServerError, ServiceMissing, free_port

#: One database number per test; the server's default of 16 would run out.
DATABASES = 4096


def find_redis() -> str:
    """Return the path of redis-server, or raise `ServiceMissing`."""
    if found := shutil.which("redis-server"):
        return found
    raise ServiceMissing("redis-server is not on PATH: apt-get install redis-server (macOS: brew install redis)")


class RedisServer(Server):
    """A redis-server on the loopback interface.

    Args:
        data_dir: Folder for the append-only file, the log and the certificate.
        appendfsync: When the append-only file reaches the disk; None keeps nothing over a restart.
        maxmemory: Limit such as "8mb"; None is no limit.
        maxmemory_policy: What happens at the limit; anything but `noeviction` loses work, for tests of the warning.
        password: Password of the default user; None asks for none.
        url_password: The same as it is written in a URL.
        databases: How many; one per test.
        tls: Speak TLS only, with a certificate made for this server.
        options: Further lines of redis.conf, such as `{"replicaof": "127.0.0.1 6379"}`.
    """

    name = "redis-server"

    def __init__(
        self,
        data_dir: Path,
        *,
        appendfsync: Literal["always", "everysec", "no"] | None = "everysec",
        maxmemory: str | None = None,
        maxmemory_policy: str = "noeviction",
        password: str | None = None,
        url_password: str | None = None,
        databases: int = DATABASES,
        tls: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir)
        self.program = find_redis()
        self.port = free_port()
        self.password = url_password or password
        self.ca_path = make_certificate(data_dir) if tls else None
        self.socket_path = data_dir / "redis.sock"
        self._options = {
            "databases": str(databases),
            "save": "",
            "appendonly": "yes" if appendfsync else "no",
            "appendfsync": appendfsync or "no",
            "maxmemory": maxmemory or "0",
            "maxmemory-policy": maxmemory_policy,
            "requirepass": password or "",
            "unixsocket": str(self.socket_path),
            **(options or {}),
        }

    @property
    def url(self) -> str:
        """URL of database 0, as `redis.Redis.from_url` and Celery take it."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """Return the URL of one numbered database."""
        login = f":{self.password}@" if self.password else ""
        address = f"{login}127.0.0.1:{self.port}/{database}"
        if self.ca_path is None:
            return f"redis://{address}"
        return f"rediss://{address}?ssl_cert_reqs=required&ssl_ca_certs={self.ca_path}"

    def client(self, database: int = 0) -> redis.Redis:
        """Return a plain client on one database; the caller closes it."""
        return redis.Redis.from_url(self.url_of(database), socket_timeout=60)

    def flush(self, database: int) -> None:
        """Empty one database."""
        with contextlib.closing(self.client(database)) as client:
            client.flushdb()

    def command(self) -> list[str]:
        """Return the program and its whole configuration."""
        words = [self.program, "--bind", "127.0.0.1 -::1", "--dir", str(self.data_dir), *self._listen()]
        for key, value in self._options.items():
            words += [f"--{key}", value]
        return words

    def is_ready(self) -> bool:
        """Ping: refused while the socket is not open yet, and while the append-only file is being loaded."""
        with contextlib.closing(redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1)) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError as wrong_password:
                raise self._failure("answers with another password") from wrong_password
            except redis.RedisError:
                return False

    def _listen(self) -> list[str]:
        if self.ca_path is None:
            return ["--port", str(self.port)]
        key = self.ca_path.with_suffix(".key")
        files = [
            "--tls-cert-file",
            str(self.ca_path),
            "--tls-key-file",
            str(key),
            "--tls-ca-cert-file",
            str(self.ca_path),
        ]
        return ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", *files]


def make_certificate(folder: Path) -> Path:
    """Write a self-signed certificate for the loopback address, its key beside it; return the certificate's path."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ServiceMissing("openssl is not on PATH: apt-get install openssl")
    certificate = folder / "server.crt"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    command += ["-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise ServerError(f"openssl could not make a certificate:\n{made.stderr}")
    return certificate
