"""The encoder on this machine's own accelerator: a transformers model behind the `Encoder` protocol.

In: tokenized texts. Out: float32 vectors in input order. A batch of any size is cut by the planner into groups within
the token budget, longest first; a group that does not fit into memory is halved, and the budget with it, down to single
texts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from gristmill_schemas.errors import AcceleratorOutOfMemory, EncodingFailed, GristmillError
from gristmill_worker.batching.planner import halve, plan
from gristmill_worker.encoder.base import TokenizedText, Vectors
from gristmill_worker.encoder.chunking import Spans
from gristmill_worker.encoder.local.choosing import Loaded, choose_forward
from gristmill_worker.encoder.pooling import unit

log = logging.getLogger(__name__)


class TransformersEncoder:
    """See `Encoder`. One thread calls `launch` and `encode`; any thread may call `tokenize` and `chunk`."""

    def __init__(self, loaded: Loaded, budget_tokens: int, *, packed: bool | None = None) -> None:
        """Choose the pass and keep the model.

        Args:
            loaded: the model.
            budget_tokens: most tokens per forward pass.
            packed: None packs if the parity gate allows; True insists; False pads.

        Raises:
            EncodingFailed: `packed=True`, and the gate refuses the model.
        """
        self.info = loaded.info
        self.device = str(loaded.device)
        self.dtype = str(loaded.dtype).removeprefix("torch.")
        self.budget_tokens = budget_tokens
        self._loaded = loaded
        self._tokenizer = loaded.tokenizer
        self._document_tokens = self._template_tokens()
        with torch.inference_mode():
            self._forward = choose_forward(loaded, packed)

    @property
    def packed(self) -> bool:
        """Whether the padding-free pass runs."""
        return not self._forward.padded

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """See `Encoder.tokenize`."""
        return self._tokenizer.tokenize(texts)

    def chunk(self, text: str, size: int, overlap: int) -> Spans:
        """See `Encoder.chunk`; the document template's own tokens are left room for."""
        return self._tokenizer.chunk(text, size, overlap, reserved=self._document_tokens)

    def encode(self, batch: Sequence[TokenizedText]) -> Vectors:
        """See `Encoder.encode`."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[TokenizedText]) -> Callable[[], Vectors]:
        """See `Encoder.launch`."""
        if not batch:
            empty = np.empty((0, self.info.dimensions), dtype=np.float32)
            return lambda: empty
        groups = plan([item.n_tokens for item in batch], self.budget_tokens, padded=self._forward.padded)
        with translated_errors(), torch.inference_mode():
            parts = [part for group in groups for part in self._run(batch, group)]
            order = [index for group, _ in parts for index in group]
            return self._collect(order, torch.cat([vectors for _, vectors in parts]))

    def _run(self, batch: Sequence[TokenizedText], group: list[int]) -> list[tuple[list[int], torch.Tensor]]:
        """Vectors of one group, in pieces if it had to be halved to fit."""
        try:
            vectors = self._forward([batch[index].ids for index in group])
            return [(group, unit(vectors) if self.info.normalize else vectors)]
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if len(group) == 1 or not is_out_of_memory(error):
                raise
        # Outside the except block, since the traceback there still holds the activations that did not fit.
        self._lower_budget(sum(batch[index].n_tokens for index in group))
        return [part for half in halve(group) for part in self._run(batch, half)]

    def _lower_budget(self, failed_tokens: int) -> None:
        self.budget_tokens = max(1, min(self.budget_tokens, failed_tokens) // 2)
        log.warning("out of memory at %d tokens; the budget is now %d", failed_tokens, self.budget_tokens)
        if self._loaded.device.type == "cuda":
            torch.cuda.empty_cache()

    def _collect(self, order: list[int], vectors: torch.Tensor) -> Callable[[], Vectors]:
        """Start the copy back; the returned call waits for it and restores the order of the batch."""
        done: Any = None
        if vectors.is_cuda:
            host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            host.copy_(vectors, non_blocking=True)
            done = torch.cuda.current_stream().record_event()
        else:
            host = vectors.cpu()

        def result() -> Vectors:
            with translated_errors():
                if done is not None:
                    done.synchronize()
                out = np.empty(tuple(host.shape), dtype=np.float32)
                out[order] = host.numpy()
                return out

        return result

    def close(self) -> None:
        """See `Encoder.close`; the encoder cannot be used afterwards."""
        del self._forward, self._loaded
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _template_tokens(self) -> int:
        template = self.info.templates.document.replace("{text}", "")
        return self._tokenizer.count(template) if template else 0


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the batch did not fit; by type, and on CPU, where torch has no type, by its words."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


class translated_errors:  # noqa: N801  # reads as a statement: `with translated_errors():`
    """Turns what torch and transformers raise into Gristmill's errors; those pass unchanged."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, GristmillError):
            return
        if is_out_of_memory(error):
            raise AcceleratorOutOfMemory(f"the batch did not fit into memory: {error}") from error
        raise EncodingFailed(f"the model failed: {type(error).__name__}: {error}") from error
