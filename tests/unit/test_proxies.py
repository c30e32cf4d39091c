"""The environment's proxies: respected for servers elsewhere, never for one on this machine, and said by name."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from gristmill import Client, StoreUnavailable
from gristmill.proxies import goes_around, grpc_options, proxy_of
from gristmill_schemas.errors import GristmillError
from gristmill_worker.encoder import open_encoder
from services.process import free_port

NAMES = ("http", "https", "all", "no", "grpc")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


class _Heard(socketserver.BaseRequestHandler):
    """Keeps the first line of what it is asked, and hangs up."""

    def handle(self) -> None:
        self.server.lines.append(self.request.recv(4096).split(b"\r\n")[0].decode())  # type: ignore[attr-defined]  # ours


class Listener(socketserver.ThreadingTCPServer):
    """In a proxy's place."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Heard)
        self.lines: list[str] = []
        self.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://app:Z9xk-lmW77@127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "around"),
    [
        ("*", "qdrant.example", 6333, True),
        ("qdrant.example", "qdrant.example", 6333, True),
        (".example", "qdrant.example", 6333, True),
        ("*.example", "qdrant.example", 6333, True),
        ("example", "qdrant.example", 6333, True),
        ("ample", "qdrant.example", 6333, False),
        ("QDRANT.example:6333", "qdrant.example", 6333, True),
        ("qdrant.example:6333", "qdrant.example", 6334, False),
        ("http://qdrant.example", "qdrant.example", 6333, True),
        ("localhost, 10.0.0.0/8", "10.1.2.3", 6333, True),
        ("10.0.0.0/8", "11.1.2.3", 6333, False),
        ("10.1.2.3", "10.1.2.3", 6333, True),
        ("fd00::1", "fd00::1", 6333, True),
        ("[fd00::1]", "fd00::1", 6333, True),
        ("[fd00::1]:6333", "fd00::1", 6333, True),
        ("[fd00::1]:6333", "fd00::1", 6334, False),
        ("fd00::/8", "fd00::1", 6333, True),
        ("::1/128,[::1],::ffff/:,[", "fd00::1", 6333, False),
        ("", "qdrant.example", 6333, False),
    ],
)
def test_no_proxy_is_read_as_people_write_it(exceptions: str, host: str, port: int, around: bool) -> None:
    assert goes_around(host, port, exceptions) is around


@pytest.mark.parametrize(
    "host", ["localhost", "qdrant.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "0.0.0.0", "::ffff:127.0.0.1"]
)
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "grpc_proxy"])
def test_a_server_on_this_machine_is_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, name: str, host: str
) -> None:
    monkeypatch.setenv(name, "http://proxy:3128")
    assert proxy_of("http", host, 6333) is None
    assert grpc_options("http", host, 6334) == {"grpc.enable_http_proxy": 0}


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://127.0.0.1:1", "nonsense://x", "http://[::1", "::"])
@pytest.mark.parametrize("exceptions", ["", "::1,[::1],127.0.0.1/8,fe80::/10,[", "*"])
def test_a_proxy_breaks_nothing_that_needs_none(monkeypatch: pytest.MonkeyPatch, proxy: str, exceptions: str) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", exceptions)
    port = free_port()
    with (
        Client(
            redis_url="redis://127.0.0.1:1/0", qdrant_url=f"http://127.0.0.1:{port}", qdrant_prefer_grpc=False
        ) as client,
        pytest.raises(StoreUnavailable, match="refused") as away,
    ):
        client.collections.list()
    assert "PROXY" not in str(away.value)
    with pytest.raises(GristmillError, match="cannot be reached") as absent:
        open_encoder(f"http://127.0.0.1:{port}/v1#m")
    assert "PROXY" not in str(absent.value)


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("socks5://app:Z9xk-lmW77@127.0.0.1:1", r"SOCKS needs a package: pip install 'httpx\[socks\]'"),
        ("ftp://app:Z9xk-lmW77@127.0.0.1:1", "expected a proxy such as"),
        ("http://app:Z9xk-lmW77@127.0.0.1:1", "refused"),
    ],
)
def test_a_proxy_that_does_not_work_is_named_with_the_way_around_it(
    monkeypatch: pytest.MonkeyPatch, proxy: str, said: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with (
        Client(
            redis_url="redis://127.0.0.1:1/0", qdrant_url="http://qdrant.example", qdrant_prefer_grpc=False
        ) as client,
        pytest.raises(StoreUnavailable, match=said) as away,
    ):
        client.collections.list()
    with pytest.raises(GristmillError, match=said) as absent:
        open_encoder("http://model.example/v1#m")
    for told, host in ((str(away.value), "qdrant.example"), (str(absent.value), "model.example")):
        assert "ALL_PROXY=" in told
        assert f"NO_PROXY={host} goes around it" in told
        assert "Z9xk" not in told


def test_a_server_elsewhere_is_asked_through_the_proxy_over_rest_and_over_grpc_alike(
    monkeypatch: pytest.MonkeyPatch, listener: Listener
) -> None:
    monkeypatch.setenv("ALL_PROXY", listener.url)
    for grpc in (False, True):
        place = {"qdrant_url": "http://qdrant.example:6333", "qdrant_prefer_grpc": grpc, "qdrant_timeout_s": 1}
        client = Client(redis_url="redis://127.0.0.1:1/0", **place)  # type: ignore[arg-type]  # by name
        with closing(client), pytest.raises(StoreUnavailable):
            client.collections.list()
    assert listener.lines[0] == "GET http://qdrant.example:6333/collections HTTP/1.1"
    assert "CONNECT qdrant.example:6334 HTTP/1.1" in listener.lines
