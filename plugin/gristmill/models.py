"""Which model is meant, and what a worker says about it."""

from __future__ import annotations

import time

from gristmill.ledger import Ledger
from gristmill.settings import ClientSettings
from gristmill_schemas import EncoderInfo
from gristmill_schemas.errors import NoWorker

_LOOK_S = 0.2


def served(ledger: Ledger, settings: ClientSettings, model: str | None, wait_s: float) -> EncoderInfo:
    """What a worker says about the model; waits for one to say it.

    Args:
        ledger: where workers announce their models.
        settings: name the model, if `model` is None.
        model: label or digest; None takes GRISTMILL_MODEL, or where that is not set, the one model that is being served.
        wait_s: how long to wait.

    Raises:
        NoWorker: nobody has announced it in that time.
    """
    wanted = model or (settings.model if "model" in settings.model_fields_set else None)
    until = time.monotonic() + wait_s
    while (found := _announced(ledger, wanted)) is None:
        if time.monotonic() >= until:
            known = ", ".join(info.model for info in ledger.models()) or "none"
            name = wanted or settings.model
            raise NoWorker(
                f"model: no worker has announced {name!r} (announced: {known}); "
                f"start one: `gristmill worker --model {name}`"
            )
        time.sleep(_LOOK_S)
    return found


def _announced(ledger: Ledger, wanted: str | None) -> EncoderInfo | None:
    infos = ledger.models()
    if wanted is not None:
        return next((info for info in infos if wanted in (info.model, info.digest)), None)
    live = {status.get("model_digest") for status in ledger.workers().values()}
    serving = [info for info in infos if info.digest in live]
    return serving[0] if len(serving) == 1 else None
