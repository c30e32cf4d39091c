"""The encoder on this machine's own accelerator: a transformers model behind the `Encoder` protocol.

In: a batch of tokenized texts. Out: their float32 vectors, in order, by one forward pass. What a batch holds, and what
becomes of one that does not fit, is the batcher's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch

from gristmill_schemas import ChunkBy
from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed, GristmillError
from gristmill_worker.encoder.base import BatchLimits, TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans
from gristmill_worker.encoder.local.budget.tuning import Tuning
from gristmill_worker.encoder.local.cpu.cores import Cores, launches_at_once
from gristmill_worker.encoder.local.cuda.attention import varlen_kernel
from gristmill_worker.encoder.local.load import Loaded
from gristmill_worker.encoder.local.parity import choose_forward
from gristmill_worker.encoder.local.replay import ReplayedForward
from gristmill_worker.encoder.local.staging import to_host
from gristmill_worker.encoder.tokenizing import TokenizerReader

#: What torch says without a type of its own: on a CPU, of page-locked memory, and where a library of the card has no room.
_NO_MEMORY: Final = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class TransformersEncoder:
    """See `Encoder`. Threads call `launch` and `encode` as `limits` says; any thread may call `tokenize` and `chunk`."""

    def __init__(self, loaded: Loaded, budget_tokens: int, *, packed: bool | None = None) -> None:
        """Choose the pass and keep the model.

        Args:
            loaded: the model.
            budget_tokens: most tokens per forward pass.
            packed: None packs if the parity gate allows; True insists; False pads.

        Raises:
            InvalidInput: `packed=True`, and the gate refuses the model.
        """
        self.info = loaded.info
        self.device = str(loaded.device)
        self.dtype = str(loaded.dtype).removeprefix("torch.")
        self._tokenizer, self._head = loaded.tokenizer, loaded.head
        self._reader = TokenizerReader(loaded.tokenizer, loaded.info)
        #: See `ReadsTokens.vocabulary`. On an accelerator an id beyond the table would break the device.
        self.vocabulary = _rows(loaded.model)
        with torch.inference_mode():
            self._forward = choose_forward(loaded, packed)
        padded = self._forward.padded
        self._cores = Cores(launches_at_once((loaded.model, loaded.head), loaded.device, packed=not padded))
        #: On CUDA a launch returns before its kernels ran, so the next can be prepared meanwhile; elsewhere it computes.
        in_flight = 2 if loaded.device.type == "cuda" else self._cores.launches
        on_threads = self._cores.launches > 1
        #: The pass whose small launches go beside the others.
        self._replayed = self._forward if isinstance(self._forward, ReplayedForward) else None
        self._limits = BatchLimits(
            budget_tokens, padded=padded, in_flight=in_flight, on_threads=on_threads, beside=self._replayed is not None
        )
        #: Watches over a measured budget; None where the budget was given.
        self.tuning: Tuning | None = None
        self._ran_out = False
        self._finished_at = 0.0

    @property
    def limits(self) -> BatchLimits:
        """See `Encoder.limits`; a measured budget may change while the encoder runs."""
        return self._limits if self.tuning is None else replace(self._limits, tokens=self.tuning.budget_tokens)

    @property
    def packed(self) -> bool:
        """Whether the padding-free pass runs."""
        return not self.limits.padded

    @property
    def attention(self) -> str:
        """Which attention runs."""
        if not self.packed:
            return "SDPA, padded"
        return varlen_kernel().name if self.device.startswith("cuda") else "SDPA or blocks, by runs of equal length"

    def count(self, text: str) -> int:
        """Tokens of a text, without the model's special ones."""
        return self._tokenizer.count(text)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """See `TextReader.tokenize`."""
        return self._reader.tokenize(texts)

    def chunk(self, text: str, size: int, overlap: int, by: ChunkBy = ChunkBy.TEXT, reserved: int = 0) -> Spans:
        """See `TextReader.chunk`."""
        return self._reader.chunk(text, size, overlap, by, reserved)

    def of_ids(self, ids: Sequence[int], *, keep_end: bool = False) -> TokenizedText:
        """See `ReadsTokens.of_ids`."""
        window = self.info.max_tokens
        kept = ids[-window:] if keep_end else ids[:window]
        return TokenizedText("", np.asarray(kept, dtype=np.int32), len(kept), len(kept) < len(ids))

    def ids_of(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """See `ReadsTokens.ids_of`."""
        return self._tokenizer.ids_of(texts, special=special)

    def ending(self, text: str, tokens: int) -> str:
        """See `KeepsEnds.ending`."""
        return self._tokenizer.ending(text, tokens)

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """See `Encoder.encode`."""
        with self._cores.alone():
            # It says nothing of launches that share the cores.
            return self._launch(batch, lambda: True)()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """See `Encoder.launch`."""
        with self._cores.share() as crowded:
            return self._launch(batch, crowded)

    def _launch(self, batch: Sequence[TokenizedText], unlike: Callable[[], bool]) -> Callable[[], Vectors]:
        """One pass; `unlike` says afterwards whether it had more or less of the cores than those that were measured."""
        if not batch:
            empty = np.empty((0, self.info.dimensions), dtype=np.float32)
            return lambda: empty
        if self._ran_out:
            # Only now: while the error was handled, its traceback still held the activations that did not fit.
            self._ran_out = False
            self.release()
        started = time.perf_counter()
        texts = [item.ids for item in batch]
        beside = self._replayed.beside(texts) if self._replayed is not None else nullcontext()
        with self._translated_errors(), torch.inference_mode(), beside:
            pooled = self._forward(texts, [item.prompt for item in batch])
            result = self._collect(self._head(pooled))
        tokens = sum(item.n_tokens for item in batch)
        if not self.limits.on_threads:
            return _Launched(result, partial(self._finished, tokens, started))
        if self.tuning is None or unlike():
            return result
        seconds = (time.perf_counter() - started) / self._cores.launches
        return partial(self._told, self.tuning, tokens, seconds, result)

    def _finished(self, tokens: int, started: float, finished: float) -> None:
        """Of launches that an accelerator has one after the other; by whoever takes their results, who is one thread."""
        if self.tuning is None or 2 * tokens < self.tuning.budget_tokens:
            # A query, maybe, that others did not wait for.
            return
        # Launches overlap: what one takes is what it adds.
        seconds, self._finished_at = finished - max(started, self._finished_at), finished
        self.tuning.launched(tokens, seconds)

    @staticmethod
    def _told(tuning: Tuning, tokens: int, seconds: float, result: Callable[[], Vectors]) -> Vectors:
        # By whoever takes the result, who is one thread; those that launch are several.
        tuning.launched(tokens, seconds)
        return result()

    def _collect(self, vectors: torch.Tensor) -> Callable[[], Vectors]:
        """Start the copy back; the returned call waits for it."""
        copied = to_host(vectors)

        def result() -> Vectors:
            with self._translated_errors():
                return copied()

        return result

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turns what torch and transformers raise into Gristmill's errors; those pass unchanged."""
        try:
            yield
        except GristmillError:
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise EncodingFailed(f"the model failed: {type(error).__name__}: {error}") from error
            self._ran_out = self.device.startswith("cuda")
            raise AcceleratorOutOfMemory(f"the batch did not fit into memory: {error}") from error

    def release(self, *, count_anew: bool = False) -> None:
        """Give back the accelerator's memory that torch keeps for later batches.

        Args:
            count_anew: the most memory that was ever taken counts from here.
        """
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
            if count_anew:
                torch.cuda.reset_peak_memory_stats(self.device)

    def close(self) -> None:
        """See `Encoder.close`; the encoder cannot be used afterwards."""
        del self._forward, self._replayed
        self.release()


class _Launched:
    """See `Pending`."""

    def __init__(self, result: Callable[[], Vectors], finished: Callable[[float], None]) -> None:
        self._result, self._finished = result, finished
        self._vectors: Vectors | None = None
        self._finished_at = 0.0

    def wait(self) -> None:
        """See `Pending.wait`; errors come once."""
        self._held()

    def __call__(self) -> Vectors:
        """See `Pending`; once."""
        vectors = self._held()
        self._finished(self._finished_at)
        return vectors

    def _held(self) -> Vectors:
        if self._vectors is None:
            self._vectors = self._result()
            self._finished_at = time.perf_counter()
        return self._vectors


def _rows(model: Any) -> int:
    """Of the model's table of tokens; static embeddings are one themselves."""
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else model
    return int(table.num_embeddings)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the batch did not fit; by type, and where torch has no type for it, by its words."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    )
