"""Tiny random rerankers in real folder layouts, and their scores by transformers alone, as the cards say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, processors

from models import WIDTH, byte_tokenizer, save_model, save_tokenizer

TURNS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]


def tiny_qwen3_reranker(folder: Path, *, words: Sequence[str] = ("yes", "no")) -> Path:
    """A Qwen3-Reranker in small: a language model that knows the words of its answer."""
    tokenizer = byte_tokenizer(["<|endoftext|>", *TURNS], "$A")
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    config = _config(transformers.Qwen3Config)(
        **_decoder_shape(tokenizer), architectures=["Qwen3ForCausalLM"], tie_word_embeddings=True
    )
    save_model(transformers.Qwen3ForCausalLM, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    (folder / "README.md").write_text(
        "---\npipeline_tag: text-ranking\n---\n# Qwen3-Reranker, tiny\n", encoding="utf-8"
    )
    return folder


def tiny_qwen3_classifier(folder: Path) -> Path:
    """A Qwen3-Reranker that was converted to a classifier: the same question, one label."""
    tokenizer = byte_tokenizer(["<|endoftext|>", *TURNS], "$A")
    config = _config(transformers.Qwen3Config)(**_decoder_shape(tokenizer), num_labels=1)
    save_model(transformers.Qwen3ForSequenceClassification, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    return folder


def tiny_xlm_roberta_reranker(folder: Path, *, labels: int = 1) -> Path:
    """bge-reranker-v2-m3 in small."""
    tokenizer = _pair_tokenizer(["<s>", "<pad>", "</s>"], "<s> $A </s>", "<s> $A </s> </s> $B </s>")
    config = _config(transformers.XLMRobertaConfig)(
        **_shape(tokenizer, 1), max_position_embeddings=514, type_vocab_size=1, num_labels=labels
    )
    save_model(transformers.XLMRobertaForSequenceClassification, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="<pad>", cls_token="<s>", sep_token="</s>")
    return folder


def tiny_bert_reranker(folder: Path) -> Path:
    """A cross-encoder of MiniLM's kind: it tells the second text by types of its own, and pools before its label."""
    tokenizer = _bert_tokenizer()
    config = _config(transformers.BertConfig)(**_shape(tokenizer, 0), max_position_embeddings=256, num_labels=1)
    save_model(transformers.BertForSequenceClassification, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    return folder


def tiny_modernbert_reranker(folder: Path, pooling: str = "mean") -> Path:
    """gte-reranker-modernbert-base in small."""
    tokenizer = _bert_tokenizer()
    config = _config(transformers.ModernBertConfig)(
        **_shape(tokenizer, 0), max_position_embeddings=1024, local_attention=16, num_labels=1, classifier_pooling=pooling,
        layer_types=["full_attention", "sliding_attention"], cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    save_model(transformers.ModernBertForSequenceClassification, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    return folder


def tiny_distilbert_reranker(folder: Path) -> Path:
    """A classifier whose layers lie beside its transformer, without a pooler in it."""
    tokenizer = _bert_tokenizer()
    config = _config(transformers.DistilBertConfig)(
        vocab_size=tokenizer.get_vocab_size(), dim=64, hidden_dim=96, n_layers=2, n_heads=4, initializer_range=WIDTH,
        max_position_embeddings=256, pad_token_id=0, num_labels=1,
    )  # fmt: skip
    save_model(transformers.DistilBertForSequenceClassification, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    return folder


CLASSIFIERS = {
    "bert": tiny_bert_reranker,
    "distilbert": tiny_distilbert_reranker,
    "modernbert": tiny_modernbert_reranker,
    "xlm-roberta": tiny_xlm_roberta_reranker,
}


def _config(kind: Any) -> Any:
    """A class of configuration, whose stubs do not know what all of them take."""
    return kind


def _decoder_shape(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 32_768,
        "initializer_range": WIDTH,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }


def _shape(tokenizer: Tokenizer, pad: int) -> dict[str, Any]:
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": WIDTH,
        "pad_token_id": pad,
    }


def _bert_tokenizer() -> Tokenizer:
    return _pair_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1")


def _pair_tokenizer(special: list[str], single: str, pair: str) -> Tokenizer:
    tokenizer = byte_tokenizer(special, single)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, tokenizer.token_to_id(token)) for token in special]
    )
    return tokenizer


def card_scores(
    folder: Path, query: str, documents: Sequence[str], instruction: str | None = None, max_length: int = 8192
) -> list[float]:
    """Qwen3-Reranker's card, "Using Transformers", one padded batch."""
    kind: Any = transformers.AutoTokenizer
    tokenizer = kind.from_pretrained(folder, padding_side="left")
    causal: Any = transformers.AutoModelForCausalLM
    model = causal.from_pretrained(folder, dtype=torch.float32).eval()
    no, yes = tokenizer.convert_tokens_to_ids("no"), tokenizer.convert_tokens_to_ids("yes")
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    before = tokenizer.encode(prefix, add_special_tokens=False)
    after = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", add_special_tokens=False)
    task = instruction or "Given a web search query, retrieve relevant passages that answer the query"
    pairs = [f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}" for document in documents]
    found = tokenizer(
        pairs, padding=False, truncation="longest_first", return_attention_mask=False,
        max_length=max_length - len(before) - len(after),
    )  # fmt: skip
    rows = {"input_ids": [before + ids + after for ids in found["input_ids"]]}
    inputs = tokenizer.pad(rows, padding=True, return_tensors="pt")
    with torch.no_grad():
        last = model(**inputs).logits[:, -1, :]
    both = torch.nn.functional.log_softmax(torch.stack([last[:, no], last[:, yes]], dim=1), dim=1)
    scores: list[float] = both[:, 1].exp().tolist()
    return scores


def classifier_scores(folder: Path, query: str, documents: Sequence[str], max_length: int = 512) -> list[float]:
    """bge-reranker's card, "Using Huggingface transformers", each pair alone; then the sigmoid."""
    kind: Any = transformers.AutoTokenizer
    tokenizer = kind.from_pretrained(folder)
    classes: Any = transformers.AutoModelForSequenceClassification
    model = classes.from_pretrained(folder, dtype=torch.float32).eval()
    takes_types = int(getattr(model.config, "type_vocab_size", 0) or 0) > 1
    scores = []
    for document in documents:
        inputs = tokenizer(
            [[query, document]], truncation="only_second", max_length=max_length, return_tensors="pt",
            return_token_type_ids=takes_types,
        )  # fmt: skip
        with torch.no_grad():
            scores.append(float(torch.sigmoid(model(**inputs).logits[0, 0])))
    return scores
