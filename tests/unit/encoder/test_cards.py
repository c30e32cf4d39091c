"""What is said of cards, and the benchmark of one, seen without a card."""

from pathlib import Path

import pytest
import torch

from gristmill_schemas.errors import InvalidInput
from gristmill_worker import doctor
from gristmill_worker.bench import gpu
from gristmill_worker.encoder import cards
from gristmill_worker.encoder.local.cuda import chosen
from gristmill_worker.encoder.local.load import choose_dtype

BULK = {
    "texts", "tokens", "mean_tokens",
    "tokens_per_s", "texts_per_s", "useful_tflops", "gemm_tflops", "ceiling_fraction", "nominal_fraction",
    "memory_gb", "ratio_to_peer",
}  # fmt: skip


@pytest.fixture
def one_card(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A machine with one card, as torch would tell of it."""
    for name, answer in {
        "is_available": True, "device_count": 1, "get_device_name": "NVIDIA H100 80GB HBM3",
        "get_device_capability": request.param, "mem_get_info": (60 * 10**9, 80 * 10**9),
        "is_bf16_supported": request.param >= (8, 0),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(cards, "driver_version", lambda: "570.1")
    monkeypatch.setattr(chosen, "triton_problem", lambda *_: None)


@pytest.mark.parametrize("one_card", [(9, 0)], indirect=True)
@pytest.mark.usefixtures("one_card")
def test_doctor_says_what_keeps_a_cards_layers_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "triton_problem", lambda *_: "no C compiler: install gcc")
    (card,) = (check for check in doctor.checks(None) if check.name == "card")
    assert card.detail.endswith("no C compiler: install gcc")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_without_triton_torchs_operations_run_and_the_way_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    card = torch.device("cuda", 7)
    assert chosen.kernels(card, torch.bfloat16).name == "torch"
    assert "apt-get install gcc" in caplog.text
    assert chosen.kernels(torch.device("cpu"), torch.bfloat16).name == "torch"
    assert caplog.text.count("apt-get") == 1


@pytest.mark.parametrize("one_card", [(9, 0)], indirect=True)
@pytest.mark.usefixtures("one_card")
def test_doctor_tells_capability_memory_number_format_attention_and_driver() -> None:
    shown = {check.name: check.detail for check in doctor.checks(None)}
    for words in (
        "H100",
        "compute capability 9.0",
        "60.0 of 80.0 GB free",
        "bfloat16 yes",
        "flash attention",
        "driver 570.1",
    ):
        assert words in shown["card"]
    assert "padded" not in shown["card"]


@pytest.mark.parametrize("one_card", [(9, 0)], indirect=True)
@pytest.mark.usefixtures("one_card")
def test_doctor_says_that_a_card_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(index: int) -> tuple[int, int]:
        raise torch.AcceleratorError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse)
    (card,) = (check for check in doctor.checks(None) if check.name == "card")
    assert not card.ok
    assert "busy or unavailable" in card.detail


def test_the_number_format_is_that_of_the_card_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two kinds in one machine, torch's own question is about the current one."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_capability", lambda device: ((9, 0), (7, 5))[torch.device(device).index]
    )
    formats = [choose_dtype("auto", torch.device("cuda", index)) for index in range(2)]
    assert formats == [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("one_card", [(7, 5)], indirect=True)
@pytest.mark.usefixtures("one_card")
def test_doctor_says_what_an_old_card_does_without() -> None:
    shown = {check.name: check.detail for check in doctor.checks(None)}
    assert "bfloat16 no, attention: SDPA, padded" in shown["card"]
    assert "older than compute capability 8.0" in shown["card"]


def test_a_driver_that_does_not_answer_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cards.driver_version() == "unknown"


def test_nominal_rates_go_by_name() -> None:
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA L40S", "NVIDIA L4", "Some card")
    assert [cards.nominal_tflops(name) for name in names] == [989, 756, 362, 121, None]


@pytest.mark.slow
def test_the_table_has_four_cases_and_names_what_it_was_measured_on(
    qwen3: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "QUERIES", 8)
    monkeypatch.setattr(gpu, "LONG_TOKENS", 64)
    table = gpu.run_gpu_bench(
        str(qwen3), device="cpu", dtype="float32", n_texts=8, peer=True, budget_tokens=256, rounds=1
    )
    assert list(table["cases"]) == ["mixed", "short", "long", "queries"]
    assert {name: set(case) for name, case in table["cases"].items() if name != "queries"} == dict.fromkeys(
        ("mixed", "short", "long"), BULK
    )
    assert (table["device"], table["card"], table["peer"]) == ("cpu", None, "sentence-transformers, sdpa")
    assert table["max_cosine_error"] < 1e-5
    assert all(case["ratio_to_peer"] > 0 for case in table["cases"].values())
    assert table["cases"]["queries"]["waiting_queries_per_s"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a card")
def test_without_a_card_the_benchmark_says_so() -> None:
    with pytest.raises(InvalidInput, match="this machine has none"):
        gpu.run_gpu_bench("random:qwen3-0.6b:1")
