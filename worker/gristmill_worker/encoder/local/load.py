"""From a model's name to a torch model in memory: files, device, number format. How to run it is decided later."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch

from gristmill_schemas import EncoderInfo
from gristmill_schemas.errors import InvalidInput, ModelUnavailable
from gristmill_worker.encoder.local import random_model
from gristmill_worker.encoder.local.cpu.cores import torch_threads
from gristmill_worker.encoder.local.cpu.fusing import fusable
from gristmill_worker.encoder.local.head import Head, weights_of
from gristmill_worker.encoder.model.architecture import check_known
from gristmill_worker.encoder.model.digest import weight_files
from gristmill_worker.encoder.model.find import locate
from gristmill_worker.encoder.model.fit import check_fit, check_numbers, check_values, check_vocabulary
from gristmill_worker.encoder.model.modules import WAY_OUT, read_json
from gristmill_worker.encoder.model.recipe import Overrides, Recipe, read_recipe
from gristmill_worker.encoder.tokenizing import Tokenizer
from gristmill_worker.phases import phase

log = logging.getLogger(__name__)

_DTYPES: Final = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

#: Smallest compute capability that multiplies bfloat16.
_BF16_FROM: Final = (8, 0)

#: Models that translate, of which embedders use the reading half.
_READS_AND_WRITES: Final = frozenset({"t5", "mt5", "umt5"})


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, before anything is decided about how to run it."""

    #: transformers' model, or the table (`EmbeddingBag`) of static embeddings.
    model: Any
    tokenizer: Tokenizer
    #: What makes of a pooled vector the model's own: a `Head`, or a reranker's.
    head: torch.nn.Module
    info: EncoderInfo
    device: torch.device
    dtype: torch.dtype

    @property
    def own_attention(self) -> str:
        """The attention that transformers chose for this model, as long as no other was set."""
        return str(self.model.config._attn_implementation)


def load(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    overrides: Overrides | None = None,
) -> Loaded:
    """Load a model that runs on this machine; arguments and errors are those of `open_encoder`."""
    chosen = overrides or Overrides()
    where = choose_device(device)
    number = choose_dtype(dtype, where)
    if model.startswith("random:"):
        weights, tokenizer, info = random_model.build(model, where, number, chosen.max_tokens)
        return Loaded(weights, tokenizer, Head(), info, where, number)
    found = locate(model, revision, code=chosen.trust_remote_code)
    with phase(f"reading the files of {found.label}"):
        recipe = read_recipe(found.folder, model=found.label, revision=found.revision, overrides=chosen)
    with phase(f"loading {found.label} onto {where}"):
        check_files(recipe.transformer, known=recipe.static or recipe.runs_code)
        tokenizer = Tokenizer.load(recipe)
        head = Head(recipe.layers, keep=recipe.keep, normalize=recipe.info.normalize).to(where)
        loaded: Any = (load_table if recipe.static else load_model)(recipe, where, number)
        table = loaded if recipe.static else loaded.get_input_embeddings()
        check_vocabulary(recipe.transformer, tokenizer.backend, table.num_embeddings)
        return Loaded(loaded, tokenizer, head, recipe.info, where, number)


def check_files(folder: Path, *, known: bool = False) -> None:
    """Refuse what can be seen to be wrong before transformers says it in its own words, or fills it in without any.

    Args:
        folder: with `config.json` and the weights.
        known: the architecture is none of transformers', and there is another that performs it.

    Raises:
        ModelUnavailable: something is.
    """
    config = read_json(folder / "config.json")
    if not known:
        check_known(folder, config)
    check_numbers(folder, config, weight_files(folder))


def choose_device(wanted: str = "auto") -> torch.device:
    """The device that `auto` means here (CUDA, else Apple's GPU, else CPU), or the wanted one if it is there.

    Raises:
        InvalidInput: unknown name, or the device is not on this machine.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise InvalidInput(f"device: expected auto, cpu, cuda, cuda:N or mps, got {wanted!r}") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidInput(f"device: {wanted} asked for, and this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def choose_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The number format that `auto` means there: bfloat16 where the hardware multiplies it, else float32.

    Raises:
        InvalidInput: unknown name.
    """
    if wanted != "auto":
        if wanted not in _DTYPES:
            raise InvalidInput(f"dtype: expected auto, {', '.join(_DTYPES)}, got {wanted!r}")
        chosen = _DTYPES[wanted]
        if chosen is torch.bfloat16 and device.type in ("cpu", "cuda") and not has_bf16(device):
            log.warning(
                "dtype: bfloat16 was asked for, and %s has no bfloat16 products: it works, slower than with --dtype auto",
                device,
            )
        return chosen
    if has_bf16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16; without, it is emulated there, slower than the format that `auto` takes."""
    if device.type == "cuda":
        # Of this card: `is_bf16_supported` speaks of the current one, and a machine may have two kinds.
        return torch.cuda.get_device_capability(device) >= _BF16_FROM
    return device.type == "cpu" and cpu_multiplies_bf16()


def cpu_multiplies_bf16() -> bool:
    """Whether bfloat16 products run on this processor as such; without, bfloat16 is slower than float32.

    oneDNN is asked too, since `ONEDNN_MAX_CPU_ISA` may forbid what the processor has.
    """
    if _arm_has_bf16():
        return True
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has = any(bool(getattr(torch.cpu, probe, bool)()) for probe in probes)
    return has and fusable(torch.device("cpu"), torch.bfloat16)


def _arm_has_bf16() -> bool:
    if platform.machine().lower() not in ("aarch64", "arm64"):
        return False
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return any(line.startswith("Features") and "bf16" in line.split() for line in lines)
    return False


def load_model(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a folder's weights for inference; see `load_weights`."""
    return load_weights(recipe.transformer, _kind, device, dtype, code=recipe.runs_code)


def load_weights(
    folder: Path, kind: Callable[[Any], Any], device: torch.device, dtype: torch.dtype, *, code: bool = False
) -> Any:
    """Load a folder's weights into one of transformers' models, for inference.

    Args:
        folder: with `config.json` and the weights.
        kind: from the configuration to the class that loads, such as `AutoModel`.
        device: where it goes.
        dtype: number format.
        code: code from the folder may run.

    Raises:
        ModelUnavailable: transformers does not know the architecture, or the weights are missing, broken or another model's.
    """
    from transformers import AutoConfig

    trust: dict[str, Any] = {"local_files_only": True, "trust_remote_code": code}
    try:
        with quiet_loading():
            config = AutoConfig.from_pretrained(str(folder), **trust)
            model, report = kind(config).from_pretrained(
                str(folder), config=config, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **trust
            )
    except MemoryError:
        raise
    except Exception as error:  # pickles, configurations and code of the folder's own raise whatever they like
        raise _unloadable(folder, error) from error
    check_fit(folder, model, report)
    model.eval().requires_grad_(False).to(device)
    check_values(folder, model)
    return model


def _unloadable(folder: Path, error: Exception) -> ModelUnavailable:
    if isinstance(error, UnpicklingError):
        return ModelUnavailable(
            f"{folder}: the model cannot be loaded: its pytorch_model.bin is damaged, or holds more than tensors, "
            "which could run as code: take model.safetensors of the same model, or fetch the file again"
        )
    said = next(filter(None, map(str.strip, str(error).splitlines())), "")
    return ModelUnavailable(f"{folder}: the model cannot be loaded ({type(error).__name__}: {said}); {WAY_OUT}")


def _kind(config: Any) -> Any:
    """The class to load: of a model that translates (T5), only the half that reads."""
    from transformers import AutoModel, AutoModelForTextEncoding

    return AutoModelForTextEncoding if config.model_type in _READS_AND_WRITES else AutoModel


def load_table(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> torch.nn.EmbeddingBag:
    """Load static embeddings: one vector per token, of which a text's is the mean.

    model2vec stores them with fewer rows than tokens (`mapping`) and a weight for each token (`weights`).

    Raises:
        ModelUnavailable: the weights are missing or broken.
    """
    stored = weights_of(recipe.transformer)
    table = stored["embedding.weight"] if "embedding.weight" in stored else stored["embeddings"]
    if "mapping" in stored:
        rows = stored["mapping"].long()
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(table):
            raise ModelUnavailable(
                f"{recipe.transformer}: model.safetensors: mapping names row {int(rows.max())} of {len(table)} embeddings: "
                "these are parts of two models; fetch the folder again"
            )
        table = table[rows]
    if "weights" in stored:
        table = table.float() * stored["weights"].float()[:, None]
    return torch.nn.EmbeddingBag.from_pretrained(table.to(dtype), mode="mean").to(device)


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars and no notes about unused heads on stderr, which belongs to the caller's own progress."""
    from transformers.utils import logging as untyped

    hf_logging: Any = untyped

    bars, level = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def machine(device: str) -> dict[str, str | int]:
    """What throughput on this device depends on, for the cache of measurements."""
    facts: dict[str, str | int] = {
        **{package: version(package) for package in ("gristmill", "transformers")},
        "torch": torch.__version__,
        "threads": torch_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        return {**facts, "card": card.name, "memory": card.total_memory}
    return {**facts, "processor": _cpu_name()}


def _cpu_name() -> str:
    """What the processor calls itself."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return f"{os.cpu_count()}-cpu"
