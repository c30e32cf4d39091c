"""Where a webhook may go: no address inside, however it is written, however its name changes, whatever answers."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gristmill.ingest.notify import is_allowed, parse_networks
from gristmill.ledger.webhooks.base import DueWebhook
from gristmill.settings import load_settings
from gristmill_schemas import JobReport, JobState
from gristmill_worker.settings import WorkerSettings
from gristmill_worker.webhooks.delivery import Delivery, Failure
from gristmill_worker.webhooks.network import resolve
from services.redis import make_certificate
from webhook_receiver import LOOPBACK, SECRET, Receiver, receiving

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.100.100.200",
    "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1",
    "fe80::1", "fe80::1%1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:7f00:1::1", "2001:db8::1", "192.88.99.1", "100::1",
]  # fmt: skip
OUTSIDE = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2a00:1450::5"]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_inside_is_refused_whatever_form_it_takes(address: str) -> None:
    assert not is_allowed(ipaddress.ip_address(address), (), secure=True)


@pytest.mark.parametrize("address", OUTSIDE)
def test_a_public_address_is_allowed_by_https_alone(address: str) -> None:
    assert is_allowed(ipaddress.ip_address(address), (), secure=True)
    assert not is_allowed(ipaddress.ip_address(address), (), secure=False)


def test_a_network_that_is_named_is_allowed_and_no_other() -> None:
    private = parse_networks("10.1.0.0/16, 192.168.7.4 fd00:1::/32")
    for allowed in ("10.1.2.3", "192.168.7.4", "fd00:1::9", "::ffff:10.1.2.3"):
        assert is_allowed(ipaddress.ip_address(allowed), private, secure=False)
    for refused in ("10.2.0.1", "192.168.7.5", "fd00:2::9", "169.254.169.254", "127.0.0.1"):
        assert not is_allowed(ipaddress.ip_address(refused), private, secure=True)


def due(url: str, attempt: int = 1) -> DueWebhook:
    job = JobReport(job_id="j", collection="c", state=JobState.DONE, accepted=1, stored=1)
    return DueWebhook("j.1", url, attempt, job, 1_700_000_000.0)


def delivery(private: str | None = None, **how: Any) -> Delivery:
    given = {name: how.pop(name) for name in list(how) if name.startswith("webhook_")}
    settings = load_settings(
        WorkerSettings, **{"webhook_secret": SECRET, "webhook_timeout_s": 60, **given}, webhook_private_networks=private
    )
    return Delivery(settings, **how)


def failed(outcome: Failure | None) -> Failure:
    assert outcome is not None
    return outcome


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_loopback_is_not_spoken_to_under_any_name(host: str, scheme: str) -> None:
    with receiving() as receiver:
        outcome = failed(delivery()(due(receiver.url.replace("http://localhost", f"{scheme}://{host}"))))
        assert "GRISTMILL_WEBHOOK_PRIVATE_NETWORKS" in outcome.reason
        assert outcome.final is (host not in ("localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0"))
        assert receiver.told == []


def test_a_name_with_one_address_inside_is_refused_even_if_another_is_public() -> None:
    asked = delivery(resolve=lambda host, port: ["8.8.8.8", "10.0.0.7"])
    assert "hooks.example is at 10.0.0.7" in failed(asked(due("https://hooks.example/x"))).reason


class TwoFaced:
    """A name that means a public address to whoever looks first, and one inside to whoever looks again."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return ["127.0.0.2"] if self.asked == 1 else ["127.0.0.1"]


def test_the_address_that_was_checked_is_the_one_that_is_spoken_to() -> None:
    # The checked one, on which nobody listens; a second look would find the receiver.
    name = TwoFaced()
    with receiving() as receiver:
        asked = delivery("127.0.0.2", resolve=name)
        outcome = failed(asked(due(receiver.url.replace("localhost", "rebinding.example"))))
        assert (name.asked, receiver.told) == (1, [])
        assert "ConnectError" in outcome.reason


@pytest.fixture
def elsewhere() -> Any:
    with receiving() as receiver:
        yield receiver


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, elsewhere: Receiver) -> None:
    with receiving(answers=[lambda: (status, {"location": elsewhere.url})]) as receiver:
        outcome = failed(delivery(LOOPBACK)(due(receiver.url)))
        assert f"answered {status}" in outcome.reason
        assert "redirect" in outcome.reason
        assert elsewhere.paths == []


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, elsewhere: Receiver) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, elsewhere.url)
    with receiving() as receiver:
        assert delivery(LOOPBACK)(due(receiver.url)) is None
        assert (len(receiver.told), elsewhere.paths) == (1, [])


def test_tls_is_of_the_name_though_the_connection_is_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)  # of localhost and 127.0.0.1
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with receiving(certificate) as receiver:
        asked = delivery(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"])
        assert asked(due(receiver.url)) is None
        assert receiver.told[0][1]["host"] == receiver.url.split("/")[2]
        wrong = failed(asked(due(receiver.url.replace("localhost", "other.example"))))
        assert "certificate" in wrong.reason.lower()
        assert len(receiver.told) == 1


def test_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    with receiving(make_certificate(tmp_path)) as receiver:
        assert "certificate" in failed(delivery(LOOPBACK)(due(receiver.url))).reason.lower()
        assert receiver.told == []


def test_names_are_resolved_by_the_system() -> None:
    assert "127.0.0.1" in resolve("localhost", 80)
