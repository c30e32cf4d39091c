"""The model behind a narrow interface: texts become token lists, token lists become vectors.

Two steps and not one, because they belong to different threads: tokenization runs ahead in the task threads, encoding
on the model's own. The batcher in between needs only the lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gristmill_schemas import ChunkBy, EncoderInfo
from gristmill_schemas.errors import EncodingFailed

#: What `Encoder.device` says where the model runs behind a server: what ails it is waited for, not cured by a new process.
REMOTE: Final = "remote"
#: float32, shape (B, D), one row per text.
Vectors = npt.NDArray[np.float32]


class StaleTokens(EncodingFailed):
    """The text was tokenized before it was known how much of it is read. Tokenized again, it says whether it fits."""


@dataclass(slots=True)
class TokenizedText:
    """One text, ready for the model. Not frozen, which doubles what making one costs."""

    #: Model input as text, templates applied; remote encoders send this.
    text: str
    #: Token ids with the model's special tokens, int32, shape (T,). Empty for remote encoders without a tokenizer.
    ids: npt.NDArray[np.int32]
    #: Cost of this text in tokens: those that are read, so of a truncated one the window.
    n_tokens: int
    #: Whether tokens beyond the model's window were cut off.
    truncated: bool = False
    #: Tokens at the start that belong to a prompt which the model's pooling leaves out.
    prompt: int = 0


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one launch may hold, and how many launches pay off at once. Only `batching` cuts by it."""

    #: Most tokens that pay off in one launch; a single longer text is still launched, alone.
    tokens: int
    #: Most texts in one launch; None where only tokens count.
    texts: int | None = None
    #: Whether a launch computes rows x longest row, so that padding counts as tokens.
    padded: bool = False
    #: Launches kept outstanding: 1 where `launch` itself computes, 2 where the next is prepared while one runs on an
    #: accelerator, more where a server takes several at once, or where as many threads launch.
    in_flight: int = 1
    #: Whether `launch` computes on a share of the processor, and so many threads may call it at once, and one more with a
    #: query. `encode` then has the whole processor for one batch, and may be called by another thread, with a query's
    #: `launch` beside it.
    on_threads: bool = False
    #: Whether a query need not wait for launches that an accelerator has before it. `launch` may be called for it by another
    #: thread than theirs, and what it returns is `Pending`.
    beside: bool = False


@runtime_checkable
class Pending(Protocol):
    """What `launch` returns where any thread may wait for a result, and the one that took the batch gets it."""

    def wait(self) -> None:
        """Until the result is there; errors are those of the call."""

    def __call__(self) -> Vectors:
        """Wait, and give the result."""


class TextReader(Protocol):
    """How a model reads texts: all that counting and cutting need of it, with or without its weights. Safe to share."""

    @property
    def info(self) -> EncoderInfo:
        """What the model says about itself; decides the vector space."""

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """Tokenize with special tokens, cutting at the model's window (`truncated` says where)."""

    def chunk(
        self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0
    ) -> list[tuple[int, int]]:
        """Character spans [start, end) of chunks of at most `size` tokens that share about `overlap` tokens.

        A text that fits gives one span over all of it. Spans ascend and together cover all that is not white space.

        Args:
            text: what to cut.
            size: most tokens of a chunk, special tokens included.
            overlap: tokens that neighbours share, about.
            by: where to cut.
            reserved: tokens of the window that are left free, beside those of the document's template.
        """


class Encoder(TextReader, Protocol):
    """A loaded model. Many threads may call `tokenize` and `chunk`; one `launch` and `encode`, or as `limits` says."""

    @property
    def device(self) -> str:
        """Where it runs: `cpu`, `cuda:0`, `remote`."""

    @property
    def dtype(self) -> str:
        """Number format of the weights: `float32`, `bfloat16`, `float16`."""

    @property
    def limits(self) -> BatchLimits:
        """What a launch may hold. The tokens may change while it runs, where they are measured."""

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """Start one forward pass, or one request, over a whole batch; the returned call waits for the result and gives it.

        Nothing is cut here: a batch beyond `limits` is still launched as one. On an accelerator the kernels are queued when
        this returns, so the next batch can be prepared meanwhile.

        Returns:
            A call that gives float32 (B, D) in the order of `batch`, D the model's full size, L2-normalised where
            `info.normalize`. An empty batch gives shape (0, D).

        Raises:
            AcceleratorOutOfMemory: the batch did not fit.
            Unavailable: the model's server is away.
            StaleTokens: a text of the batch is to be tokenized again.
            EncodingFailed, or anything else: the batch failed. Whose fault it is, a text's or the device's, cannot be seen
                from here; the batcher finds out.
            Each from this call or from the returned one.
        """

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """`launch` one batch and wait."""

    def close(self) -> None:
        """Give the accelerator's memory back."""


@runtime_checkable
class ReadsTokens(Protocol):
    """An encoder that takes what somebody else tokenized."""

    @property
    def vocabulary(self) -> int:
        """Token ids are below it."""

    def of_ids(self, ids: Sequence[int], *, keep_end: bool = False) -> TokenizedText:
        """Token ids, special ones included, as a text: cut at the window, at its beginning where `keep_end`."""

    def ids_of(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """Token ids of texts, however long, with the model's special ones or without."""


@runtime_checkable
class KeepsEnds(Protocol):
    """An encoder that can cut off a text's beginning."""

    def ending(self, text: str, tokens: int) -> str:
        """The end of a text that has about so many tokens, special ones apart; the text where it has fewer."""
