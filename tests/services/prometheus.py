"""A real Prometheus from PATH (Debian's), which asks one address for its metrics."""

import shutil
from pathlib import Path
from typing import Any

import httpx

from services.process import Server, ServiceMissing, free_port


def find_prometheus() -> str:
    """Return the path of prometheus, or raise `ServiceMissing`."""
    if found := shutil.which("prometheus"):
        return found
    raise ServiceMissing("prometheus is not on PATH: apt-get install prometheus")


class PrometheusServer(Server):
    """Prometheus on the loopback interface.

    Args:
        data_dir: Folder for its samples, configuration and log.
        asked_port: Of this machine, where a worker shows its metrics.
        every_s: How often it asks.
    """

    name = "prometheus"

    def __init__(self, data_dir: Path, asked_port: int, every_s: int = 1) -> None:
        super().__init__(data_dir)
        self._program = find_prometheus()
        self.port = free_port()
        (data_dir / "prometheus.yml").write_text(
            f"global: {{ scrape_interval: {every_s}s }}\n"
            "scrape_configs:\n"
            f"  - {{ job_name: gristmill, static_configs: [{{ targets: ['127.0.0.1:{asked_port}'] }}] }}\n"
        )

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        listen = f"--web.listen-address=127.0.0.1:{self.port}"
        return [self._program, "--config.file=prometheus.yml", "--storage.tsdb.path=samples", listen]

    def is_ready(self) -> bool:
        """Ask it."""
        try:
            return httpx.get(f"{self.address}/-/ready", timeout=1).is_success
        except httpx.HTTPError:
            return False

    def over(self, query: str, start: float, end: float, step_s: float) -> list[dict[str, Any]]:
        """The series that a query gives between two times, seconds since 1970: `metric`, and `values` as pairs."""
        asked = {"query": query, "start": str(start), "end": str(end), "step": str(step_s)}
        answer = httpx.get(f"{self.address}/api/v1/query_range", params=asked, timeout=60).json()
        assert answer["status"] == "success", f"{query}: {answer}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found
