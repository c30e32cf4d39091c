"""A server that is told to stop ends in its time, whatever hangs."""

from __future__ import annotations

import subprocess
import sys

from gristmill_worker.server.running import _LAST_BATCH_S

SCRIPT = """
import os, signal, threading
from gristmill.settings import load_settings
from gristmill_worker.encoder.hash_encoder import HashEncoder
from gristmill_worker.server import running
from gristmill_worker.settings import ServerSettings

class Hangs(HashEncoder):
    def launch(self, batch):
        if any("hang" in each.text for each in batch):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()
        return super().launch(batch)

def ready(server):
    [served] = server.service.all
    served.batcher.submit(served.encoder.tokenize(["hang"]))

running.load_encoder = lambda settings: Hangs(8)
running.run_server(load_settings(ServerSettings, model="hash:8", serve_port=0, drain_timeout_s=0.1), ready=ready)
"""


def test_it_ends_though_a_batch_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"a batch on the model has not ended within {_LAST_BATCH_S:.0f} s" in ended.stderr
