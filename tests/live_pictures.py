"""The pictures of live page and dashboard in `docs/howto/`: `make docs-screenshots` takes them of a real mill at work.

A worker with the bundled model indexes Python's language reference and a Chinese shop's questions; one document is too
long for its collection, one job is paused, and the reference is still on its way. A Prometheus looks on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dashboard_picture
from gristmill import Chunking, Client, Document, Job
from gristmill.settings import variable
from gristmill_worker.demo.corpus import faq, language_reference
from live_page import close, open_page, started_browser
from services import QdrantServer, RedisServer, free_port
from services.prometheus import PrometheusServer
from services.serve import ServeProcess
from waiting import eventually

IMAGES = Path(__file__).parents[1] / "docs" / "howto" / "images"
#: Around a part of the page, pixels.
_MARGIN = 12
_KEY = "sk-of-the-pictures-0123456789"


@dataclass(frozen=True)
class Picture:
    """What is to be seen: the page from its top, or its search with an answer."""

    name: str
    locale: str
    width: int
    height: int
    searched: tuple[str, str] | None = None

    def take(self, browser: Any, address: str, key: str, folder: Path) -> Path:
        """Open the page, wait until it shows the mill, search where that is asked, and write the picture.

        Args:
            browser: Playwright's.
            address: Of the server, without a path.
            key: One of the server's API keys.
            folder: Where the PNG goes.

        Returns:
            The PNG, a pixel of it for each of the page's.
        """
        size = {"width": self.width, "height": self.height}
        opened = open_page(browser, address, locale=self.locale, viewport=size, color_scheme="light")
        opened.unlock(key)
        opened.tab.locator("#job-table tbody tr").first.wait_for()
        path, clip = folder / self.name, {"x": 0, "y": 0, **size}
        if self.searched:
            opened.search(*self.searched)
            box = opened.tab.locator("#search").bounding_box()
            top = box["y"] + opened.tab.evaluate("scrollY") - _MARGIN
            clip = {"x": box["x"] - _MARGIN, "y": top, "width": box["width"] + 2 * _MARGIN}
            clip["height"] = min(box["height"] + 2 * _MARGIN, self.height)
        opened.tab.screenshot(path=path, full_page=True, clip=clip, scale="css", animations="disabled")
        close(opened.tab)
        return path


SEARCHED = Picture("live-search.png", "zh-CN", 960, 1040, ("shop-faq", "用了优惠券但没减钱"))
PICTURES = (Picture("live.png", "en-GB", 1280, 1030), Picture("live-zh.png", "zh-CN", 390, 1110), SEARCHED)


@contextmanager
def _mill(folder: Path) -> Iterator[tuple[str, Client, PrometheusServer]]:
    """A Redis, a Qdrant, a worker with the bundled model and a Prometheus, on ports of their own."""
    for name in ("redis", "qdrant"):
        (folder / name).mkdir()
    keys = folder / "keys"
    keys.write_text(_KEY)
    keys.chmod(0o600)
    with RedisServer(folder / "redis") as redis, QdrantServer(folder / "qdrant") as qdrant:
        settings: dict[str, Any] = {
            "redis_url": redis.url,
            "qdrant_url": qdrant.url,
            "qdrant_grpc_port": qdrant.grpc_port,
            "model": "demo",
        }
        metrics_port = free_port()
        chosen = {**settings, "metrics_port": metrics_port, "metrics_host": "127.0.0.1", "serve_api_keys": keys}
        environment = {variable(name): str(value) for name, value in chosen.items()}
        worker = ServeProcess(folder / "worker", ["worker", "--serve", "--no-supervise"], environment)
        prometheus = PrometheusServer(folder / "prometheus", metrics_port)
        with worker, prometheus, Client(**settings) as client:
            yield worker.address, client, prometheus


def _begin(client: Client) -> Job:
    """Hand over what the pictures show, and wait until the reference is well on its way; returns its job."""
    client.create_collection("contracts", chunking=Chunking(long_texts="refuse"))
    client.create_collection("shop-faq")
    client.create_collection("python-reference")
    annex = Document(id="annex-7.pdf", text="The supplier warrants the goods. " * 2000)
    client.enqueue("contracts", [annex]).wait(120)
    client.enqueue("shop-faq", faq()).wait(300)
    reference = client.enqueue("python-reference", language_reference())
    later = client.enqueue(
        "python-reference", (_draft(document) for document in itertools.islice(language_reference(), 200))
    )
    later.pause()
    eventually(lambda: reference.report().stored > 150, within_s=600)
    return reference


def _draft(document: Document) -> Document:
    return document.model_copy(update={"id": f"draft-{document.id}"})


def main() -> None:
    """Take all pictures, into the documentation."""
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder, _mill(Path(folder)) as (address, client, prometheus):
        began = time.time()
        with started_browser() as browser:
            reference = _begin(client)
            for picture in PICTURES:
                print(picture.take(browser, address, _KEY, IMAGES), flush=True)
            while reference.report().pending:
                client.search("shop-faq", "用了优惠券但没减钱")
            seen = dashboard_picture.Seen(prometheus, began, time.time())
            print(dashboard_picture.take(browser, seen, IMAGES), flush=True)


if __name__ == "__main__":
    main()
