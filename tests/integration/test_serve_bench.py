"""The server's benchmark: its keys, and that it leaves no process."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_it_measures_a_server_beside_its_encoder() -> None:
    options = ["--model", "hash:8", "--requests", "8", "--concurrent", "4", "--texts", "3", "--rounds", "1", "--json"]
    command = [sys.executable, "-m", "gristmill", "bench", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["requests"] == 8
    measured = ("texts_per_s", "encoder_texts_per_s", "efficiency", "p50_ms", "p99_ms")
    assert all(figures[key] > 0 for key in measured)
    assert figures["p99_ms"] >= figures["p50_ms"]
