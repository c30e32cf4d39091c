"""Whether several launches may run one model at once, and a recorded pass stand for it: not where it writes into itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

#: Rotations that adapt to a batch: they write into the model while it runs.
_ADAPTING: Final = frozenset({"dynamic", "longrope"})
#: The package in which transformers keeps code that models bring along.
_BROUGHT_ALONG: Final = "transformers_modules."


def may_write(parts: Sequence[Any]) -> bool:
    """Whether a module of these writes into itself while it runs, or is of a kind that nobody has looked through."""
    return any(_may_write(module) for part in parts for module in part.modules())


def _may_write(module: torch.nn.Module) -> bool:
    if type(module).__module__.startswith(_BROUGHT_ALONG):
        return True
    kind = getattr(module, "rope_type", None)
    return not _ADAPTING.isdisjoint(kind.values() if isinstance(kind, dict) else (kind,))
