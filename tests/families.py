"""Well-known families of embedding models in small: each folder laid out as the real one is, with random weights.

`docs/reference/models.md` is made from this list, and `test_families.py` proves each row against sentence-transformers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer

from gristmill_worker.encoder.model.modules import WAY_OUT
from gristmill_worker.encoder.model.prompts import PROMPT_END
from gristmill_worker.encoder.model.recipe import read_info
from models import WIDTH, byte_tokenizer, save_model, save_tokenizer, write_json

#: Width of every small model.
HIDDEN: Final = 32
WEB_SEARCH: Final = "Given a web search query, retrieve relevant passages that answer the query"
BGE_EN: Final = "Represent this sentence for searching relevant passages: "
BGE_ZH: Final = "为这个句子生成表示以用于检索相关文章："


@dataclass(frozen=True)
class Family:
    """A family, how to build it small, and what must be seen of it."""

    name: str
    #: Models of it on the hub.
    models: str
    build: Callable[[Path], None]
    #: What the card puts before queries and documents, where its files do not say so; None leaves it to the files.
    query: str | None = None
    document: str | None = None
    #: What stands before a query with an instruction, as a format of `{}`.
    instructed: str = "{}\n"
    #: Whether the padding-free pass runs.
    packed: bool = False
    pooling: str = "mean"
    #: Words of the refusal; None where the model runs.
    refused: str | None = None
    #: What the page says besides.
    note: str = ""


def bert(folder: Path) -> None:
    """The shape of most: WordPiece-like specials, 512 positions."""
    _save(folder, transformers.BertModel, transformers.BertConfig, _bert_words())


def xlm_roberta(folder: Path, positions: int = 514) -> None:
    """Positions from 2."""
    shape = {"max_position_embeddings": positions, "type_vocab_size": 1}
    _save(folder, transformers.XLMRobertaModel, transformers.XLMRobertaConfig, _roberta_words(), pad=1, **shape)


def bge_m3(folder: Path) -> None:
    """XLM-RoBERTa with room for 8,192 tokens."""
    xlm_roberta(folder, 8194)


def mpnet(folder: Path) -> None:
    """No SDPA, positions from 2, relative distances."""
    _save(
        folder, transformers.MPNetModel, transformers.MPNetConfig, _roberta_words(), pad=1, max_position_embeddings=514
    )


def distilbert(folder: Path) -> None:
    """Names of its own for width, layers and heads."""
    words = _bert_words()
    config = transformers.DistilBertConfig(
        vocab_size=words.get_vocab_size(), dim=HIDDEN, hidden_dim=48, n_layers=2, n_heads=4, initializer_range=WIDTH
    )
    save_model(transformers.DistilBertModel, config, folder)
    _save_bert_words(words, folder)


def modernbert(folder: Path) -> None:
    """Local and global layers."""
    _save(
        folder, transformers.ModernBertModel, transformers.ModernBertConfig, _bert_words(), max_position_embeddings=8192,
        local_attention=16, layer_types=["full_attention", "sliding_attention"], cls_token_id=1, sep_token_id=2,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip


def nomic_bert(folder: Path) -> None:
    """Rotary, gated; the files name the code from which transformers took it over, and settings in that code's words."""
    _save(
        folder, transformers.NomicBertModel, transformers.NomicBertConfig, _bert_words(), max_position_embeddings=8192
    )
    code = "nomic-ai/nomic-bert-2048--{}_hf_nomic_bert.NomicBert{}"
    _update(
        folder / "config.json", n_embd=HIDDEN, n_layer=2, n_head=4, n_inner=48, activation_function="swiglu",
        rotary_emb_base=1000, rotary_scaling_factor=None, prenorm=False,
        auto_map={"AutoConfig": code.format("configuration", "Config"), "AutoModel": code.format("modeling", "Model")},
    )  # fmt: skip


def t5(folder: Path) -> None:
    """Only the half that reads is stored, as in sentence-t5 and gtr."""
    words = byte_tokenizer(["<pad>", "</s>", "<unk>"], "$A </s>")
    config = transformers.T5Config(
        vocab_size=words.get_vocab_size(), d_model=HIDDEN, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        initializer_factor=2.0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    save_model(transformers.T5EncoderModel, config, folder)
    save_tokenizer(words, folder, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def mistral(folder: Path) -> None:
    """`<s>` before each text; `</s>` after it was asked for, and is not appended since transformers 5."""
    words = byte_tokenizer(["<unk>", "<s>", "</s>"], "<s> $A")
    config = transformers.MistralConfig(
        **_decoder(words), num_key_value_heads=2, head_dim=8, max_position_embeddings=32_768, sliding_window=4096,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, architectures=["MistralModel"],
    )  # fmt: skip
    save_model(transformers.MistralModel, config, folder)
    save_tokenizer(words, folder, pad_token="</s>", eos_token="</s>", bos_token="<s>", unk_token="<unk>")
    _update(folder / "tokenizer_config.json", add_bos_token=True, add_eos_token=True, padding_side="left")


def qwen3(folder: Path) -> None:
    """`<|endoftext|>` after each text."""
    words = byte_tokenizer(["<|endoftext|>"], "$A <|endoftext|>")
    config = transformers.Qwen3Config(
        **_decoder(words), num_key_value_heads=2, head_dim=8, max_position_embeddings=32_768, pad_token_id=0,
        eos_token_id=0, architectures=["Qwen3ForCausalLM"],
    )  # fmt: skip
    save_model(transformers.Qwen3Model, config, folder)
    save_tokenizer(words, folder, pad_token="<|endoftext|>", eos_token="<|endoftext|>")
    _update(folder / "tokenizer_config.json", padding_side="left")


def gemma3(folder: Path) -> None:
    """Sees both sides, every second layer only nearby."""
    words = byte_tokenizer(["<pad>", "<eos>", "<bos>"], "<bos> $A <eos>")
    config = transformers.Gemma3TextConfig(
        **_decoder(words), num_key_value_heads=1, head_dim=8, max_position_embeddings=2048, sliding_window=16,
        layer_types=["sliding_attention", "full_attention"], use_bidirectional_attention=True, pad_token_id=0,
        eos_token_id=1, bos_token_id=2, query_pre_attn_scalar=8,
    )  # fmt: skip
    save_model(transformers.Gemma3TextModel, config, folder)
    save_tokenizer(words, folder, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")


def gpt_neo(folder: Path) -> None:
    """Global and local layers; special brackets mark queries and documents in SGPT's own code."""
    words = byte_tokenizer(["<|endoftext|>"], "$A")
    config = transformers.GPTNeoConfig(
        vocab_size=words.get_vocab_size(), hidden_size=HIDDEN, num_layers=2, num_heads=4, intermediate_size=48,
        max_position_embeddings=512, attention_types=[[["global", "local"], 1]], window_size=16, initializer_range=WIDTH,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    save_model(transformers.GPTNeoModel, config, folder)
    save_tokenizer(words, folder, pad_token="<|endoftext|>", eos_token="<|endoftext|>")


def gptj(folder: Path) -> None:
    """Rotary, attention beside the feed-forward block."""
    words = byte_tokenizer(["<|endoftext|>"], "$A")
    config = transformers.GPTJConfig(
        vocab_size=words.get_vocab_size(), n_embd=HIDDEN, n_layer=2, n_head=4, n_inner=48, n_positions=512, rotary_dim=4,
        initializer_range=WIDTH, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    save_model(transformers.GPTJModel, config, folder)
    save_tokenizer(words, folder, pad_token="<|endoftext|>", eos_token="<|endoftext|>")


def albert(folder: Path) -> None:
    """One layer's weights for all."""
    _save(folder, transformers.AlbertModel, transformers.AlbertConfig, _bert_words(), embedding_size=16)


def deberta(folder: Path) -> None:
    """Disentangled attention."""
    _save(
        folder, transformers.DebertaV2Model, transformers.DebertaV2Config, _bert_words(), relative_attention=True,
        pos_att_type=["p2c", "c2p"], position_biased_input=False, type_vocab_size=0, max_position_embeddings=512,
    )  # fmt: skip


def electra(folder: Path) -> None:
    """A narrower table of tokens than its layers."""
    _save(folder, transformers.ElectraModel, transformers.ElectraConfig, _bert_words(), embedding_size=16)


def listed(
    transformer: Callable[[Path], None] | None,
    *modules: tuple[str, dict[str, Any]],
    pooling: str = "mean",
    window: int | None = None,
    lower: bool = False,
    prompts: dict[str, str] | None = None,
    config: dict[str, Any] | None = None,
    card: str = "",
    include_prompt: bool = True,
) -> Callable[[Path], None]:
    """A folder with sentence-transformers' files around a transformer.

    Args:
        transformer: writes the transformer itself.
        modules: kind and settings of each module after pooling.
        pooling: mode, in the old spelling of flags as real folders have it.
        window: `max_seq_length`.
        lower: `do_lower_case`.
        prompts: of `config_sentence_transformers.json`.
        config: more of it.
        card: the model card's title.
        include_prompt: of the pooling.
    """

    def build(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if transformer:
            transformer(folder)
        kinds = ["Transformer", "Pooling", *(kind for kind, _ in modules)]
        write_modules(folder, kinds)
        flags = {
            flag: flag == f"pooling_mode_{_FLAGS[pooling]}" for flag in map("pooling_mode_{}".format, _FLAGS.values())
        }
        more = {} if include_prompt else {"include_prompt": False}
        write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, **flags, **more})
        for place, (kind, settings) in enumerate(modules, 2):
            _write_module(folder / f"{place}_{kind}", kind, settings)
        if window or lower:
            write_json(folder / "sentence_bert_config.json", {"max_seq_length": window, "do_lower_case": lower})
        if prompts or config:
            said = {"prompts": prompts or {}, "default_prompt_name": None, **(config or {})}
            write_json(folder / "config_sentence_transformers.json", said)
        if card:
            (folder / "README.md").write_text(f"---\nmodel-index:\n- name: {card}\n---\n\n# {card}\n", encoding="utf-8")

    return build


def write_modules(folder: Path, kinds: Sequence[str]) -> None:
    """`modules.json`; a kind with a dot in it is a class by its full name."""
    listing = [
        {
            "idx": place,
            "name": str(place),
            "path": f"{place}_{kind}" if place else "",
            "type": kind if "." in kind else f"sentence_transformers.models.{kind}",
        }
        for place, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", listing)


def static(folder: Path) -> None:
    """sentence-transformers' own static embeddings: no transformer, everything in a folder of its own."""
    words = byte_tokenizer(["[PAD]"], "$A")
    listing = [
        {"idx": 0, "name": "0", "path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}
    ]
    write_json(folder / "modules.json", listing)
    inner = folder / "0_StaticEmbedding"
    inner.mkdir()
    words.save(str(inner / "tokenizer.json"))
    save_file({"embedding.weight": _random(words.get_vocab_size(), HIDDEN)}, inner / "model.safetensors")
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "cosine"})


def model2vec(folder: Path) -> None:
    """model2vec's layout, with fewer rows than tokens and a weight for each."""
    words = byte_tokenizer(["[PAD]"], "$A")
    count = words.get_vocab_size()
    listing = [
        {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"},
        {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "modules.json", listing)
    write_json(
        folder / "config.json", {"model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": HIDDEN}
    )
    words.save(str(folder / "tokenizer.json"))
    rows, mapping = _random(64, HIDDEN), torch.arange(count) % 64
    save_file(
        {"embeddings": rows, "mapping": mapping, "weights": torch.linspace(0.5, 2, count)}, folder / "model.safetensors"
    )


def foreign(*kinds: str, transformer: Callable[[Path], None] = bert) -> Callable[[Path], None]:
    """A folder whose modules are not all performed."""

    def build(folder: Path) -> None:
        transformer(folder)
        write_modules(folder, kinds)

    return build


def with_code(name: str, transformer: Callable[[Path], None] = bert, **config: Any) -> Callable[[Path], None]:
    """A folder whose configuration names a class of its own."""

    def build(folder: Path) -> None:
        listed(transformer, _NORMALIZE)(folder)
        _update(folder / "config.json", auto_map={"AutoModel": name}, **config)

    return build


def adapter(folder: Path) -> None:
    """A LoRA adapter beside the tokenizer of its base."""
    _save_bert_words(_bert_words(), folder)
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "acme/base"})


_FLAGS: Final = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}
_NORMALIZE: Final = ("Normalize", dict[str, Any]())


def dense(outputs: int = 24, *, inputs: int = HIDDEN, bias: bool = True, activation: str = "activation.Tanh") -> Any:
    """A Dense module as `listed` takes it."""
    path = f"torch.nn.modules.{activation}"
    return "Dense", {"in_features": inputs, "out_features": outputs, "bias": bias, "activation_function": path}


_IDENTITY: Final = "linear.Identity"

FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        "Qwen3-Embedding",
        "Qwen/Qwen3-Embedding-0.6B, -4B, -8B",
        listed(
            qwen3,
            _NORMALIZE,
            pooling="lasttoken",
            prompts={"query": f"Instruct: {WEB_SEARCH}\nQuery:", "document": ""},
            config={"similarity_fn_name": "cosine"},
        ),
        instructed="Instruct: {}\nQuery:",
        packed=True,
        pooling="last",
    ),
    Family(
        "E5",
        "intfloat/e5-small-v2, e5-base-v2, e5-large-v2",
        listed(bert, _NORMALIZE, window=512, card="e5-small-v2"),
        query="query: ",
        document="passage: ",
        instructed="query: {}\n",
        packed=True,
    ),
    Family(
        "multilingual-E5",
        "intfloat/multilingual-e5-small, -base, -large",
        listed(xlm_roberta, _NORMALIZE, window=512, card="multilingual-e5-base"),
        query="query: ",
        document="passage: ",
        instructed="query: {}\n",
        packed=True,
    ),
    Family(
        "multilingual-E5 instruct",
        "intfloat/multilingual-e5-large-instruct",
        listed(xlm_roberta, _NORMALIZE, window=512, card="multilingual-e5-large-instruct"),
        query=f"Instruct: {WEB_SEARCH}\nQuery: ",
        document="",
        instructed="Instruct: {}\nQuery: ",
        packed=True,
    ),
    Family(
        "E5-Mistral",
        "intfloat/e5-mistral-7b-instruct, Salesforce/SFR-Embedding-Mistral, Linq-AI-Research/Linq-Embed-Mistral",
        listed(
            mistral,
            _NORMALIZE,
            pooling="lasttoken",
            window=4096,
            card="e5-mistral-7b-instruct",
            prompts={"web_search_query": f"Instruct: {WEB_SEARCH}\nQuery: "},
        ),
        query=f"Instruct: {WEB_SEARCH}\nQuery: ",
        document="",
        instructed="Instruct: {}\nQuery: ",
        packed=True,
        pooling="last",
        note="`</s>` is appended, which the tokenizer itself no longer does since transformers 5",
    ),
    Family(
        "BGE-M3",
        "BAAI/bge-m3 (its dense vector)",
        listed(bge_m3, _NORMALIZE, pooling="cls", window=8192, card="bge-m3"),
        packed=True,
        pooling="cls",
    ),
    Family(
        "BGE English",
        "BAAI/bge-small-en-v1.5, -base-, -large-",
        listed(bert, _NORMALIZE, pooling="cls", window=512, lower=True, card="bge-small-en-v1.5"),
        query=BGE_EN,
        document="",
        instructed=BGE_EN + "{}\n",
        packed=True,
        pooling="cls",
    ),
    Family(
        "BGE Chinese",
        "BAAI/bge-small-zh-v1.5, -base-, -large-",
        listed(bert, _NORMALIZE, pooling="cls", window=512, lower=True, card="bge-small-zh-v1.5"),
        query=BGE_ZH,
        document="",
        instructed=BGE_ZH + "{}\n",
        packed=True,
        pooling="cls",
    ),
    Family(
        "all-MiniLM",
        "sentence-transformers/all-MiniLM-L6-v2, -L12-v2, multi-qa-MiniLM-L6-cos-v1",
        listed(bert, _NORMALIZE, window=256),
        packed=True,
    ),
    Family(
        "all-mpnet",
        "sentence-transformers/all-mpnet-base-v2, multi-qa-mpnet-base-cos-v1",
        listed(mpnet, _NORMALIZE, window=384),
    ),
    Family(
        "paraphrase-multilingual",
        "sentence-transformers/paraphrase-multilingual-mpnet-base-v2, -MiniLM-L12-v2",
        listed(xlm_roberta, window=128),
        packed=True,
    ),
    Family(
        "LaBSE",
        "sentence-transformers/LaBSE",
        listed(bert, dense(HIDDEN), _NORMALIZE, pooling="cls", window=256),
        packed=True,
        pooling="cls",
    ),
    Family(
        "distiluse",
        "sentence-transformers/distiluse-base-multilingual-cased-v2",
        listed(distilbert, dense(), window=128),
        packed=True,
    ),
    Family(
        "sentence-T5, GTR",
        "sentence-transformers/sentence-t5-base, gtr-t5-large",
        listed(t5, dense(bias=False, activation=_IDENTITY), _NORMALIZE, window=256),
    ),
    Family(
        "Instructor",
        "hkunlp/instructor-base, -large, -xl",
        listed(
            t5,
            dense(bias=False, activation=_IDENTITY),
            _NORMALIZE,
            window=512,
            include_prompt=False,
            card="instructor-large",
        ),
        instructed="{}",
        note="an instruction is the whole prompt; its tokens are left out of pooling",
    ),
    Family(
        "EmbeddingGemma",
        "google/embeddinggemma-300m",
        listed(
            gemma3,
            dense(48, bias=False, activation=_IDENTITY),
            dense(HIDDEN, inputs=48, bias=False, activation=_IDENTITY),
            _NORMALIZE,
            window=2048,
            prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
        ),
        instructed="task: {} | query: ",
        packed=True,
    ),
    Family(
        "Snowflake Arctic Embed",
        "Snowflake/snowflake-arctic-embed-xs, -s, -m, -l",
        listed(bert, _NORMALIZE, pooling="cls", window=512, prompts={"query": BGE_EN}),
        instructed=BGE_EN + "{}\n",
        packed=True,
        pooling="cls",
    ),
    Family(
        "GTE",
        "thenlper/gte-small, -base, -large, gte-large-zh",
        listed(bert, _NORMALIZE, window=512, card="gte-base"),
        packed=True,
    ),
    Family(
        "GTE ModernBERT",
        "Alibaba-NLP/gte-modernbert-base",
        listed(modernbert, pooling="cls", window=8192, card="gte-modernbert-base"),
        packed=True,
        pooling="cls",
    ),
    Family(
        "ModernBERT Embed",
        "nomic-ai/modernbert-embed-base",
        listed(
            modernbert, _NORMALIZE, window=8192, prompts={"query": "search_query: ", "document": "search_document: "}
        ),
        instructed="search_query: {}\n",
        packed=True,
    ),
    Family(
        "Nomic Embed",
        "nomic-ai/nomic-embed-text-v1, -v1.5",
        listed(nomic_bert, window=8192, card="nomic-embed-text-v1.5"),
        query="search_query: ",
        document="search_document: ",
        instructed="search_query: {}\n",
        packed=True,
        note="by transformers' own code: none of theirs runs",
    ),
    Family(
        "Stella",
        "infgrad/stella-mrl-large-zh-v3.5-1792d",
        listed(
            bert,
            dense(48, activation=_IDENTITY),
            window=512,
            prompts={"query": f"Instruct: {WEB_SEARCH}.\nQuery: "},
        ),
        instructed="Instruct: {}\nQuery: ",
        packed=True,
    ),
    Family(
        "mxbai",
        "mixedbread-ai/mxbai-embed-large-v1",
        listed(bert, pooling="cls", window=512, prompts={"query": BGE_EN, "passage": ""}),
        instructed=BGE_EN + "{}\n",
        packed=True,
        pooling="cls",
    ),
    Family(
        "MS MARCO, dot product",
        "sentence-transformers/msmarco-distilbert-base-tas-b, multi-qa-distilbert-dot-v1",
        listed(distilbert, pooling="cls", window=512, card="multi-qa-distilbert-dot-v1"),
        packed=True,
        pooling="cls",
        note="vectors keep their lengths, and collections compare by dot product",
    ),
    Family(
        "paraphrase-ALBERT",
        "sentence-transformers/paraphrase-albert-small-v2",
        listed(albert, window=100),
        packed=True,
    ),
    Family("DeBERTa", "embedders on microsoft/deberta-v3-base", listed(deberta, window=256)),
    Family("ELECTRA", "embedders on google/electra-base-discriminator", listed(electra, window=256), packed=True),
    Family(
        "NLI, max pooling",
        "sentence-transformers/bert-base-nli-max-tokens",
        listed(bert, pooling="max", window=128),
        packed=True,
        pooling="max",
    ),
    Family(
        "SGPT (GPT-Neo)",
        "Muennighoff/SGPT-125M-weightedmean-msmarco-specb-bitfit",
        listed(gpt_neo, pooling="weightedmean", window=300),
        pooling="weightedmean",
    ),
    Family(
        "SGPT (GPT-J)",
        "Muennighoff/SGPT-5.8B-weightedmean-msmarco-specb-bitfit",
        listed(gptj, pooling="weightedmean", window=300),
        pooling="weightedmean",
    ),
    Family(
        "Static embeddings",
        "sentence-transformers/static-retrieval-mrl-en-v1, static-similarity-mrl-multilingual-v1",
        static,
        packed=True,
        note="a mean over a table: no window",
    ),
    Family(
        "model2vec",
        "minishlab/potion-base-8M, potion-multilingual-128M",
        model2vec,
        packed=True,
        note="a mean over a table: no window",
    ),
    Family(
        "SPLADE",
        "naver/splade-v3, opensearch-neural-sparse",
        foreign(
            "sentence_transformers.sparse_encoder.models.MLMTransformer",
            "sentence_transformers.sparse_encoder.models.SpladePooling",
        ),
        refused="it gives sparse vectors, and Gristmill keeps dense ones",
    ),
    Family(
        "ColBERT",
        "lightonai/GTE-ModernColBERT-v1, colbert-ir/colbertv2.0",
        foreign("Transformer", "pylate.models.Dense.Dense"),
        refused="this model needs pylate.models.Dense.Dense, which is code of its own",
    ),
    Family(
        "CLIP",
        "sentence-transformers/clip-ViT-B-32",
        foreign("CLIPModel"),
        refused="it encodes images, and Gristmill texts",
    ),
    Family(
        "Jina v3",
        "jinaai/jina-embeddings-v3",
        foreign("custom_st.Transformer", "Pooling", "Normalize"),
        refused="this model needs custom_st.Transformer, which is code of its own",
    ),
    Family(
        "Nomic Embed v2",
        "nomic-ai/nomic-embed-text-v2-moe",
        with_code("nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel", nomic_bert, num_experts=8),
        refused="it needs code of its own",
        note="runs once `trust_remote_code` allows that code",
    ),
    Family(
        "Jina v2",
        "jinaai/jina-embeddings-v2-base-en",
        with_code("jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"),
        refused="it needs code of its own",
        note="runs once `trust_remote_code` allows that code",
    ),
    Family(
        "GTE Qwen2, Stella 1.5B",
        "Alibaba-NLP/gte-Qwen2-1.5B-instruct, NovaSearch/stella_en_1.5B_v5",
        with_code("modeling_qwen.Qwen2Model"),
        refused="it needs code of its own",
        note="runs once `trust_remote_code` allows that code",
    ),
    Family(
        "LoRA adapters",
        "any folder with adapter_config.json",
        adapter,
        refused="merge it once",
        note="the error says how",
    ),
)


def built(family: Family, root: Path) -> Path:
    """The family's folder under `root`, made where it is not there; its name says nothing about the family."""
    folder = root / f"m{FAMILIES.index(family)}"
    if not folder.is_dir():
        family.build(folder)
    return folder


_PAGE: Final = """# Models

Gristmill reads a model's folder (`modules.json`, `1_Pooling`, `2_Dense`, prompts, tokenizer) and does what
[sentence-transformers](https://sbert.net) does with it, or refuses it by name. Each row is a test with a tiny model in the
family's exact layout: equal to sentence-transformers to 1e-5 in float32, for queries, documents and an instruction, alone
and in a batch. A family that is not listed, but made of the same parts, runs too.

- **pass**: *packed* computes no padding; *padded* is for architectures whose attention cannot be exchanged. At its start a
  worker checks the pass against one text at a time, and takes the next slower one where vectors differ.
- **before a query, a document**: from the folder's prompts, else from the family's model card. A folder is known by what is
  in it (its card `README.md`, or `_name_or_path`), never by its own name.
- **with an instruction**: what stands before the query then. Models marked *trained for it* follow instructions; others
  were not trained to, and measuring (`gristmill eval`) says whether one helps.
- **window**: the longest text in tokens. Longer ones are chunked, or cut and reported, as the collection says.

<!-- Made by `make docs` from tests/families.py: change that. -->

"""


def page(root: Path) -> str:
    """`docs/reference/models.md`, out of what each family's folder gives; folders are made under `root`."""
    head = ("family", "pass", "pooling", "before a query", "before a document", "with an instruction", "window")
    run = [_row(family, root) for family in FAMILIES if not family.refused]
    refused = [
        _line(f"**{family.name}**: {family.models}", "; ".join(filter(None, (family.refused, family.note))))
        for family in FAMILIES
        if family.refused
    ]
    notes = [f"- {family.name}: {family.note}." for family in FAMILIES if family.note and not family.refused]
    return "\n".join(
        [
            _PAGE + _line(*head),
            "|---" * len(head) + "|", *run, "", *notes, "", "## Refused", "",
            f"Each with a way out: {WAY_OUT.replace(' (docs/reference/models.md lists those that run)', '')}.", "",
            "| family | why |", "|---|---|", *refused, "",
        ]
    )  # fmt: skip


def _row(family: Family, root: Path) -> str:
    folder = built(family, root)
    info = read_info(folder, model=str(folder))
    templates = info.templates
    before = [templates.query, templates.document, templates.query_instructed]
    query, document, instructed = (_shown(template) for template in before)
    aware = ", trained for it" if info.instruction_aware else ""
    window = f"{info.max_tokens:,}" if info.max_tokens < 1_000_000 else "none"
    way = "packed" if family.packed else "padded"
    return _line(f"**{family.name}**: {family.models}", way, info.pooling, query, document, instructed + aware, window)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(template: str) -> str:
    text = template.replace(PROMPT_END, "").removesuffix("{text}").replace("{instruction}", "…")
    return "`" + text.replace("\n", "\\n").replace("|", "\\|") + "`" if text else "–"


def _save(folder: Path, kind: Any, config: Any, words: Tokenizer, *, pad: int = 0, **more: Any) -> None:
    shape = {
        "vocab_size": words.get_vocab_size(), "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "initializer_range": WIDTH, "pad_token_id": pad,
    }  # fmt: skip
    save_model(kind, config(**{**shape, **more}), folder)
    (_save_bert_words if pad == 0 else _save_roberta_words)(words, folder)


def _decoder(words: Tokenizer) -> dict[str, Any]:
    return {
        "vocab_size": words.get_vocab_size(), "hidden_size": HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "initializer_range": WIDTH,
    }  # fmt: skip


def _bert_words() -> Tokenizer:
    return byte_tokenizer(["[PAD]", "[CLS]", "[SEP]"], "[CLS] $A [SEP]")


def _save_bert_words(words: Tokenizer, folder: Path) -> None:
    save_tokenizer(words, folder, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


def _roberta_words() -> Tokenizer:
    return byte_tokenizer(["<s>", "<pad>", "</s>"], "<s> $A </s>")


def _save_roberta_words(words: Tokenizer, folder: Path) -> None:
    save_tokenizer(
        words, folder, pad_token="<pad>", cls_token="<s>", sep_token="</s>", bos_token="<s>", eos_token="</s>"
    )


def _write_module(folder: Path, kind: str, settings: dict[str, Any]) -> None:
    if kind == "Dense":
        weights = {"linear.weight": _random(settings["out_features"], settings["in_features"])}
        if settings["bias"]:
            weights["linear.bias"] = _random(settings["out_features"])
        write_json(folder / "config.json", settings)
        save_file(weights, folder / "model.safetensors")


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * WIDTH


def _update(path: Path, **values: Any) -> None:
    import json

    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **values})
