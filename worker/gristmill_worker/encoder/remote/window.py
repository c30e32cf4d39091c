"""Where a server reads only the beginning of a long text and says nothing about the rest."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import numpy as np

from gristmill_schemas.errors import EncodingFailed, Unavailable
from gristmill_worker.encoder.remote.api import Api
from gristmill_worker.encoder.remote.refusals import TooLong

log = logging.getLogger(__name__)

#: Longest window whose end is looked for at the start, in tokens: what a server on a CPU reads in a while.
_PROBED_TOKENS: Final = 8_192
#: Cosine distance of what a server read as the same text. Texts of which half is different are hundreds of times further.
_SAME: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a text a server reads, in tokens, special ones included; None where that is not known."""

    #: Where it passes over the rest without a word, in short English words; see `silent_window`.
    silent: int | None = None
    #: Where it refuses a text that is longer, as it should, and says so.
    stated: int | None = None


def probed_window(api: Api, max_tokens: int) -> Window:
    """What a server makes of a text that is too long, at the start; one that is away now says nothing about its window.

    Raises:
        OneVector: whatever it is sent, it gives one vector.
    """
    try:
        return Window(silent=silent_window(api, min(max_tokens, _PROBED_TOKENS)))
    except TooLong as refused:
        return Window(stated=refused.window)
    except EncodingFailed:
        return Window()
    except OneVector:
        raise
    except Unavailable as away:
        log.warning("%s: whether it cuts long texts silently could not be found out: %s", api.name, away)
        return Window()


class OneVector(Unavailable):
    """Whatever the server is sent, it gives one vector."""


def silent_window(api: Api, max_tokens: int) -> int | None:
    """How many tokens the server reads of a text that is too long for it, where it says nothing about the rest.

    Two texts that begin alike, and then go on for as long, each in its own way, have one vector where only their beginning
    is read.

    Returns:
        At most a sixteenth too few, counted in short English words; None where the server reads more than `max_tokens`.
        Where it cuts, a warning says what to do.

    Raises:
        OneVector: whatever it is sent, it gives one vector.
        EncodingFailed, Unavailable: see `Api.embed`; a server that refuses what is too long cuts nothing silently.
    """
    low, high = 0, max_tokens * 9 // 8
    if not _reads_the_same(api, high):
        return None
    while high - low > max(1, high // 16):
        middle = (low + high) // 2
        low, high = (low, middle) if _reads_the_same(api, middle) else (middle, high)
    if not low:
        raise OneVector(f"{api.name} at {api.address} gives different texts one vector; check what serves it")
    log.warning(
        "%s at %s reads about %d tokens of a text and passes over the rest without a word. Longer ones count as truncated "
        "here. Better have it refuse them (TEI: --auto-truncate false), or give it a larger window",
        api.name,
        api.address,
        low,
    )
    return low


def _reads_the_same(api: Api, words: int) -> bool:
    """Whether two texts have one vector that differ only behind so many words."""
    alike = "river " * words
    first, second = api.embed([alike + "copper " * words, alike + "winter " * words]).vectors.astype(np.float64)
    return 1 - float(first @ second) / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-30) < _SAME
