"""What `gristmill doctor` checks on a machine that can encode: accelerator and model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from itertools import islice
from typing import Final

from gristmill.cli.doctor import Check
from gristmill.extras import brought_by
from gristmill.probes.pulse import read_pulses
from gristmill.settings import load_settings
from gristmill_schemas.errors import GristmillError
from gristmill_worker.encoder import Encoder
from gristmill_worker.pipeline.engine import load_encoder
from gristmill_worker.process.supervisor import ports
from gristmill_worker.settings import WorkerSettings

#: Longest wait for a port of this machine, seconds.
_LONGEST_S: Final = 3.0
#: Measurements that are shown, the newest.
_SHOWN_BUDGETS: Final = 5


def checks(model: str | None) -> Iterator[Check]:
    """The accelerator; and with `model`, whether it loads and gives the scores that its authors published."""
    yield from _metrics(load_settings(WorkerSettings))
    with brought_by("worker", "encoding"):
        import torch

    yield Check("torch", True, _accelerator(torch))
    yield Check("bfloat16", True, _bfloat16())
    yield from _cards()
    if model is not None:
        yield from _model(model)
    yield from _budgets()


def _metrics(settings: WorkerSettings) -> Iterator[Check]:
    """Whether the ports of this machine's workers answer, where they are set."""
    first = settings.metrics_port
    if not first:
        return
    supervised = [pulse.workers for pulse in read_pulses() if pulse.kind == "supervisor"]
    for port in ports(first, max(supervised, default=1)):
        yield _answers(settings.metrics_host, port or first)


def _answers(host: str, port: int) -> Check:
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    where = f"http://{f'[{here}]' if ':' in here else here}:{port}/metrics"
    try:
        with closing(HTTPConnection(here, port, timeout=_LONGEST_S)) as connection:
            connection.request("GET", "/metrics")
            status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        nobody = "is a worker running here, with the same GRISTMILL_METRICS_PORT and GRISTMILL_METRICS_HOST?"
        return Check("metrics", False, f"nothing answers at {where} ({error}): {nobody}")
    if status == HTTPStatus.OK:
        return Check("metrics", True, f"{where} answers")
    return Check("metrics", False, f"{where} answers with {status}: another program listens there")


def _accelerator(torch_module: object) -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"{torch.__version__}, {len(names)} CUDA devices: {', '.join(names)}"
    return f"{torch.__version__}, no CUDA device: encoding on the CPU with {torch.get_num_threads()} threads"


def _bfloat16() -> str:
    from gristmill_worker.encoder.local.load import choose_device, choose_dtype, has_bf16

    device = choose_device()
    if has_bf16(device):
        return f"products on {device}: yes, so `--dtype auto` takes it"
    auto = str(choose_dtype("auto", device)).removeprefix("torch.")
    return f"products on {device}: none, so `--dtype auto` takes {auto}; bfloat16 works, slower"


def _cards() -> Iterator[Check]:
    from gristmill_worker.encoder import cards

    try:
        found = cards.cards()
    except RuntimeError as error:
        yield Check(
            "card", False, f"torch sees one and cannot use it: {error}; `nvidia-smi` shows what holds it, or ails it"
        )
        return
    driver = cards.driver_version() if found else ""
    yield from (Check("card", True, card.describe(driver)) for card in found)


def _budgets() -> Iterator[Check]:
    """What was measured here: what was chosen, why, when, and how to do it again."""
    from gristmill_worker.encoder.local.budget.kept import Budgets

    budgets = Budgets()
    known = list(islice(budgets.all(), _SHOWN_BUDGETS))
    for measured in known:
        yield Check("budget", True, measured.describe())
    if known:
        again = "measured again by `gristmill worker --recalibrate`, and by itself where throughput disagrees"
        yield Check("budgets", True, f"kept in {budgets.folder}; {again}")


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
