"""What `gristmill doctor` checks on a machine that can encode: accelerator and model."""

from __future__ import annotations

from collections.abc import Iterator

from gristmill.cli.doctor import Check
from gristmill.extras import brought_by
from gristmill.settings import load_settings
from gristmill_schemas.errors import GristmillError
from gristmill_worker.encoder import Encoder
from gristmill_worker.pipeline.engine import load_encoder
from gristmill_worker.settings import WorkerSettings


def checks(model: str | None) -> Iterator[Check]:
    """The accelerator; and with `model`, whether it loads and gives the scores that its authors published."""
    with brought_by("worker", "encoding"):
        import torch

    yield Check("torch", True, _accelerator(torch))
    if model is not None:
        yield from _model(model)


def _accelerator(torch_module: object) -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"{torch.__version__}, {len(names)} CUDA devices: {', '.join(names)}"
    return f"{torch.__version__}, no CUDA device: encoding on the CPU with {torch.get_num_threads()} threads"


def _scores(encoder: Encoder) -> Check:
    from gristmill_worker.encoder.model.known_checks import check_known_model

    result = check_known_model(encoder)
    if result is None:
        return Check("scores", True, f"no published scores are known for {encoder.info.model}: nothing to compare with")
    return Check("scores", result.ok, result.describe())


def _model(model: str) -> Iterator[Check]:
    try:
        encoder = load_encoder(load_settings(WorkerSettings, model=model))
    except GristmillError as error:
        yield Check("model", False, str(error))
        return
    info = encoder.info
    yield Check(
        "model",
        True,
        f"{info.model}: {info.dimensions}-d, {info.pooling} pooling, window {info.max_tokens}, digest {info.digest[:16]}, "
        f"{encoder.dtype} on {encoder.device}, budget {encoder.limits.tokens} tokens",
    )
    yield _scores(encoder)
    encoder.close()
