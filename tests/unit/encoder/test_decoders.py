"""A decoder's layer as a processor runs it and as a card does: what transformers' own layer gives."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from gristmill_worker.encoder.local.cpu import decoder as of_cpu
from gristmill_worker.encoder.local.cpu.fusing import fuse as fuse_for_cpu
from gristmill_worker.encoder.local.cuda import decoder as of_cuda
from gristmill_worker.encoder.local.swapping import Undo

from .decoders import FAMILIES, decoder, states

Fuse = Callable[[nn.Module], Undo]
#: The card's runs on a processor too, with torch's kernels.
BOTH = pytest.mark.parametrize(
    ("fuse", "twin"),
    [(fuse_for_cpu, of_cpu.DecoderLayer), (of_cuda.fuse, of_cuda.DecoderLayer)],
    ids=["cpu", "cuda"],
)


@BOTH
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_gives_the_same_states_with_its_layers_swapped_and_after_they_are_put_back(
    fuse: Fuse, twin: type[nn.Module], family: str, attention: str
) -> None:
    model = decoder(family)
    model.set_attn_implementation(attention)
    expected = states(model)
    undo = fuse(model)
    assert {type(layer) for layer in model.layers} == {twin}
    torch.testing.assert_close(states(model), expected, rtol=1e-5, atol=1e-5)
    undo()
    torch.testing.assert_close(states(model), expected, rtol=0, atol=0)


@BOTH
@pytest.mark.parametrize(
    ("family", "window"),
    [
        ("Mistral", {"sliding_window": 4}),
        ("Qwen3", {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 1}),
    ],
)
def test_a_layers_window_is_kept(fuse: Fuse, twin: type[nn.Module], family: str, window: dict[str, Any]) -> None:
    """Whoever attends is told the window: the packed pass has no mask that would say it."""
    seen: list[int | None] = []
    kind: Any = transformers.AttentionInterface

    def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **how: Any) -> Any:
        seen.append(how["sliding_window"])
        return query.transpose(1, 2), None

    kind.register("noted", attend)
    model = decoder(family, **window)
    model.set_attn_implementation("noted")
    plain = states(model)
    told, seen[:] = list(seen), []
    fuse(model)
    torch.testing.assert_close(states(model), plain, rtol=1e-5, atol=1e-5)
    assert seen == told
    assert 4 in seen
    assert {type(layer) for layer in model.layers} == {twin}
