"""`GET /scale` of `gristmill serve`: the seconds of work that its Redis knows of, for autoscalers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gristmill_schemas import EncoderInfo, Pooling
from gristmill_worker.encoder.hash_encoder import HashEncoder
from services import free_port
from serving import Serving, served
from unit.ledger.parcels import ROOMY, parcel_of, redis_ledger

PREFIX = "t-scale"


def announced(name: str) -> EncoderInfo:
    return EncoderInfo(
        model=name, digest=f"d-{name}", pooling=Pooling.MEAN, dimensions=8, min_dimensions=1, max_tokens=9
    )


@pytest.fixture
def beside(redis_url: str) -> Iterator[Serving]:
    """A server whose Redis has 20,480 tokens waiting for `small`, and nothing for `large`."""
    with redis_ledger(redis_url, key_prefix=PREFIX, scale_tokens_per_s=1024) as ledger:
        for name in ("small", "large"):
            ledger.announce(announced(name))
        ticket = ledger.open_job("c")
        parcel = parcel_of(ticket, f"{ticket.job_id}.0", 2, text="x" * (4 * 10_240 - 2), model="d-small")
        ledger.accept(parcel, 0, ROOMY)
    with served([HashEncoder(8)], redis_url=redis_url, key_prefix=PREFIX) as running:
        yield running


def test_seconds_of_each_model_and_their_sum(beside: Serving) -> None:
    told = beside.http.get("/scale").json()
    assert told["seconds"] == 20
    (small,) = (each for each in told["models"] if each["seconds"])
    assert small == {
        "seconds": 20,
        "list": f"{{{PREFIX}}}:seconds:d-small",
        "model": "small",
        "model_digest": "d-small",
        "documents": 2,
        "tokens": 20_480,
        "workers": 0,
        "loading": 0,
    }


@pytest.mark.parametrize(("model", "seconds"), [("small", 20), ("d-small", 20), ("large", 0)])
def test_one_model_by_its_name_or_digest(beside: Serving, model: str, seconds: int) -> None:
    answer = beside.http.get("/scale", params={"model": model})
    assert (answer.status_code, answer.json()["seconds"]) == (200, seconds)


def test_a_model_that_nobody_has_announced_is_not_found_and_the_known_ones_are_named(beside: Serving) -> None:
    answer = beside.http.get("/scale", params={"model": "smal"})
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["param"] == "model"
    assert "no worker has announced 'smal' (announced: " in error["message"]


def test_without_redis_it_says_so_and_the_server_goes_on(hasty_redis: None) -> None:
    with served([HashEncoder(8)], redis_url=f"redis://127.0.0.1:{free_port()}/0") as running:
        answer = running.http.get("/scale")
        assert answer.status_code == 503
        assert "cannot be used" in answer.json()["error"]["message"]
        assert running.embed(model="hash:8", input="a").is_success


def test_it_is_behind_the_keys(tmp_path: Path, redis_url: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-of-the-scaler-0123456789\n")
    keys.chmod(0o600)
    with served([HashEncoder(8)], redis_url=redis_url, serve_api_keys=str(keys)) as running:
        assert running.http.get("/scale").status_code == 401
        known = {"authorization": "Bearer sk-of-the-scaler-0123456789"}
        assert running.http.get("/scale", headers=known).json() == {"seconds": 0, "models": []}
