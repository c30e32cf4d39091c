"""From a model's name to an encoder on this machine: loaded, its forward pass chosen, its budget measured."""

from __future__ import annotations

from typing import Final

from gristmill_worker.encoder.local.budget.calibration import calibrate, measuring
from gristmill_worker.encoder.local.budget.kept import Budgets, Calibration, remembered
from gristmill_worker.encoder.local.budget.tuning import Tuning
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.load import load, machine
from gristmill_worker.encoder.model.recipe import Overrides
from gristmill_worker.phases import phase

#: Stands in the limits until something is measured.
FIRST_BUDGET: Final = 1_024


def open_local(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    overrides: Overrides | None = None,
    budget_tokens: int | None = None,
    packed: bool | None = None,
) -> TransformersEncoder:
    """Open a folder, a hub id, `demo` or `random:…`; arguments and errors are those of `open_encoder`."""
    loaded = load(model, revision=revision, device=device, dtype=dtype, overrides=overrides)
    with phase("checking the forward pass"):
        encoder = TransformersEncoder(loaded, budget_tokens or FIRST_BUDGET, packed=packed)
    if budget_tokens is None:
        encoder.tuning = tuned(encoder)
    return encoder


def tuned(encoder: TransformersEncoder) -> Tuning:
    """The budget of an encoder on this machine: remembered, or measured now."""
    key = {
        "model": encoder.info.digest,
        "device": encoder.device,
        "dtype": encoder.dtype,
        "packed": encoder.packed,
        "launches": encoder.limits.in_flight,
        "max_tokens": encoder.info.max_tokens,
        **machine(encoder.device),
    }
    device_type, budgets = encoder.device.partition(":")[0], Budgets()

    def measure() -> Calibration:
        with phase("measuring how many tokens a batch should hold", once=True):
            found = calibrate(encoder, device_type)
        # The largest batches that were tried may have taken many times what the chosen ones need.
        encoder.release(count_anew=True)
        return found

    measured = remembered(key, encoder.info.model, measure, budgets)
    return Tuning(measured, lambda: measuring(encoder, device_type), budgets)
