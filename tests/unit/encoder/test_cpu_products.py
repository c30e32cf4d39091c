"""Products on a CPU: every way gives what the plain modules give, and the choice among them is one of speed only."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
import torch
from torch import nn

from gristmill_worker.encoder.local.cpu import products as cpu_products
from gristmill_worker.encoder.local.cpu.fusing import JointParts, fusable, fuse
from gristmill_worker.encoder.local.cpu.products import BlasProduct, Joint, Product, ThenProduct, product

WAYS = (Product, ThenProduct, BlasProduct)
AFTER: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "gelu": lambda y, _: nn.functional.gelu(y),
    "swish": lambda y, _: nn.functional.silu(y),
    "add": lambda y, other: y + other,
    "mul": lambda y, other: y * other,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 8), (1, 5, 8), (2, 3, 8), (1, 0, 8)])
def test_every_way_gives_what_the_plain_modules_give(way: type[Product], bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(8, 12, bias), torch.randn(shape)
    with torch.inference_mode():
        other, expected, twin = torch.randn(*shape[:-1], 12), linear(x), way(linear)
        torch.testing.assert_close(twin(x), expected)
        for name in ("gelu", "swish"):
            torch.testing.assert_close(twin.activated(x, name), AFTER[name](expected, other))
        for name in ("add", "mul"):
            before = other.clone()
            torch.testing.assert_close(twin.combined(x, other, name), AFTER[name](expected, other))
            torch.testing.assert_close(other, before, msg="what is added is used again")
        torch.testing.assert_close(twin.added(x, other.clone()), expected + other)


@pytest.mark.parametrize("fastest", WAYS)
def test_in_float32_the_fastest_is_taken_and_timed_once_per_shape(
    fastest: type[Product], monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[type[Product]] = []

    def seconds(way: Product, x: torch.Tensor, other: torch.Tensor, then: str) -> float:
        timed.append(type(way))
        return 0.5 if type(way) is fastest else 1.0

    monkeypatch.setattr(cpu_products, "_seconds", seconds)
    cpu_products._fastest.cache_clear()
    try:
        for _ in range(3):
            assert type(product(nn.Linear(8, 12), "gelu")) is fastest
        assert len(timed) == len(WAYS) * timed.count(fastest)
        assert timed.count(fastest) <= 8
    finally:
        cpu_products._fastest.cache_clear()


def test_a_difference_within_noise_leaves_onednns_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_products, "_seconds", lambda way, *_: 1.0 if type(way) is Product else 0.99)
    cpu_products._fastest.cache_clear()
    try:
        assert type(product(nn.Linear(8, 12))) is Product
    finally:
        cpu_products._fastest.cache_clear()


@pytest.mark.skipif(
    not fusable(torch.device("cpu"), torch.bfloat16), reason="oneDNN packs no bfloat16 weights on this processor"
)
def test_in_bfloat16_everything_happens_inside_the_product() -> None:
    assert type(product(nn.Linear(8, 12, dtype=torch.bfloat16), "gelu")) is Product


def test_projections_of_one_row_are_one_product_and_of_others_their_own() -> None:
    torch.manual_seed(0)
    attention = nn.ModuleDict({"q_proj": nn.Linear(8, 16), "k_proj": nn.Linear(8, 4), "v_proj": nn.Linear(8, 4)})
    model = nn.ModuleDict({"attention": attention, "norm": nn.LayerNorm(8)})
    x, other = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    plain = dict(attention.items())
    with torch.inference_mode():
        expected = {name: (linear(x), linear(other)) for name, linear in plain.items()}
        undo = fuse(model)
        twins = dict(attention.items())
        assert all(twins[name] is not plain[name] for name in plain)
        for _ in range(2):
            for name, twin in twins.items():
                torch.testing.assert_close(twin(x), expected[name][0])
            for name, twin in twins.items():
                torch.testing.assert_close(twin(other), expected[name][1])
        for name in ("v_proj", "q_proj", "v_proj"):
            torch.testing.assert_close(twins[name](x), expected[name][0])
            torch.testing.assert_close(twins["k_proj"](other), expected["k_proj"][1])
    undo()
    assert dict(attention.items()) == plain


def test_a_pass_on_another_thread_takes_nothing_of_this_ones_products() -> None:
    computed: list[torch.Tensor] = []

    def joint(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        computed.append(x)
        return x, x + 1, x + 2

    parts = JointParts(cast("Joint", joint))

    def whole(x: torch.Tensor) -> list[float]:
        return [float(parts.part(index, x)) for index in range(3)]

    here = torch.tensor(10.0)
    found = [float(parts.part(0, here))]
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(whole, torch.tensor(20.0)).result(60) == [20, 21, 22]
    found += [float(parts.part(index, here)) for index in (1, 2)]
    assert found == [10, 11, 12]
    assert len(computed) == 2, "each pass once"
