"""Between launches nothing waits, is imported or is locked anew: what would keep a card waiting, seen without one."""

import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from gristmill_schemas import Pooling
from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.local import packed
from gristmill_worker.encoder.local.cpu.attention import grouped_attention
from gristmill_worker.encoder.local.cuda import attention
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.forward import PackedForward
from gristmill_worker.encoder.local.head import Head
from gristmill_worker.encoder.local.layout import Layout
from gristmill_worker.encoder.local.staging import Staging

from .conftest import BUILDERS, TEXTS

PACKABLE = sorted(BUILDERS.keys() - {"gpt2"})
CPU = torch.device("cpu")
#: Operations that ask a device for a value, or for a shape that depends on one: the host waits for all its kernels.
WAITS = {
    "aten::item",
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::_unique2",
}


class Finder:
    """Sees every import of a module that is not loaded."""

    def __init__(self) -> None:
        self.looked_for: list[str] = []

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Find nothing, as the last of all finders."""
        self.looked_for.append(name)
        return None


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of the modules that were looked for and not loaded."""
    finder = Finder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    attention.varlen_kernel.cache_clear()
    yield finder.looked_for
    attention.varlen_kernel.cache_clear()


def opened(folder: Path) -> TransformersEncoder:
    encoder = open_encoder(str(folder), device="cpu", dtype="float32", budget_tokens=256, packed=True)
    assert isinstance(encoder, TransformersEncoder)
    return encoder


@pytest.mark.parametrize("name", PACKABLE)
def test_a_launch_imports_nothing(model_root: Path, name: str, imports: list[str]) -> None:
    encoder = opened(model_root / name)
    batch = encoder.tokenize(TEXTS)
    imports.clear()
    encoder.encode(batch)
    assert imports == []


@pytest.mark.parametrize("name", PACKABLE)
def test_a_packed_pass_never_asks_the_device_for_a_value(model_root: Path, name: str) -> None:
    encoder = opened(model_root / name)
    ids = [item.ids for item in encoder.tokenize(TEXTS)]
    with torch.inference_mode(), torch.profiler.profile() as profile:
        encoder._forward(ids)
    seen = {event.key for event in profile.key_averages()}
    assert "aten::embedding" in seen
    assert seen & WAITS == set()


@pytest.mark.parametrize("name", PACKABLE)
def test_a_packed_pass_of_a_card_fits_torchs_own_kernel(
    model_root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the device without memory: places, shapes and number formats are checked by torch, and values are nowhere."""
    nowhere, attend = torch.device("meta"), attention._torch_flash
    formats: set[Any] = set()

    def noted(q: Any, k: Any, v: Any, *rest: Any) -> Any:
        formats.update((x.dtype, x.stride(-1), x.device) for x in (q, k, v))
        return attend(q, k, v, *rest)

    def grouped(query: Any, key: Any, value: Any, layout: Layout, *how: Any) -> Any:
        return attention.varlen(query, key, value, layout.offsets, layout.longest, *how)

    monkeypatch.setattr(attention, "_torch_flash", noted)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    monkeypatch.setattr(packed, "grouped_attention", grouped)
    attention.varlen_kernel.cache_clear()
    model = transformers.AutoModel.from_pretrained(model_root / name, dtype=torch.bfloat16).eval().to(nowhere)
    texts = [np.arange(1, length, dtype=np.int32) for length in (9, 5, 5, 3)]
    try:
        with torch.inference_mode():
            for pooling in Pooling:
                vectors = Head()(PackedForward(model, pooling, nowhere)(texts, [0, 1, 0, 0]))
                assert (vectors.shape, vectors.dtype, vectors.device) == ((4, 64), torch.float32, nowhere)
    finally:
        attention.varlen_kernel.cache_clear()
    assert formats == {(torch.bfloat16, 1, nowhere)}


def each_alone(q: Any, k: Any, v: Any, borders: torch.Tensor, scaling: float | None, causal: bool) -> Any:
    """What torch's kernel computes on a card."""
    outs = []
    for start, stop in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        query, key, value = (x[start:stop].transpose(0, 1)[None] for x in (q, k, v))
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=causal, scale=scaling, enable_gqa=True
        )
        outs.append(out[0].transpose(0, 1))
    return torch.cat(outs)


def test_the_kernel_of_a_card_is_looked_for_once_and_gets_the_longest_text_as_a_number(
    monkeypatch: pytest.MonkeyPatch, imports: list[str]
) -> None:
    longest: list[Any] = []

    def attend(q: Any, k: Any, v: Any, offsets: Any, length: Any, scaling: Any, causal: bool, sides: Any) -> Any:
        assert sides == (-1, 0 if causal else -1)
        longest.append(length)
        return each_alone(q, k, v, offsets, scaling, causal)

    monkeypatch.setattr(attention, "_torch_flash", attend)
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    layout = Layout.of([7, 3, 3, 1], CPU)
    query, key, value = (torch.randn(1, heads, 14, 8) for heads in (4, 2, 2))
    for causal in (True, False) * 3:
        got = attention.varlen(query, key, value, layout.offsets, layout.longest, None, causal, None)
        torch.testing.assert_close(got, grouped_attention(query, key, value, layout, None, causal, None))
    assert {(type(each), each) for each in longest} == {(int, 7)}
    assert imports.count("flash_attn") <= 1
    assert attention.varlen_kernel().name == "torch flash attention"


def test_a_broken_flash_attn_is_said_once_and_torchs_kernel_runs(
    imports: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "flash_attn.py").write_text("raise RuntimeError('built for another torch')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names = {attention.varlen_kernel().name for _ in range(3)}
    assert names == {"torch flash attention"}
    assert caplog.text.count("built for another torch") == 1


def test_buffers_go_round_batch_after_batch() -> None:
    staging = Staging(CPU)
    for size in (10, 500, 4_000, 10) * 25:
        array = np.arange(size)
        there = staging.up(array)
        array[:] = -1
        assert there.tolist() == list(range(size)), "a copy of its own: the array may change at once"
        down = staging.down(torch.full((size, 2), float(size)))
        np.testing.assert_array_equal(down(), np.full((size, 2), size, dtype=np.float32))
    assert staging.made <= 2


def test_what_does_not_fit_on_the_card_takes_no_buffer_along(monkeypatch: pytest.MonkeyPatch) -> None:
    staging, empty = Staging(CPU), torch.empty
    staging.up(np.arange(10))

    def full(*shape: Any, **how: Any) -> torch.Tensor:
        if "device" in how:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return empty(*shape, **how)

    monkeypatch.setattr(torch, "empty", full)
    for _ in range(3):
        with pytest.raises(torch.OutOfMemoryError):
            staging.up(np.arange(10))
    monkeypatch.setattr(torch, "empty", empty)
    staging.up(np.arange(10))
    assert staging.made == 1


def test_a_buffer_goes_round_while_an_earlier_one_of_another_stream_is_under_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    staging, done, under_way = Staging(CPU), SimpleNamespace(query=lambda: True), SimpleNamespace(query=lambda: False)
    monkeypatch.setattr(staging, "_event", lambda: under_way)
    staging.up(np.arange(10))
    monkeypatch.setattr(staging, "_event", lambda: done)
    for _ in range(5):
        staging.up(np.arange(10))
    assert staging.made == 2


def test_results_under_way_do_not_share_a_buffer_and_keep_their_values() -> None:
    staging = Staging(CPU)
    results = [staging.down(torch.full((3, 2), float(number))) for number in range(5)]
    arrays = [result() for result in results]
    staging.down(torch.zeros(3, 2))()
    assert [float(array[2, 1]) for array in arrays] == [0, 1, 2, 3, 4]
    assert staging.made == 5


def test_nothing_at_all_goes_up_and_down_too() -> None:
    staging = Staging(CPU)
    assert staging.up(np.empty(0, dtype=np.int64)).shape == (0,)
    assert staging.down(torch.empty(0, 4))().shape == (0, 4)
