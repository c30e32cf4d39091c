"""Swaps a model's modules for twins that do the same faster, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

Undo = Callable[[], None]
#: From a module to those of its children, by name, that have twins.
Twins = Callable[[nn.Module], Mapping[str, nn.Module]]


def swap(model: nn.Module, twins: Twins) -> Undo:
    """Swap what has a twin, in place; below a twin nothing is looked at.

    Returns:
        A call that puts the original modules back. Dropping it frees their weights.

    Raises:
        Whatever a twin does; then nothing is swapped.
    """
    swapped: list[tuple[nn.Module, str, nn.Module]] = []

    def undo() -> None:
        for parent, name, original in swapped:
            setattr(parent, name, original)

    try:
        _swap_children(model, twins, swapped)
    except BaseException:
        undo()
        raise
    return undo


def _swap_children(parent: nn.Module, twins: Twins, swapped: list[tuple[nn.Module, str, nn.Module]]) -> None:
    found = twins(parent)
    for name, child in list(parent.named_children()):
        if name in found:
            swapped.append((parent, name, child))
            setattr(parent, name, found[name])
        else:
            _swap_children(child, twins, swapped)
