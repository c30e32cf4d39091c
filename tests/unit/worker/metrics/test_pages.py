"""The page of a whole worker, served and read: every series is in the catalogue, named as Prometheus asks."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from http import HTTPStatus
from socket import create_connection, create_server

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families

from gristmill.ledger import MemoryLedger
from gristmill.maintenance.troubles.judging import HUNG_S
from gristmill.probes.health import Health
from gristmill.store.collections import Collections
from gristmill.store.connection import open_local_store
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.metering.sections import Section, Sheet
from gristmill_worker.process.host import Host
from gristmill_worker.process.metrics.catalogue import METRICS
from gristmill_worker.process.metrics.port import MetricsPort, answers
from gristmill_worker.process.metrics.worker import LedgerWatch, Start, show_health, show_host
from gristmill_worker.process.pulse import Heart
from gristmill_worker.reranker.overlap import OverlapReranker
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.webhooks.sender import WebhookSender
from scraping import Series, scrape, total
from unit.ledger.parcels import LONG_S, ROOMY, lapse, parcel_of
from waiting import eventually
from webhook_receiver import LOOPBACK, SECRET, receiving

WELL = Health(live=True, ready=True)


@pytest.fixture
def host() -> Iterator[Host]:
    """Of a worker with a model and a reranker."""
    with ExitStack() as closing_:
        store = open_local_store(":memory:")
        closing_.callback(store.close)
        ledger = MemoryLedger()
        host = Host(WorkerSettings(), ledger, store, Collections(store, local=True), lambda model, count: None)
        closing_.callback(host.close)
        host.add(HashEncoder(4))
        host.add_reranker(OverlapReranker(64))
        yield host


@pytest.fixture
def sections(host: Host) -> Iterator[list[Section]]:
    with ExitStack() as closing_:
        heart = Heart(None)
        closing_.callback(heart.close)
        heart.attend(host, lambda: 0.0)
        yield [
            Start({"hung": 2}),
            LedgerWatch(),
            partial(show_health, heart=heart),
            partial(show_host, host=host, heart=heart, timeout_s=600),
        ]


@pytest.fixture
def port(sections: list[Section]) -> Iterator[MetricsPort]:
    with closing(MetricsPort("127.0.0.1", 0, answers(sections, lambda: WELL))) as port:
        yield port


def test_every_series_is_in_the_catalogue_with_these_labels(port: MetricsPort) -> None:
    page = httpx.get(f"{port.address}/metrics", timeout=60).text
    for family in text_string_to_metric_families(page):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        known = METRICS[name]
        assert known.kind == family.type
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(known.labels), name
        assert name.startswith("process_") or family.documentation == known.meaning
    assert 'gristmill_restarts_total{cause="hung"} 2.0' in page


def test_a_batch_that_does_not_end_shows_as_a_device_that_is_waited_for(host: Host, port: MetricsPort) -> None:
    def page() -> dict[Series, float]:
        return scrape(str(port.address))

    batcher = next(iter(host.engines.values())).batcher
    batcher._waits_since = time.monotonic()
    assert total(page(), "gristmill_waiting", cause="device") == 0
    batcher._waits_since -= HUNG_S + 1
    assert total(page(), "gristmill_waiting", cause="device") == 1
    assert total(page(), "gristmill_encode_timeout_seconds") == 600


def test_webhooks_are_counted_by_what_became_of_them_and_by_what(host: Host, port: MetricsPort) -> None:
    def page() -> dict[Series, float]:
        return scrape(str(port.address))

    def sent(over: Callable[[], bool]) -> None:
        def look() -> bool:
            host.webhooks()
            return over()

        eventually(look)

    assert total(page(), "gristmill_webhooks_given_up_total") == 0
    settings = WorkerSettings(
        webhook_secret=SECRET,
        webhook_private_networks=LOOPBACK,
        webhook_retry_s=1e-6,
        webhook_timeout_s=60,
        webhook_attempts=2,
    )
    host.webhooks = WebhookSender(settings, host.ledger, "w", host.notices)
    answers = [500, 204, 404, 404, 410]
    with receiving(answers=answers) as receiver, closing(host.webhooks):
        for tried in (2, 4, 5):
            host.ledger.close_job(host.ledger.open_job("c", notify=receiver.url).job_id)
            sent(lambda: len(receiver.told) >= tried)  # noqa: B023  # called at once
            eventually(lambda: not host.webhooks._threads)
        host.ledger.close_job(host.ledger.open_job("c", notify="http://169.254.169.254/").job_id)
        sent(lambda: total(page(), "gristmill_webhooks_given_up_total", reason="address") == 1)
    told = page()
    assert total(told, "gristmill_webhooks_delivered_total") == 1
    assert [total(told, "gristmill_webhooks_retried_total", reason=each) for each in ("5xx", "4xx", "timeout")] == [
        1,
        1,
        0,
    ]
    assert total(told, "gristmill_webhooks_given_up_total", reason="4xx") == 2
    assert total(told, "gristmill_webhooks_given_up_total") == 3


def test_a_parcel_that_is_taken_over_is_counted(host: Host, port: MetricsPort) -> None:
    engine = next(iter(host.engines.values()))
    ticket = host.ledger.open_job("c")
    parcel = parcel_of(ticket, model=engine.digest)
    host.ledger.accept(parcel, 0, ROOMY)
    for taken_over in (0, 1):
        claim = host.ledger.claim(engine.digest, LONG_S)
        assert claim is not None
        engine.meter.claimed(claim)
        assert total(scrape(str(port.address)), "gristmill_parcels_taken_over_total") == taken_over
        lapse(host.ledger, parcel.id)


def test_no_series_comes_twice(port: MetricsPort) -> None:
    lines = [line.rpartition(" ")[0] for line in httpx.get(f"{port.address}/metrics", timeout=60).text.splitlines()]
    assert sorted(lines) == sorted(set(lines))


def test_names_and_helps_are_as_prometheuss_linter_asks() -> None:
    for metric in METRICS.values():
        assert re.fullmatch(r"(gristmill|process)_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(
            r"_(counter|gauge|histogram|summary|count|sum|bucket|ms|milliseconds|minutes|kb|mb|percent)$", metric.name
        )
        assert metric.meaning
        assert not metric.meaning.endswith(".")
        assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
        for unit in ("seconds", "bytes", "ratio"):
            assert (unit in metric.name) == (metric.unit == unit), metric.name


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is part of Debian's prometheus")
def test_promtool_finds_nothing_to_say(port: MetricsPort) -> None:
    page = httpx.get(f"{port.address}/metrics", timeout=60).content
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_openmetrics_is_spoken_where_it_is_asked_for(port: MetricsPort) -> None:
    answer = httpx.get(
        f"{port.address}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}, timeout=60
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in open_families(answer.text)}  # type: ignore[no-untyped-call]
    assert names >= {"gristmill_documents", "gristmill_waiting"}


@pytest.mark.parametrize(
    ("health", "path", "status", "said"),
    [
        (WELL, "/healthz", 200, "live\n"),
        (WELL, "/readyz", 200, "ready\n"),
        (Health(live=True, ready=False, findings=["worker 7 is starting"]), "/healthz", 200, "live\n"),
        (
            Health(live=True, ready=False, findings=["worker 7 is starting"]),
            "/readyz",
            503,
            "not ready\nworker 7 is starting\n",
        ),
        (Health(live=False, ready=False, findings=["it hangs"]), "/healthz", 503, "not live\nit hangs\n"),
        (WELL, "/elsewhere", 404, "expected /metrics, /healthz, /readyz or /scale\n"),
    ],
)
def test_probes_get_the_judgement_and_its_reason(health: Health, path: str, status: int, said: str) -> None:
    with closing(MetricsPort("127.0.0.1", 0, answers([], lambda: health))) as port:
        answer = httpx.get(f"{port.address}{path}", timeout=60)
    assert (answer.status_code, answer.text) == (status, said)


def test_autoscalers_are_told_of_the_model_that_they_name() -> None:
    def scale(model: str | None) -> tuple[HTTPStatus, dict[str, object]]:
        return (HTTPStatus.OK, {"model": model, "seconds": 7}) if model != "typo" else (HTTPStatus.NOT_FOUND, {})

    with closing(MetricsPort("127.0.0.1", 0, answers([], lambda: WELL, scale))) as port:
        answered = [
            httpx.get(f"{port.address}/scale", params=asked, timeout=60)
            for asked in ({"model": "a/b c"}, {}, {"model": "typo"})
        ]
    assert [each.status_code for each in answered] == [200, 200, 404]
    assert [each.json() for each in answered[:2]] == [{"model": "a/b c", "seconds": 7}, {"model": None, "seconds": 7}]


def test_nobody_may_write(port: MetricsPort) -> None:
    assert [httpx.post(f"{port.address}{path}", timeout=60).status_code for path in ("/metrics", "/readyz")] == [
        405,
        405,
    ]


def test_connections_on_which_nothing_comes_leave_room_for_a_scrape(port: MetricsPort) -> None:
    assert port.address is not None
    where = ("127.0.0.1", int(port.address.rpartition(":")[2]))
    with ExitStack() as idle:
        for _ in range(12):
            idle.enter_context(create_connection(where))
        assert httpx.get(f"{port.address}/metrics", timeout=60).is_success


def test_a_section_that_fails_is_logged_and_the_others_are_shown(
    sections: list[Section], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(sheet: Sheet) -> None:
        raise ZeroDivisionError

    with closing(MetricsPort("127.0.0.1", 0, answers([broken, *sections], lambda: WELL))) as port:
        assert "gristmill_documents_total{" in httpx.get(f"{port.address}/metrics", timeout=60).text
    assert "a section of the metrics cannot be read" in caplog.text


def test_an_address_that_is_taken_is_warned_about_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gristmill_worker.process.metrics.port._AGAIN_S", 0.05)
    with create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        port = MetricsPort("127.0.0.1", number, answers([], lambda: WELL))
    with closing(port):
        assert f"expected an address that is free on this machine, got 127.0.0.1:{number}" in caplog.text
        assert eventually(lambda: port.address) == f"http://127.0.0.1:{number}"
        assert httpx.get(f"{port.address}/healthz", timeout=60).is_success
