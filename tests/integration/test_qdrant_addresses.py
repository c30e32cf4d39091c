"""Qdrant under a path, behind TLS or a login, on IPv6: the whole mill works, or a sentence says why not."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gristmill import Client, ClientSettings, Document
from gristmill.store.connection import open_store
from gristmill_schemas.errors import StoreUnavailable
from services import QdrantServer, free_port
from services.model_server import Answer
from services.proxy import Proxy
from services.redis import make_certificate

PREFIX = "/vectors/blue"
LOGIN = "Basic " + base64.b64encode(b"miller:p@:/ss").decode()


class Prefixed(Proxy):
    """Knows Qdrant under a path alone, and whoever shows the right login."""

    def __init__(self, target: str, *, login: str | None = None, certificate: Path | None = None) -> None:
        super().__init__(target)
        self.login = login
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        shown = {name.lower(): value for name, value in headers.items()}.get("authorization")
        if self.login not in (None, shown):
            return Answer(401, b"<h1>Who are you?</h1>", "text/html")
        if not path.startswith(f"{PREFIX}/"):
            return Answer(404, b"<h1>Nothing here</h1>", "text/html")
        return super().answer(method, path.removeprefix(PREFIX), headers, body)


def does_its_work(url: str, name: str, *, grpc_port: int | None = None) -> None:
    """Create, store, search and delete, by REST alone unless there is a port for gRPC."""
    with Client.embedded(
        url, model="hash:16", threads=2, qdrant_prefer_grpc=grpc_port is not None, qdrant_grpc_port=grpc_port
    ) as client:
        client.create_collection(name)
        assert client.enqueue(name, [Document(id="a", text="rye")]).wait(60).stored == 1
        assert client.search(name, "rye")[0].id == "a"
        client.collections.delete(name)


def refusal(url: str, **options: Any) -> str:
    """What is said of an address that cannot be used."""
    given = {"qdrant_prefer_grpc": False, **options}
    with Client.embedded(url, model="hash:16", **given) as client, pytest.raises(StoreUnavailable) as refused:
        client.create_collection("mill")
    return str(refused.value)


@pytest.fixture
def proxy(qdrant_server: QdrantServer) -> Iterator[Prefixed]:
    with Prefixed(qdrant_server.url) as proxy:
        yield proxy


@pytest.mark.parametrize("form", ["{url}/vectors/blue", " {url}//vectors/blue/\n", "{upper}/vectors/blue"])
def test_a_path_in_front_of_qdrant_is_kept(form: str, proxy: Prefixed, collection_name: str) -> None:
    does_its_work(form.format(url=proxy.url, upper=proxy.url.replace("http", "HTTP")), collection_name)
    assert proxy.passed


def test_a_login_of_the_proxy_goes_along(qdrant_server: QdrantServer, collection_name: str) -> None:
    with Prefixed(qdrant_server.url, login=LOGIN) as proxy:
        place = f"127.0.0.1:{proxy.port}{PREFIX}"
        does_its_work(f"http://miller:p%40%3A%2Fss@{place}", collection_name)
        said = refusal(f"http://{place}")
        assert "401" in said
        assert "proxy" in said


def test_https_is_spoken_to_a_proxy_whose_certificate_is_trusted(
    qdrant_server: QdrantServer, collection_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    with Prefixed(qdrant_server.url, certificate=certificate) as proxy:
        url = f"https://127.0.0.1:{proxy.port}{PREFIX}"
        assert "certificate" in refusal(url).lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        does_its_work(url, collection_name)


def test_grpc_goes_beside_the_path_where_its_port_is_open_and_says_how_to_do_without(
    proxy: Prefixed, qdrant_server: QdrantServer, collection_name: str
) -> None:
    url = f"{proxy.url}{PREFIX}"
    does_its_work(url, collection_name, grpc_port=qdrant_server.grpc_port)
    assert "GRISTMILL_QDRANT_PREFER_GRPC" in refusal(url, qdrant_prefer_grpc=True, qdrant_grpc_port=free_port())


@pytest.mark.parametrize("path", ["", "/vectors/red"])
def test_a_wrong_path_is_no_missing_collection(path: str, proxy: Prefixed) -> None:
    assert "GRISTMILL_QDRANT_URL" in refusal(f"{proxy.url}{path}")


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://h", "https://h:443"),
        ("https://h/vectors", "https://h:443/vectors"),
        ("http://h", "http://h:6333"),
        ("http://[::1]:1/x", "http://[::1]:1/x"),
    ],
)
def test_the_client_asks_where_the_address_says(url: str, asked: str) -> None:
    store = open_store(ClientSettings(qdrant_url=url, qdrant_prefer_grpc=False))
    assert store._client.rest_uri == asked  # type: ignore[attr-defined]  # of its remote form
    store.close()


def test_ipv6_reaches_rest_and_grpc(collection_name: str, make_qdrant: type[QdrantServer]) -> None:
    server = make_qdrant(settings={"QDRANT__SERVICE__HOST": "::"})  # type: ignore[call-arg]  # the fixture knows where
    does_its_work(f"http://[::1]:{server.http_port}", collection_name, grpc_port=server.grpc_port)
