"""What a folder's sentence-transformers files say: where the transformer lies, how to pool, which layers follow.

Read and judged here without torch; `local/head.py` runs the layers. Whatever is not performed exactly is refused by name,
with a way out: a step left out or guessed would give vectors that look right and are not.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from gristmill_schemas import Distance, Pooling
from gristmill_schemas.errors import ModelUnavailable

#: What to do with a model that is not performed here.
WAY_OUT: Final = (
    "serve it with a server that performs it (text-embeddings-inference, infinity, vLLM) and give its URL as the model "
    "(http://HOST/v1#NAME), or take another model (docs/reference/models.md lists those that run)"
)
#: Where the transformer's own settings may stand: the name was once made from the architecture's.
_INPUT_FILES: Final = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
#: Settings of the transformer that change nothing here, or are read elsewhere.
_INPUT_KEYS: Final = frozenset({"max_seq_length", "do_lower_case", "unpad_inputs", "modality_config"})
#: Arguments for loading that say where and how to compute, not what.
_HARMLESS_ARGUMENTS: Final = frozenset(
    {
        "trust_remote_code",
        "torch_dtype",
        "dtype",
        "attn_implementation",
        "add_pooling_layer",
        "device_map",
        "padding_side",
    }
)
#: sentence-transformers' names of poolings, each with its older flag.
POOLING_MODES: Final = {
    "cls": Pooling.CLS,
    "max": Pooling.MAX,
    "mean": Pooling.MEAN,
    "mean_sqrt_len_tokens": Pooling.SQRT,
    "weightedmean": Pooling.WEIGHTED,
    "lasttoken": Pooling.LAST,
}
_POOLING_FLAGS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_DISTANCES: Final = {
    None: None,
    "cosine": Distance.COSINE,
    "dot": Distance.DOT,
    "dot_score": Distance.DOT,
    "euclidean": Distance.EUCLID,
}
#: What modules that are not performed are for, where that helps to choose.
_KNOWN_MODULES: Final = {
    "SpladePooling": "it gives sparse vectors, and Gristmill keeps dense ones",
    "SparseStaticEmbedding": "it gives sparse vectors, and Gristmill keeps dense ones",
    "MLMTransformer": "it gives sparse vectors, and Gristmill keeps dense ones",
    "CLIPModel": "it encodes images, and Gristmill texts",
    "ColBERT": "it gives one vector per token, and Gristmill keeps one per text",
    "MultiVectorMask": "it gives one vector per token, and Gristmill keeps one per text",
}


@dataclass(frozen=True, slots=True)
class Dense:
    """activation(x W' + b), plus x itself or its projection where `residual`."""

    folder: Path = field(repr=False)
    inputs: int
    outputs: int
    bias: bool
    #: Path of a class of torch without arguments, such as `torch.nn.modules.activation.Tanh`.
    activation: str
    residual: bool


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Layer normalisation of the pooled vector."""

    folder: Path = field(repr=False)
    outputs: int


@dataclass(frozen=True, slots=True)
class Normalize:
    """To length 1, before other layers."""


Layer = Dense | LayerNorm | Normalize


@dataclass(frozen=True, slots=True)
class Modules:
    """What the files of a folder say; the defaults where there are none."""

    #: Whether the folder has a list of modules at all.
    present: bool
    #: `config_sentence_transformers.json`.
    config: Mapping[str, Any]
    #: Where the transformer's configuration, weights and tokenizer lie.
    transformer: Path
    #: A table of vectors per token instead of a transformer.
    static: bool = False
    max_tokens: int | None = None
    lower_case: bool = False
    pooling: Pooling | None = None
    #: Dimensions of the pooled vector, as far as the pooling says.
    width: int | None = None
    #: Whether the tokens of a prompt are pooled like those of the text.
    include_prompt: bool = True
    #: After pooling, in order.
    layers: tuple[Layer, ...] = ()

    @property
    def distance(self) -> Distance | None:
        """How the model's vectors are compared, where the folder says so.

        Raises:
            ModelUnavailable: in a way that no collection has.
        """
        said = self.config.get("similarity_fn_name")
        if said not in _DISTANCES:
            raise ModelUnavailable(
                f"config_sentence_transformers.json: similarity_fn_name: expected cosine, dot or euclidean, got {said!r}, "
                f"by which no collection compares; set it to the nearest of these, or take another model"
            )
        return _DISTANCES[said]

    @property
    def truncate_dim(self) -> int | None:
        """How many numbers of each vector are kept, where the folder says so.

        Raises:
            ModelUnavailable: not a number of at least 1; a negative one would cut from the end.
        """
        said = self.config.get("truncate_dim")
        if said is not None and (type(said) is not int or said < 1):
            raise ModelUnavailable(
                "config_sentence_transformers.json: truncate_dim: expected the number of dimensions that are kept, at least "
                f"1, got {said!r}; set it to one, or take it out to keep all"
            )
        return said


def read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """A JSON object from a file; an absent optional file is an empty one.

    Raises:
        ModelUnavailable: a required file is absent, or the file is not a JSON object.
    """
    if not path.is_file():
        if required:
            raise ModelUnavailable(
                f"{path.parent} holds no {path.name}: expected a Hugging Face model folder, whole; fetch it again"
            )
        return {}
    value = _json(path)
    if not isinstance(value, dict):
        raise ModelUnavailable(f"{path}: expected a JSON object, got {type(value).__name__}")
    return value


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"{path}: expected readable JSON: {error}{how_to_fetch(path)}") from error


def how_to_fetch(path: Path) -> str:
    """What to do about a file that is not what its name says: of Git LFS there may be only the note in its place."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs"):
            return "; this is only Git LFS's note in the file's place: run `git lfs pull` in that folder"
    return "; fetch it again"


def read_modules(folder: Path) -> Modules:
    """Read the sentence-transformers files of a folder.

    Raises:
        ModelUnavailable: they are broken, or want what Gristmill does not perform.
    """
    config = read_json(folder / "config_sentence_transformers.json")
    _check_default_prompt(config)
    listed = _listed(folder)
    if not listed:
        return Modules(False, config, folder, **_input(folder))
    (kind, where), *rest = listed
    if kind == "StaticEmbedding":
        return Modules(True, config, where, static=True, pooling=Pooling.MEAN, layers=_layers(folder, rest))
    if kind != "Transformer" or not rest or rest[0][0] != "Pooling":
        names = ", ".join(name for name, _ in listed)
        _refuse(folder, f"expected Transformer, Pooling and what follows, or StaticEmbedding, got {names}")
    return Modules(
        True,
        config,
        where,
        **_pooling(rest[0][1]),
        layers=_layers(folder, rest[1:]),
        **_input(where),
    )


def _check_default_prompt(config: Mapping[str, Any]) -> None:
    prompts, name = config.get("prompts") or {}, config.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise ModelUnavailable(
            f"config_sentence_transformers.json: default_prompt_name: expected one of its prompts ({', '.join(prompts)}), "
            f"got {name!r}; set it to one of them or to null, or fetch the folder again"
        )


def _refuse(folder: Path, why: str) -> NoReturn:
    raise ModelUnavailable(f"{folder / 'modules.json'}: {why}; {WAY_OUT}")


def _listed(folder: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each module in `modules.json`, all of them sentence-transformers' own; empty without the file."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    modules = _json(path)
    if not isinstance(modules, list) or not modules or not all(isinstance(module, dict) for module in modules):
        raise ModelUnavailable(
            f"{path}: expected a JSON list of modules, got {str(modules)[:80]}; fetch the folder again"
        )
    return [
        (_kind(folder, str(each.get("type", ""))), _inside(folder, str(each.get("path") or ""))) for each in modules
    ]


def _inside(folder: Path, path: str) -> Path:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        _refuse(
            folder, f"path: expected the folder of a module within the model's, got {path!r}; copy that folder into it"
        )
    return folder / path


def _kind(folder: Path, name: str) -> str:
    """The last part of a module's class, where that class is performed here."""
    kind = name.rsplit(".", 1)[-1]
    if reason := _KNOWN_MODULES.get(kind):
        _refuse(folder, f"this model needs {kind}: {reason}")
    if not name.startswith("sentence_transformers."):
        _refuse(folder, f"this model needs {name}, which is code of its own and not part of sentence-transformers")
    if kind not in ("Transformer", "Pooling", "StaticEmbedding", "Dense", "LayerNorm", "Normalize", "Dropout"):
        _refuse(
            folder, f"Gristmill performs Transformer, Pooling, Dense and Normalize, and this model also needs {kind}"
        )
    return kind


def _input(folder: Path) -> dict[str, Any]:
    """What the transformer's own settings say about its input."""
    path = next((folder / name for name in _INPUT_FILES if (folder / name).is_file()), folder / _INPUT_FILES[0])
    said = read_json(path)
    if said.pop("transformer_task", "feature-extraction") != "feature-extraction":
        raise ModelUnavailable(f"{path}: transformer_task: Gristmill performs feature-extraction only; {WAY_OUT}")
    if said.pop("module_output_name", "token_embeddings") != "token_embeddings":
        raise ModelUnavailable(f"{path}: module_output_name: Gristmill pools token_embeddings only; {WAY_OUT}")
    for arguments in (
        "model_args",
        "model_kwargs",
        "config_args",
        "config_kwargs",
        "tokenizer_args",
        "processor_kwargs",
    ):
        _check_unused(path, said.pop(arguments, None) or {}, _HARMLESS_ARGUMENTS)
    _check_unused(path, {key: value for key, value in said.items() if value not in (None, {})}, _INPUT_KEYS)
    if "message" in (said.get("modality_config") or {}):
        raise ModelUnavailable(f"{path}: modality_config: this model wants texts in a chat template; {WAY_OUT}")
    limit = said.get("max_seq_length")
    if limit is not None and int(limit) < 1:
        raise ModelUnavailable(
            f"{path}: max_seq_length: expected the longest text in tokens, or null, got {limit}; set it"
        )
    return {"max_tokens": None if limit is None else int(limit), "lower_case": bool(said.get("do_lower_case"))}


def _check_unused(path: Path, settings: Mapping[str, Any], known: frozenset[str]) -> None:
    if unknown := sorted(set(settings) - known):
        raise ModelUnavailable(
            f"{path}: {', '.join(unknown)}: Gristmill does not perform this setting; take it out if it does not change the "
            f"model's vectors, else {WAY_OUT}"
        )


def _pooling(folder: Path) -> dict[str, Any]:
    """What `1_Pooling/config.json` says, in the old spelling (flags) or the new one (`pooling_mode`)."""
    config = read_json(folder / "config.json", required=True)
    said = config.get("pooling_mode") or [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)] or "mean"
    modes = [said] if isinstance(said, str) else list(said)
    modes += [
        flag for flag in config if flag.startswith("pooling_mode_") and config[flag] and flag not in _POOLING_FLAGS
    ]
    if len(modes) != 1 or modes[0] not in POOLING_MODES:
        raise ModelUnavailable(
            f"{folder / 'config.json'}: Gristmill pools by one of {', '.join(POOLING_MODES)}, and this model wants {modes}; "
            f"{WAY_OUT}"
        )
    return {
        "pooling": POOLING_MODES[modes[0]],
        "width": config.get("embedding_dimension") or config.get("word_embedding_dimension"),
        "include_prompt": bool(config.get("include_prompt", True)),
    }


def _layers(folder: Path, listed: list[tuple[str, Path]]) -> tuple[Layer, ...]:
    return tuple(_layer(folder, kind, where) for kind, where in listed if kind != "Dropout")


def _layer(folder: Path, kind: str, where: Path) -> Layer:
    if kind == "Normalize":
        return Normalize()
    if kind == "LayerNorm":
        return LayerNorm(where, int(read_json(where / "config.json", required=True)["dimension"]))
    if kind == "Dense":
        return _dense(where)
    return _refuse(folder, f"expected only Dense, LayerNorm and Normalize after pooling, got {kind}")


def _dense(folder: Path) -> Dense:
    """`2_Dense/config.json` with sentence-transformers' own defaults."""
    path = folder / "config.json"
    config = read_json(path, required=True)
    for side in ("module_input_name", "module_output_name"):
        if config.get(side) not in (None, "sentence_embedding"):
            raise ModelUnavailable(
                f"{path}: {side}: Gristmill performs layers on one vector per text (sentence_embedding), got "
                f"{config[side]!r}; {WAY_OUT}"
            )
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if not activation.startswith("torch.nn."):
        raise ModelUnavailable(
            f"{path}: activation_function: expected a class of torch.nn, got {activation!r}, code of its own; {WAY_OUT}"
        )
    try:
        sizes = int(config["in_features"]), int(config["out_features"])
    except (KeyError, TypeError, ValueError):
        raise ModelUnavailable(f"{path}: expected in_features and out_features, got {sorted(config)}") from None
    return Dense(folder, *sizes, bool(config.get("bias", True)), activation, bool(config.get("use_residual", False)))
