"""What an NVIDIA card is: its driver, its nominal rate, and which attention runs on it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import Final

import torch

#: Dense bfloat16 products, TFLOP/s, as the makers state them; the first name that is found in the card's own counts.
_NOMINAL_TFLOPS: Final = {
    "B200": 2_250, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "GH200": 989, "A100": 312, "A40": 150,
    "A30": 165, "A10": 125, "L40S": 362, "L40": 181, "L4": 121, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
#: Smallest compute capability with bfloat16 and the kernels of packed attention.
_PACKED_FROM: Final = (8, 0)


@dataclass(frozen=True, slots=True)
class Card:
    """One card, as `gristmill doctor` shows it."""

    index: int
    name: str
    capability: tuple[int, int]
    memory_gb: float
    free_gb: float
    bf16: bool
    attention: str
    #: Why decoder layers run more slowly than they could; None where they do not.
    slow_layers: str | None = None

    @property
    def problem(self) -> str | None:
        """What stands in the way of full speed; None where nothing does."""
        if self.capability < _PACKED_FROM:
            return "older than compute capability 8.0: texts are padded, in float16"
        return self.slow_layers

    def describe(self, driver: str) -> str:
        """One line."""
        major, minor = self.capability
        line = (
            f"cuda:{self.index} {self.name}, compute capability {major}.{minor}, "
            f"{self.free_gb:.1f} of {self.memory_gb:.1f} GB free, bfloat16 {'yes' if self.bf16 else 'no'}, "
            f"attention: {self.attention}, driver {driver}, CUDA {torch.version.cuda}"
        )
        return f"{line}; {self.problem}" if self.problem else line


def cards() -> list[Card]:
    """Every card that torch sees; none gives an empty list."""
    return [_card(index) for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


def _card(index: int) -> Card:
    from gristmill_worker.encoder.local.cuda.attention import varlen_kernel
    from gristmill_worker.encoder.local.cuda.chosen import triton_problem

    capability = torch.cuda.get_device_capability(index)
    free, total = torch.cuda.mem_get_info(index)
    attention = varlen_kernel().name if capability >= _PACKED_FROM else "SDPA, padded"
    bf16 = capability >= _PACKED_FROM
    slow = triton_problem(torch.device("cuda", index), torch.bfloat16) if bf16 else None
    name = torch.cuda.get_device_name(index)
    return Card(index, name, capability, total / 1e9, free / 1e9, bf16, attention, slow)


def nominal_tflops(name: str) -> float | None:
    """The maker's figure for dense bfloat16 products; None for a card that is not in the table."""
    return next((float(rate) for part, rate in _NOMINAL_TFLOPS.items() if part in name), None)


def driver_version() -> str:
    """What `nvidia-smi` says; "unknown" where it says nothing."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return out.splitlines()[0].strip() if out.strip() else "unknown"
