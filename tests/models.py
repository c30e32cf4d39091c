"""Tiny random models in real folder layouts: the loading code is the real one, only the weights mean nothing."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors, trainers

#: Wide enough weights that attention decides the vectors; with the usual 0.02 a leak between texts would not show.
WIDTH = 0.2
CORPUS = [
    "Texts of many lengths lie end to end in one row, and attention stays inside each of them.",
    "Why do two vectors have to come from the same space? The old mill by the river grinds grain into flour.",
    "用了优惠券但没减钱，应该怎么办？ 请问什么时候发货？ 退款需要几天到账？",
    "Gravity is a force that attracts two bodies towards each other. The capital of China is Beijing.",
]


def tiny_qwen3(folder: Path, *, layers: int = 2, sentence_transformers: bool = True) -> Path:
    """A Qwen3-Embedding in small: causal, grouped heads, last token, `<|endoftext|>` appended by its tokenizer."""
    tokenizer = byte_tokenizer(["<|endoftext|>"], "$A <|endoftext|>")
    config = transformers.Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=64, intermediate_size=96, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=32_768,
        initializer_range=WIDTH, pad_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    save_model(transformers.Qwen3Model, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="<|endoftext|>", eos_token="<|endoftext|>")
    if sentence_transformers:
        task = "Given a web search query, retrieve relevant passages that answer the query"
        prompts = {"query": f"Instruct: {task}\nQuery:", "document": ""}
        write_sentence_transformers(folder, 64, "lasttoken", prompts=prompts)
    return folder


def tiny_bert(folder: Path, *, sentence_transformers: bool = True) -> Path:
    """A BERT with mean pooling and E5's prefixes."""
    tokenizer = byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")
    config = transformers.BertConfig(**_encoder_shape(tokenizer), max_position_embeddings=512)
    save_model(transformers.BertModel, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    if sentence_transformers:
        prompts = {"query": "query: ", "document": "passage: "}
        write_sentence_transformers(folder, 64, "mean", prompts=prompts, max_tokens=256)
    return folder


def tiny_xlm_roberta(folder: Path) -> Path:
    """An XLM-RoBERTa with CLS pooling; its positions start at 2."""
    tokenizer = byte_tokenizer(["<s>", "<pad>", "</s>"], "<s> $A </s>")
    config = transformers.XLMRobertaConfig(
        **_encoder_shape(tokenizer, pad=1), max_position_embeddings=514, type_vocab_size=1
    )
    save_model(transformers.XLMRobertaModel, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="<pad>", cls_token="<s>", sep_token="</s>")
    write_sentence_transformers(folder, 64, "cls")
    return folder


def tiny_modernbert(folder: Path) -> Path:
    """A ModernBERT whose local layers see 8 tokens to each side."""
    tokenizer = byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")
    config = transformers.ModernBertConfig(
        **_encoder_shape(tokenizer), max_position_embeddings=1024, local_attention=16,
        layer_types=["full_attention", "sliding_attention"], cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    save_model(transformers.ModernBertModel, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")
    write_sentence_transformers(folder, 64, "cls")
    return folder


def tiny_gpt2(folder: Path) -> Path:
    """A decoder that the packed path has no knowledge of: learned positions, its own attention layout."""
    tokenizer = byte_tokenizer(["<|endoftext|>"], "$A <|endoftext|>")
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_embd=64, n_layer=2, n_head=4, n_positions=1024,
        initializer_range=WIDTH, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    save_model(transformers.GPT2Model, config, folder)
    save_tokenizer(tokenizer, folder, pad_token="<|endoftext|>", eos_token="<|endoftext|>")
    write_sentence_transformers(folder, 64, "lasttoken")
    return folder


def write_sentence_transformers(
    folder: Path,
    dimensions: int,
    pooling: str,
    *,
    prompts: dict[str, str] | None = None,
    max_tokens: int | None = None,
    normalize: bool = True,
) -> None:
    """The files by which sentence-transformers knows how to run a model."""
    kinds = ["Transformer", "Pooling"] + (["Normalize"] if normalize else [])
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "1_Pooling" / "config.json", {"embedding_dimension": dimensions, "pooling_mode": pooling})
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts or {}, "default_prompt_name": None})
    if max_tokens:
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})


def write_json(path: Path, value: Any) -> None:
    """Write JSON, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _encoder_shape(tokenizer: Tokenizer, pad: int = 0) -> dict[str, Any]:
    return {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": WIDTH,
        "pad_token_id": pad,
    }


def byte_tokenizer(special: list[str], template: str) -> Tokenizer:
    """A byte-level BPE that can write any text; special tokens get the first ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[AddedToken(token, special=True) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, tokenizer.token_to_id(token)) for token in special]
    )
    return tokenizer


def save_model(kind: Any, config: Any, folder: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = kind(config)
        # All rows: the padding row starts at zero, and Qwen3's padding token is also the one that it pools from.
        torch.nn.init.normal_(model.get_input_embeddings().weight, std=WIDTH)
        model.save_pretrained(folder)


def save_tokenizer(tokenizer: Tokenizer, folder: Path, **special: str) -> None:
    kind: Any = transformers.PreTrainedTokenizerFast
    fast = kind(tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **special)
    fast.save_pretrained(folder)
