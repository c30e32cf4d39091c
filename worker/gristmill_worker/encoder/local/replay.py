"""CUDA: a small pass as a graph, so that one call starts all its kernels.

A card ends the kernels of a query sooner than a host starts them, in Python, one by one: 12 ms for 16 tokens of Qwen3-0.6B
beside an H200, of which the card needs about one. A graph is recorded once for each of some sizes, and replayed with other
tokens: what a pass has less than a size is one more text that nobody asks for. Larger passes are started one by one, while
the card is at those before. Replayed passes have a stream of their own that goes first, so that a query does not wait for
what bulk work has the card do.

In:  texts that together fit a size.  Out: as `PackedForward`, whose pass is recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from gristmill_worker.encoder.local.forward import Ids, PackedForward, lengths_of
from gristmill_worker.encoder.local.layout import Layout, positions
from gristmill_worker.encoder.local.staging import staging

#: Tokens of the passes that are recorded. The largest holds what a launch of queries may.
SIZES: Final = (64, 128, 256, 384, 512, 640)
#: Tokens that a text has at least, on average: attention is started for as many texts as could be there.
_TOKENS_PER_TEXT: Final = 8
#: Passes before one is recorded: kernels are chosen and compiled, and libraries take their memory.
_WARM_UP: Final = 3


class ReplayedForward:
    """See `Forward`. Many passes may be under way; small ones may be launched by several threads, `beside` others."""

    padded = False

    def __init__(self, forward: PackedForward, device: torch.device) -> None:
        """Record the passes.

        Args:
            forward: the pass that is recorded, and that runs what is too large.
            device: a CUDA device.

        Raises:
            RuntimeError, or anything else: the model does what cannot be recorded, or there is no memory for it.
        """
        self._forward = forward
        #: Its kernels go before those of other streams as soon as there is room for them on the card.
        self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]  # torch's stub
        #: What a graph reads and writes is there once; in a stream that is enough, if launches enter it one by one.
        self._entering = threading.Lock()
        pool = torch.cuda.graph_pool_handle()
        # Largest first: the others find their memory in its.
        graphs = [_Graph(forward, size, device, self._stream, pool) for size in reversed(SIZES)]
        self._graphs = graphs[::-1]

    @contextmanager
    def beside(self, texts: Sequence[Ids]) -> Iterator[None]:
        """What is launched inside, results included, waits for no larger pass, if it is of texts that are replayed."""
        if self._fitting(texts) is None:
            yield
        else:
            with self._entering, torch.cuda.stream(self._stream):
                yield

    def __call__(self, texts: Sequence[Ids], prompts: Sequence[int] = ()) -> torch.Tensor:
        """See `Forward`."""
        if (graph := self._fitting(texts)) is None:
            return self._forward(texts, prompts)
        states, offsets = graph(texts)
        return self._forward.pooled(states, offsets, prompts)

    def _fitting(self, texts: Sequence[Ids]) -> _Graph | None:
        tokens = sum(lengths_of(texts))
        return next((each for each in self._graphs if tokens <= each.tokens and len(texts) <= each.texts), None)


class _Graph:
    """One recorded pass, and where it reads and writes."""

    def __init__(
        self, forward: PackedForward, tokens: int, device: torch.device, stream: torch.cuda.Stream, pool: Any
    ) -> None:
        """Record it in the stream that it is replayed in, whose priority its kernels keep."""
        self.tokens, self.texts = tokens, tokens // _TOKENS_PER_TEXT
        self._first_position, self._staging = forward.first_position, staging(device)
        # Ids, positions and borders, side by side so that one copy brings them.
        self._input = torch.zeros(2 * tokens + self.texts + 2, dtype=torch.int64, device=device)
        ids, where, self._borders = torch.split(self._input, [tokens, tokens, self.texts + 2])

        def states() -> torch.Tensor:
            return forward.states(ids, where, Layout((), (), self._borders.int(), tokens))

        self._fill([np.zeros(1, dtype=np.int32)])
        stream.wait_stream(torch.cuda.current_stream(device))
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                states()
            # Inside, since a recording that fails leaves its thread in its stream.
            with _recording(self._graph, device, stream, pool):
                self._states = states()
        torch.cuda.current_stream(device).wait_stream(stream)

    def __call__(self, texts: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        """States (sum T, H) and borders (B + 1,): good until the next call, in the order of the stream."""
        self._fill(texts)
        self._graph.replay()
        return self._states[: sum(map(len, texts))], self._borders[: len(texts) + 1]

    def _fill(self, texts: Sequence[Ids]) -> None:
        row = laid_out(texts, self.tokens, self.texts, self._first_position)
        self._staging.up(row, self._input)


@contextmanager
def _recording(
    graph: torch.cuda.CUDAGraph, device: torch.device, stream: torch.cuda.Stream, pool: Any
) -> Iterator[None]:
    """What the block has the card do is recorded. Where that fails, torch goes on as if nothing had been."""
    try:
        # Of this thread alone: another model of this process may be at work.
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            yield
    except BaseException:
        # What a card refuses to record ends with a second error, and up to 2.12 torch's allocator then takes the recording
        # for one that goes on: it keeps all memory from then on, and `empty_cache` raises. Later ones have ended it.
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device.index, pool)
        raise


def laid_out(texts: Sequence[Ids], tokens: int, most_texts: int, first_position: int = 0) -> npt.NDArray[np.int64]:
    """What a recorded pass reads of texts that fit it.

    Args:
        texts: at most `most_texts`, of at most `tokens` tokens together.
        tokens: of the pass.
        most_texts: of the pass.
        first_position: of a text's first token.

    Returns:
        int64 (2 tokens + most_texts + 2,): ids, positions, borders. The tokens that are left are one more text, all at the
        first position; further borders repeat the last.
    """
    lengths = [len(ids) for ids in texts]
    used = sum(lengths)
    row = np.zeros(2 * tokens + most_texts + 2, dtype=np.int64)
    row[:used] = np.concatenate(texts)
    where = row[tokens : 2 * tokens]
    where[:used] = positions(lengths, first_position)
    # Of nothing beyond the first: a model's table of positions may be shorter than what is left.
    where[used:] = first_position
    borders = row[2 * tokens :]
    borders[1 : len(lengths) + 1] = np.cumsum(lengths)
    borders[len(lengths) + 1 :] = tokens
    return row
