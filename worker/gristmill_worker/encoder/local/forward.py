"""One forward pass over a group of texts: packed where the parity gate allows, else padded. Ends in pooled vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from gristmill_schemas import Pooling
from gristmill_schemas.errors import EncodingFailed
from gristmill_worker.encoder.local.layout import PACKED, Layout, positions
from gristmill_worker.encoder.local.load import quiet_loading
from gristmill_worker.encoder.local.packed import register
from gristmill_worker.encoder.local.staging import to_device
from gristmill_worker.encoder.model.recipe import OFFSET_POSITIONS
from gristmill_worker.encoder.pooling import pool_packed, pool_padded

Ids = npt.NDArray[np.int32]


class Forward(Protocol):
    """Token lists in, pooled float32 vectors (B, D) on the model's device out, not normalised."""

    #: Whether the budget must count padding.
    padded: bool

    def __call__(self, texts: Sequence[Ids], prompts: Sequence[int] = ()) -> torch.Tensor:
        """Run the model over at least one text; `prompts` says how many tokens of each are not pooled, if any."""


def lengths_of(texts: Sequence[Ids]) -> list[int]:
    """Tokens of each text.

    Raises:
        EncodingFailed: one has none, and pooling would take a neighbour's.
    """
    lengths = [len(ids) for ids in texts]
    if not all(lengths):
        raise EncodingFailed(
            "the text has no tokens, and this model adds none of its own: there is nothing to encode; leave it out"
        )
    return lengths


class PackedForward:
    """The padding-free pass of `packed.py`."""

    padded = False

    def __init__(self, model: Any, pooling: Pooling, device: torch.device) -> None:
        register(device)
        _set_attention(model, PACKED)
        self._model, self._pooling, self._device = model, pooling, device
        config = model.config
        offset = config.model_type in OFFSET_POSITIONS
        #: Position of a text's first token.
        self.first_position = int(config.pad_token_id) + 1 if offset else 0

    def __call__(self, texts: Sequence[Ids], prompts: Sequence[int] = ()) -> torch.Tensor:
        """See `Forward`."""
        lengths = lengths_of(texts)
        layout = Layout.of(lengths, self._device)
        ids = to_device(np.concatenate(texts).astype(np.int64), self._device)
        where = to_device(positions(lengths, self.first_position), self._device)
        return self.pooled(self.states(ids, where, layout), layout.offsets, prompts)

    def states(self, ids: torch.Tensor, where: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Of tokens (T,) at positions (T,): their states (T, H). Asks the device for nothing."""
        states: torch.Tensor = self._model(
            input_ids=ids.unsqueeze(0), position_ids=where.unsqueeze(0), packed=layout, **_extra(self._model)
        ).last_hidden_state[0]
        return states

    def pooled(self, states: torch.Tensor, offsets: torch.Tensor, prompts: Sequence[int]) -> torch.Tensor:
        """Of states (T, H) of the texts between borders (B + 1,): float32 (B, H)."""
        return pool_packed(states, offsets, self._pooling, _skip(prompts, self._device))


class PaddedForward:
    """Right-padded batches with a mask: slower, and right for every model of transformers."""

    padded = True

    def __init__(self, model: Any, pooling: Pooling, device: torch.device, attention: str) -> None:
        _set_attention(model, attention)
        self._model, self._pooling, self._device = model, pooling, device
        pad = getattr(model.config, "pad_token_id", None)
        self._pad_id = 0 if pad is None else int(pad)

    def __call__(self, texts: Sequence[Ids], prompts: Sequence[int] = ()) -> torch.Tensor:
        """See `Forward`."""
        longest = max(lengths_of(texts))
        ids = np.full((len(texts), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(texts), longest), dtype=np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        there = to_device(mask, self._device)
        states = self._model(
            input_ids=to_device(ids, self._device), attention_mask=there, **_extra(self._model)
        ).last_hidden_state
        return pool_padded(states, there, self._pooling, _skip(prompts, self._device))


def _set_attention(model: Any, name: str) -> None:
    """Choose a model's attention; models with only one of their own take none, and are left as they are for padding.

    Raises:
        TypeError: the packed attention is wanted, and the model takes none.
    """
    with quiet_loading():
        model.set_attn_implementation(name)
    if name == PACKED and model.config._attn_implementation != PACKED:
        raise TypeError(f"{type(model).__name__} has an attention of its own, which cannot be exchanged")


class AlikeForward:
    """Texts of one length at a time, so that none is padded: for models whose vectors padding changes (FNet, ConvBERT)."""

    padded = True

    def __init__(self, forward: Forward) -> None:
        self._forward = forward

    def __call__(self, texts: Sequence[Ids], prompts: Sequence[int] = ()) -> torch.Tensor:
        """See `Forward`."""
        order = np.argsort([len(ids) for ids in texts], kind="stable")
        passes = []
        for _, alike in groupby(order, key=lambda row: len(texts[row])):
            rows = list(alike)
            passes.append(
                self._forward([texts[row] for row in rows], [prompts[row] for row in rows] if prompts else ())
            )
        found = torch.cat(passes)
        return found[to_device(np.argsort(order), found.device)]


class StaticForward:
    """The mean of a table's rows: no tokens look at each other, so there is nothing to pad."""

    padded = False

    def __init__(self, table: torch.nn.EmbeddingBag, device: torch.device) -> None:
        self._table, self._device = table, device

    def __call__(self, texts: Sequence[Ids], prompts: Sequence[int] = ()) -> torch.Tensor:
        """See `Forward`; a text without tokens gives zeros."""
        starts = np.concatenate(([0], np.cumsum([len(ids) for ids in texts])[:-1])).astype(np.int64)
        ids = np.concatenate(texts).astype(np.int64)
        rows: torch.Tensor = self._table(to_device(ids, self._device), to_device(starts, self._device))
        return rows.float()


def _skip(prompts: Sequence[int], device: torch.device) -> torch.Tensor | None:
    return to_device(np.asarray(prompts, dtype=np.int64), device) if any(prompts) else None


def _extra(model: Any) -> dict[str, Any]:
    # Decoders keep keys and values for generation unless told not to: memory for nothing here.
    return {"use_cache": False} if hasattr(model.config, "use_cache") else {}
