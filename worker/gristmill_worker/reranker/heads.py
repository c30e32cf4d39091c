"""From the state that a score is read from to the log-odds of "yes", in float32 whatever the transformer runs in.

A head gives rows of two: 1, and the log-odds. The constant is for the batcher, which takes a row of zeros for a sick model:
log-odds may well be 0.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.reranker.pairs import SECOND


class YesNo(nn.Module):
    """Two rows of a language model's head: of all next tokens, only "no" and "yes" count."""

    def __init__(self, head: nn.Linear, no: int, yes: int) -> None:
        """Copy the rows of the two tokens."""
        super().__init__()
        self.rows = nn.Parameter(head.weight[[no, yes]].float(), requires_grad=False)
        self.bias = None if head.bias is None else nn.Parameter(head.bias[[no, yes]].float(), requires_grad=False)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """float32 (B, H) to (B, 2)."""
        logits = nn.functional.linear(pooled, self.rows, self.bias)
        return _row(logits[:, 1] - logits[:, 0])


class Classifier(nn.Module):
    """All of a sequence classifier but its transformer, in whose place it is handed the pooled state.

    Each architecture has its own layers between state and label, and performs them itself here: to them the pooled state is
    the only one of a text of one token, from which first token, last token and mean are the same.
    """

    def __init__(self, model: Any) -> None:
        """Take a classifier apart. Its transformer must not be used through it any more."""
        super().__init__()
        transformer = model.base_model
        self.given = _Given(getattr(transformer, "pooler", None))
        setattr(model, model.base_model_prefix, self.given)
        self.rest = model.float()
        pad = getattr(model.config, "pad_token_id", None)
        if pad is None:
            model.config.pad_token_id = pad = 0
        #: Any token but the one that means that there is none.
        self._token = 1 if pad == 0 else 0

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """float32 (B, H) to (B, 2)."""
        self.given.now.state = pooled.unsqueeze(1)
        tokens = torch.full((len(pooled), 1), self._token, dtype=torch.long, device=pooled.device)
        return _row(self.rest(input_ids=tokens).logits[:, 0])


class _Now(threading.local):
    """What the pass that runs in this thread was given: others run beside it."""

    state = torch.empty(0)


class _Given(nn.Module):
    """Stands in for a transformer: gives the state that it was given, and what the transformer's own pooler makes of it."""

    def __init__(self, pooler: nn.Module | None) -> None:
        super().__init__()
        self.pooler = pooler
        self.now = _Now()

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

        state = self.now.state
        pooled = None if self.pooler is None else self.pooler(state)
        return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=state, pooler_output=pooled)


def _row(odds: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.ones_like(odds), odds], dim=1)


def tell_types(transformer: nn.Module) -> None:
    """Let a transformer that has types for first and second texts read them from the ids (`pairs.SECOND`)."""

    def split(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        marked = given[0] if given else named["input_ids"]
        types, ids = marked >> SECOND, marked & ((1 << SECOND) - 1)
        return given[1:], {**named, "input_ids": ids, "token_type_ids": types}

    transformer.register_forward_pre_hook(split, with_kwargs=True)


def token_of(tokenizer: Any, word: str, model: str) -> int:
    """The one token that a word is.

    Raises:
        ModelUnavailable: it is none, or several.
    """
    found = tokenizer.token_to_id(word)
    if found is None:
        raise ModelUnavailable(
            f"{model}: expected a tokenizer with {word!r} as one token, an answer of this kind of reranker, got one "
            "without: its tokenizer is another model's; fetch the folder again"
        )
    return int(found)
