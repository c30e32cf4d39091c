"""A reranker on this machine's accelerator: an encoder whose texts are pairs, and whose vectors are scores.

So packing, the check that it is exact, the budget and the batcher are those of embedding. Long requests go a launch or two
at a time, and short ones before them: nobody waits behind another's hundred documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from gristmill_schemas.errors import ModelUnavailable
from gristmill_worker.batching.batcher import QUERY_TOKENS, Batcher
from gristmill_worker.batching.planner import plan
from gristmill_worker.batching.submission import Lane, stacked
from gristmill_worker.encoder.base import TokenizedText
from gristmill_worker.encoder.local.encoder import TransformersEncoder
from gristmill_worker.encoder.local.forward import PaddedForward
from gristmill_worker.encoder.local.load import Loaded, check_files, choose_device, choose_dtype, load_weights
from gristmill_worker.encoder.local.open import FIRST_BUDGET, tuned
from gristmill_worker.encoder.local.parity import PINNED_TEXTS
from gristmill_worker.encoder.model.find import locate
from gristmill_worker.encoder.model.fit import check_vocabulary
from gristmill_worker.phases import phase
from gristmill_worker.reranker.base import Expired, Scores, check_time, scored
from gristmill_worker.reranker.heads import Classifier, YesNo, tell_types, token_of
from gristmill_worker.reranker.pairs import PairTokenizer, load_pairs
from gristmill_worker.reranker.recipe import ROW, RerankRecipe, read_reranker

#: Largest difference of log-odds, absolute and relative, between a classifier taken apart and the whole.
_TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.1}


class LocalReranker:
    """See `Reranker`."""

    def __init__(self, encoder: TransformersEncoder, pairs: PairTokenizer) -> None:
        """Start the model thread.

        Args:
            encoder: with the reranker's transformer and head.
            pairs: its tokenizer.

        Raises:
            DeviceFailed: the model cannot score even two short texts.
        """
        self.info, self.device, self.dtype = encoder.info, encoder.device, encoder.dtype
        self._encoder, self._pairs = encoder, pairs
        self.batcher = Batcher(encoder)

    @property
    def sick(self) -> str | None:
        """See `Reranker.sick`."""
        return self.batcher.sick

    @property
    def busy_since(self) -> float | None:
        """See `Reranker.busy_since`."""
        return self.batcher.busy_since

    def score(
        self, query: str, documents: Sequence[str], instruction: str | None = None, expired: Expired = lambda: False
    ) -> Scores:
        """See `Reranker.score`."""
        pairs = self._pairs.pairs(query, documents, instruction) if documents else []
        odds = np.empty(len(pairs), dtype=np.float64)
        lane = Lane.INTERACTIVE if sum(pair.n_tokens for pair in pairs) <= QUERY_TOKENS else Lane.BULK
        for group in self._portions(pairs):
            check_time(expired)
            rows = self.batcher.submit([pairs[index] for index in group], lane).result()
            odds[group] = stacked(rows, ROW)[:, 1]
        return scored(_sigmoid(odds), [not pair.truncated for pair in pairs])

    def _portions(self, pairs: Sequence[TokenizedText]) -> list[list[int]]:
        """What is handed in at once: as much as is launched at once, so that what comes meanwhile has its turn."""
        limits = self._encoder.limits
        budget = limits.in_flight * self.batcher.budget_tokens
        return plan([pair.n_tokens for pair in pairs], budget, padded=limits.padded)

    def status(self) -> dict[str, Any]:
        """See `Reranker.status`."""
        return {
            "model": self.info.model,
            "model_digest": self.info.digest,
            "task": self.info.task,
            "device": self.device,
            "dtype": self.dtype,
            "budget_tokens": self.batcher.budget_tokens,
            "busy": 0,
            "queued_texts": self.batcher.queued_texts,
            "texts": self.batcher.texts_done,
            "tokens": self.batcher.tokens_done,
        }

    def close(self) -> None:
        """See `Reranker.close`."""
        self.batcher.close()
        self._encoder.close()


def _sigmoid(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # By tanh, which does not overflow on either side.
    return 0.5 * (1.0 + np.tanh(0.5 * odds))


def open_local(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    max_tokens: int | None = None,
    budget_tokens: int | None = None,
    packed: bool | None = None,
    trust_remote_code: bool = False,
) -> LocalReranker:
    """Open a folder or a hub id; arguments and errors are those of `open_reranker`."""
    where = choose_device(device)
    number = choose_dtype(dtype, where)
    found = locate(model, revision, code=trust_remote_code)
    with phase(f"reading the files of {found.label}"):
        recipe = read_reranker(
            found.folder,
            model=found.label,
            revision=found.revision,
            max_tokens=max_tokens,
            trust_remote_code=trust_remote_code,
        )
    with phase(f"loading {found.label} onto {where}"):
        loaded, pairs = load(recipe, where, number)
    with phase("checking the forward pass"):
        encoder = TransformersEncoder(loaded, budget_tokens or FIRST_BUDGET, packed=packed)
    if budget_tokens is None:
        encoder.tuning = tuned(encoder)
    return LocalReranker(encoder, pairs)


def load(recipe: RerankRecipe, device: torch.device, dtype: torch.dtype) -> tuple[Loaded, PairTokenizer]:
    """A reranker in memory: its transformer, its head, and its tokenizer of pairs.

    Raises:
        ModelUnavailable: the weights are missing, broken or another model's; or its head works in a way that is not known.
    """
    check_files(recipe.folder, known=recipe.runs_code)
    pairs = load_pairs(recipe)
    whole = load_weights(recipe.folder, _kind(recipe), device, dtype, code=recipe.runs_code)
    check_vocabulary(recipe.folder, pairs.backend, whole.get_input_embeddings().num_embeddings)
    transformer = whole.base_model
    if recipe.typed:
        tell_types(transformer)
    if recipe.answers:
        no, yes = (token_of(pairs.backend, word, recipe.info.model) for word in ("no", "yes"))
        head: torch.nn.Module = YesNo(whole.get_output_embeddings(), no, yes).to(device)
        return Loaded(transformer, pairs, head, recipe.info, device, dtype), pairs
    pinned = pairs.tokenize(PINNED_TEXTS)
    expected = _alone(whole, pinned, device)
    loaded = Loaded(transformer, pairs, Classifier(whole).eval().requires_grad_(False), recipe.info, device, dtype)
    _check_apart(loaded, pinned, expected)
    return loaded, pairs


def _kind(recipe: RerankRecipe) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    return lambda _: AutoModelForCausalLM if recipe.answers else AutoModelForSequenceClassification


def _alone(whole: Any, pinned: Sequence[TokenizedText], device: torch.device) -> torch.Tensor:
    """What the classifier as it was loaded says of each pair: float32 (B,)."""
    with torch.inference_mode():
        rows = [torch.from_numpy(pair.ids.astype(np.int64)).unsqueeze(0).to(device) for pair in pinned]
        return torch.cat(
            [whole(input_ids=row, attention_mask=torch.ones_like(row)).logits[:, 0].float() for row in rows]
        )


def _check_apart(loaded: Loaded, pinned: Sequence[TokenizedText], expected: torch.Tensor) -> None:
    """Refuse a classifier whose label is not what its head makes of the state that it is thought to be read from."""
    with torch.inference_mode():
        forward = PaddedForward(loaded.model, loaded.info.pooling, loaded.device, loaded.own_attention)
        found = torch.cat([loaded.head(forward([pair.ids]))[:, 1] for pair in pinned])
    allowed = _TOLERANCE[loaded.dtype]
    if not torch.allclose(found, expected, rtol=allowed, atol=allowed):
        raise ModelUnavailable(
            f"{loaded.info.model}: {type(loaded.model).__name__} with a classifier that reads other states than that of "
            f"{loaded.info.pooling} pooling, which is not performed here; serve it with a server that reranks "
            "(text-embeddings-inference, vLLM) and give its URL as the reranker"
        )
