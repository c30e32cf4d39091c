"""The measured token budget: kept, checked, shown, and measured again where it was spoiled."""

import json
import logging
from collections.abc import Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gristmill_worker import doctor
from gristmill_worker.batching.batcher import Batcher
from gristmill_worker.cli import app
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.local import load
from gristmill_worker.encoder.local.budget import calibration
from gristmill_worker.encoder.local.budget.kept import FRESH_FOR, Budgets, Calibration, Key, Measured, now, remembered
from gristmill_worker.encoder.local.budget.tuning import LAUNCHES, Tuning
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.process import supervisor

KEY: Key = {"model": "a", "device": "cpu", "dtype": "float32", "threads": 2}
SLOW = Calibration(((512, 100.0), (1_024, 90.0)), "two doublings gained nothing", 256)
QUICK = Calibration(((512, 1_000.0), (1_024, 2_000.0), (2_048, 2_010.0)), "the time was up", 256)


def test_the_choice_is_the_smallest_that_is_as_good_as_the_best_and_says_why() -> None:
    assert (SLOW.budget_tokens, QUICK.budget_tokens, QUICK.tokens_per_s) == (512, 1_024, 2_000.0)
    assert "as good as 2,048, within 3%" in QUICK.why()
    assert Calibration((), "memory ran out at 512", 256).budget_tokens == 256


def test_what_was_measured_is_remembered_per_key(tmp_path: Path) -> None:
    budgets, calls = Budgets(tmp_path), []

    def measure() -> Calibration:
        calls.append(1)
        return QUICK

    assert {remembered(KEY, "a", measure, budgets).calibration for _ in range(3)} == {QUICK}
    remembered({**KEY, "threads": 1}, "a", measure, budgets)
    assert len(calls) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "{",
        lambda text: text[: len(text) // 2],
        lambda text: "[1]",
        lambda text: "null",
        lambda text: text.replace("1024,", "16,", 1),
        lambda text: text.replace("2000.0", "NaN"),
        lambda text: text.replace("2000.0", '"fast"'),
        lambda text: text.replace("[\n", "{\n", 1),
        lambda text: text.replace('"format": 3', '"format": 2'),
        lambda text: "\udcff",
    ],
)
def test_a_file_that_cannot_be_ours_is_measured_again(tmp_path: Path, damage: "type[str]") -> None:
    budgets = Budgets(tmp_path)
    remembered(KEY, "a", lambda: QUICK, budgets)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_text("utf-8")).encode("utf-8", "surrogateescape"))
    assert remembered(KEY, "a", lambda: SLOW, budgets).calibration == SLOW
    assert remembered(KEY, "a", lambda: QUICK, budgets).calibration == SLOW
    assert [each.suffix for each in tmp_path.iterdir()] == [".json"], "moved into place, nothing is left beside it"


def test_an_unwritable_cache_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    budgets = Budgets(tmp_path / "file" / "under")
    assert remembered(KEY, "a", lambda: QUICK, budgets).calibration == QUICK
    assert (list(budgets.all()), budgets.forget()) == ([], 0)


def test_what_is_kept_is_described_with_choice_curve_and_time(tmp_path: Path) -> None:
    budgets = Budgets(tmp_path)
    measured = remembered(KEY, "some/model", lambda: QUICK, budgets)
    (kept,) = budgets.all()
    for words in (
        "some/model on cpu in float32, 2 threads: 1,024 tokens",
        "2,048: 2,010",
        f"{measured.measured_at:%Y}",
    ):
        assert words in kept.describe()
    assert (budgets.forget(), list(budgets.all())) == (1, [])


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def tuning(
    tmp_path: Path, known: Calibration, truth: Calibration, clock: Clock, *, age: timedelta | None = None
) -> Tuning:
    def measuring() -> Generator[None, None, Calibration]:
        yield
        yield
        return truth

    measured = Measured(KEY, "a", known, now() - (age or timedelta()))
    return Tuning(measured, measuring, Budgets(tmp_path), clock)


def work(tuned: Tuning, launches: int, tokens_per_s: float) -> None:
    for _ in range(launches):
        tuned.launched(tuned.budget_tokens, tuned.budget_tokens / tokens_per_s)


def test_a_measurement_of_a_busy_moment_is_made_again_when_batches_are_faster(tmp_path: Path) -> None:
    tuned = tuning(tmp_path, SLOW, QUICK, Clock())
    work(tuned, LAUNCHES - 1, 1_000.0)
    assert tuned.budget_tokens == 512, "a few batches prove nothing"
    work(tuned, 4, 1_000.0)
    assert tuned.budget_tokens == 1_024
    kept = Budgets(tmp_path).get(KEY)
    assert kept is not None
    assert kept.calibration == QUICK


def test_batches_that_are_far_slower_doubt_it_too(tmp_path: Path) -> None:
    tuned = tuning(tmp_path, QUICK, SLOW, Clock())
    work(tuned, LAUNCHES + 4, 100.0)
    assert tuned.measured.calibration == SLOW


def test_batches_that_agree_leave_it_alone_until_it_is_old(tmp_path: Path) -> None:
    fresh, old = (tuning(tmp_path, QUICK, SLOW, Clock(), age=age) for age in (timedelta(), FRESH_FOR))
    for each in (fresh, old):
        work(each, 4 * LAUNCHES, 1_900.0)
    assert (fresh.budget_tokens, old.budget_tokens) == (1_024, 512)


def test_small_batches_say_nothing(tmp_path: Path) -> None:
    tuned = tuning(tmp_path, SLOW, QUICK, Clock())
    for _ in range(4 * LAUNCHES):
        tuned.launched(10, 0.001)
    assert tuned.measured.calibration == SLOW


def test_texts_that_go_on_to_differ_are_measured_ever_more_rarely(tmp_path: Path) -> None:
    clock = Clock()
    tuned = tuning(tmp_path, SLOW, SLOW, clock)
    again = 0
    for _ in range(360):
        before = tuned.measured
        work(tuned, 40, 1_000.0)
        clock.now += 10.0
        again += tuned.measured is not before
    assert 2 <= again <= 7


def test_a_measurement_that_breaks_off_costs_no_work_and_is_made_another_time(tmp_path: Path) -> None:
    def measuring() -> Generator[None, None, Calibration]:
        yield
        raise RuntimeError("can't start new thread")

    clock = Clock()
    tuned = Tuning(Measured(KEY, "a", SLOW, now()), measuring, Budgets(tmp_path), clock)
    work(tuned, LAUNCHES + 10, 1_000.0)
    assert tuned.measured.calibration == SLOW
    tuned._measuring = tuning(tmp_path, SLOW, QUICK, clock)._measuring
    clock.now += 60.0
    work(tuned, LAUNCHES + 10, 1_000.0)
    assert tuned.measured.calibration == QUICK


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Measurements that take milliseconds, kept in a folder of the test's own."""
    monkeypatch.setattr(calibration, "RANGES", {"cpu": (32, 64)})
    monkeypatch.setattr(calibration, "TIME_LIMIT_S", 0.05)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gristmill" / "budgets"


def test_a_running_worker_heals_a_spoiled_budget_while_it_works(model_root: Path, small_steps: Path) -> None:
    def opened() -> TransformersEncoder:
        encoder = open_encoder(str(model_root / "bert"), device="cpu", dtype="float32")
        assert isinstance(encoder, TransformersEncoder)
        return encoder

    first = opened().tuning
    assert first is not None
    spoiled = replace(first.measured, calibration=Calibration(((32, 0.1), (64, 0.01)), "the time was up", 16))
    Budgets(small_steps).put(spoiled)
    encoder = opened()
    assert encoder.tuning is not None
    assert encoder.tuning.measured.calibration.tokens_per_s == 0.1
    batcher = Batcher(encoder)
    try:
        texts = encoder.tokenize(["twenty letters or so"] * 3 * LAUNCHES)
        batcher.submit(texts).result(timeout=60)
        assert encoder.tuning.measured.calibration.tokens_per_s > 1
        batcher.submit(texts[:1]).result(timeout=60)
        assert batcher.budget_tokens == encoder.limits.tokens
    finally:
        batcher.close()
    (kept,) = Budgets(small_steps).all()
    assert json.loads(next(small_steps.glob("*.json")).read_text("utf-8"))["curve"] == [
        list(point) for point in kept.calibration.curve
    ]
    assert kept.calibration == encoder.tuning.measured.calibration


def test_the_key_knows_device_number_format_threads_model_and_versions(model_root: Path, small_steps: Path) -> None:
    open_encoder(str(model_root / "bert"), device="cpu", dtype="float32")
    (kept,) = Budgets(small_steps).all()
    assert kept.key.keys() >= {
        "model", "device", "dtype", "packed", "threads", "processor", "instructions", "gristmill", "torch", "transformers"
    }  # fmt: skip
    open_encoder(str(model_root / "bert"), device="cpu", dtype="bfloat16")
    assert len(list(Budgets(small_steps).all())) == 2


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_without_hardware_works_and_says_that_it_is_slow(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, has: bool
) -> None:
    monkeypatch.setattr(load, "cpu_multiplies_bf16", lambda: has)
    cpu = torch.device("cpu")
    with caplog.at_level(logging.WARNING):
        assert load.choose_dtype("bfloat16", cpu) is torch.bfloat16
    assert ("it works, slower" in caplog.text) is not has
    assert load.choose_dtype("auto", cpu) is (torch.bfloat16 if has else torch.float32)


def test_doctor_shows_what_was_chosen_why_when_and_how_to_do_it_again(small_steps: Path) -> None:
    remembered(KEY, "some/model", lambda: QUICK, Budgets())
    shown = {check.name: check.detail for check in doctor.checks(None)}
    assert "1,024 tokens per batch, as good as 2,048" in shown["budget"]
    assert "--recalibrate" in shown["budgets"]


@pytest.mark.parametrize(("has", "said"), [(True, "`--dtype auto` takes it"), (False, "bfloat16 works, slower")])
def test_doctor_says_whether_this_machine_multiplies_bfloat16(
    monkeypatch: pytest.MonkeyPatch, has: bool, said: str
) -> None:
    monkeypatch.setattr(load, "choose_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(load, "cpu_multiplies_bf16", lambda: has)
    shown = {check.name: check.detail for check in doctor.checks(None)}
    assert said in shown["bfloat16"]


def test_recalibrate_forgets_once_and_not_at_every_restart_of_a_process(
    small_steps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered(KEY, "some/model", lambda: QUICK, Budgets())
    started: list[list[str]] = []

    def take(arguments: list[str], *_: object) -> int:
        started.append(arguments)
        return 0

    monkeypatch.setattr(supervisor, "prepare", lambda *_: None)
    monkeypatch.setattr(supervisor, "supervise", take)
    line = ["worker", "--model", "hash:8", "--recalibrate"]
    monkeypatch.setattr("sys.argv", ["gristmill", *line])
    assert CliRunner().invoke(app, line).exit_code == 0
    assert started == [["--model", "hash:8"]]
    assert list(Budgets().all()) == []
