"""From a model folder to how it reranks: what a pair looks like as input, and where in the model its score comes from.

Two kinds are performed, and everything else is refused by what it is:

    yes or no     a causal language model of Qwen3's kind is asked whether the document meets the requirements; the score is
                  the probability of "yes" against "no" as its next token
    classifier    a sequence classifier with one label reads query and document as a pair of texts; the score is the sigmoid
                  of that label. (Qwen3-Reranker converted to a classifier reads the same question as the original.)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gristmill_schemas import EncoderInfo, ModelTask, Pooling
from gristmill_schemas.errors import GristmillError, ModelUnavailable
from gristmill_worker.encoder.model.code import check_code
from gristmill_worker.encoder.model.digest import encoder_digest, model_digest
from gristmill_worker.encoder.model.modules import read_json
from gristmill_worker.encoder.model.recipe import OFFSET_POSITIONS

log = logging.getLogger(__name__)

#: What Qwen3-Reranker's card cuts pairs at; the architecture reads more, at a cost that nobody measured.
_CHAT_WINDOW: Final = 8_192
_DEFAULT_WINDOW: Final = 512
#: transformers' stand-in for "no limit" is 1e30.
_NO_LIMIT: Final = 10_000_000
#: Architectures that are asked Qwen3-Reranker's question.
_CHATS: Final = frozenset({"qwen3"})
_WAY_OUT: Final = (
    "take Qwen/Qwen3-Reranker-0.6B, BAAI/bge-reranker-v2-m3 or Alibaba-NLP/gte-reranker-modernbert-base, or serve it with a "
    "server that reranks (text-embeddings-inference, vLLM, SGLang) and give its URL as the reranker"
)
#: Columns of what a head gives for a pair: a constant, and the log-odds of "yes".
ROW: Final = 2


@dataclass(frozen=True, slots=True)
class RerankRecipe:
    """All that decides how a folder's pairs become scores."""

    info: EncoderInfo
    folder: Path
    #: Whether it is a language model that answers yes or no; else a classifier.
    answers: bool
    #: Whether a pair is put as Qwen3-Reranker's question; else as two texts.
    chat: bool
    #: Whether the model tells the second text from the first by types of its own.
    typed: bool
    #: Whether configuration, model or tokenizer are the folder's own code, which may run.
    runs_code: bool


def read_reranker(
    folder: Path,
    *,
    model: str,
    revision: str | None = None,
    max_tokens: int | None = None,
    trust_remote_code: bool = False,
) -> RerankRecipe:
    """Read what a model folder says about itself.

    Args:
        folder: a Hugging Face model folder.
        model: the label that people see, a hub id or the folder's name.
        revision: the hub commit, where known.
        max_tokens: a smaller window than the model's own, for query and document together.
        trust_remote_code: whether code that the model brings along may run.

    Raises:
        ModelUnavailable: it is no reranker, or none that is performed here.
    """
    try:
        return _recipe(folder, model, revision, max_tokens, trust_remote_code)
    except GristmillError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelUnavailable(
            f"{folder}: a setting in its JSON files is not of the kind that it should be ({type(error).__name__}: {error}); "
            "compare them with the model's own, or fetch the folder again"
        ) from error


def _recipe(
    folder: Path, model: str, revision: str | None, max_tokens: int | None, trust_remote_code: bool
) -> RerankRecipe:
    _check_no_encoder(folder, model)
    config = read_json(folder / "config.json", required=True)
    answers = _answers(folder, model, config)
    runs_code = check_code(folder, model, allowed=trust_remote_code)
    chat = config.get("model_type") in _CHATS
    if answers:
        _caution(folder, model)
    pooling = _pooling(config, chat)
    window = _window(folder, config, chat, max_tokens)
    info = EncoderInfo(
        model=model,
        revision=revision,
        task=ModelTask.RERANKING,
        digest=encoder_digest(model_digest(folder, code=runs_code), pooling, False, window, "reranker", answers, chat),
        pooling=pooling,
        dimensions=ROW,
        normalize=False,
        max_tokens=window,
        instruction_aware=chat,
    )
    return RerankRecipe(info, folder, answers, chat, int(config.get("type_vocab_size") or 0) > 1, runs_code)


def _check_no_encoder(folder: Path, model: str) -> None:
    """Refuse an embedding model, whose own files say that its states are pooled into a vector."""
    modules = folder / "modules.json"
    if modules.is_file() and "Pooling" in modules.read_text(encoding="utf-8", errors="replace"):
        raise ModelUnavailable(
            f"{model}: expected a reranker, got an embedding model ({modules} pools its states into one vector): give it as "
            f"--model (GRISTMILL_MODEL); and as the reranker {_WAY_OUT}"
        )
    if (folder / "adapter_config.json").is_file():
        raise _refusal(model, f"an adapter ({folder / 'adapter_config.json'}): merge it with its base model first")


def _answers(folder: Path, model: str, config: dict[str, Any]) -> bool:
    """Whether it answers yes or no; else it classifies."""
    kinds = [str(each) for each in config.get("architectures") or ()]
    if any(kind.endswith("ForSequenceClassification") for kind in kinds):
        labels = config.get("num_labels") or len(config.get("id2label") or (0, 1))
        if labels != 1:
            names = ", ".join(map(str, (config.get("id2label") or {}).values()))
            raise _refusal(
                model,
                f"a classifier into {labels} labels ({names or 'unnamed'}), none of which is known to be relevance",
            )
        return False
    if any(kind.endswith("ForCausalLM") for kind in kinds) and config.get("model_type") in _CHATS:
        return True
    told = ", ".join(kinds) or "nothing"
    why = "a language model that is asked another question" if "ForCausalLM" in told else "no head that scores pairs"
    raise _refusal(
        model,
        f"{told} ({folder / 'config.json'}: architectures), {why}: a reranker is a …ForSequenceClassification with one "
        "label, or a Qwen3ForCausalLM",
    )


def _refusal(model: str, got: str) -> ModelUnavailable:
    return ModelUnavailable(f"{model}: expected a reranker, got {got}; {_WAY_OUT}", model=model)


def _caution(folder: Path, model: str) -> None:
    """A language model for talking has the same files as one that was trained to judge."""
    card = folder / "README.md"
    told = card.read_text(encoding="utf-8", errors="replace").lower() if card.is_file() else ""
    if "rerank" not in model.lower() and "rerank" not in told:
        log.warning(
            "%s: no file says that this language model was trained to rerank: it is asked whether a document answers a "
            "query, and its scores may mean little",
            model,
        )


def _pooling(config: dict[str, Any], chat: bool) -> Pooling:
    """Which state the score is read from: that of the last token, or what the classifier's configuration says."""
    if chat or config.get("model_type") in ("qwen2", "llama", "mistral", "gemma", "gemma2", "phi3"):
        return Pooling.LAST
    return Pooling.MEAN if config.get("classifier_pooling") == "mean" else Pooling.CLS


def _window(folder: Path, config: dict[str, Any], chat: bool, wanted: int | None) -> int:
    """The longest pair: what is asked for or declared, but never more than the model has positions."""
    kind, positions = config.get("model_type"), config.get("max_position_embeddings")
    offset = int(config.get("pad_token_id") or 0) + 1 if kind in OFFSET_POSITIONS else 0
    hard = int(positions) - offset if positions else _NO_LIMIT
    declared = read_json(folder / "tokenizer_config.json").get("model_max_length")
    said = int(declared) if declared and declared < _NO_LIMIT else None
    usual = _CHAT_WINDOW if chat else said
    return min(wanted or usual or (hard if hard < _NO_LIMIT else _DEFAULT_WINDOW), hard)
