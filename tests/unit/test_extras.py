"""Every way into what the base install lacks ends in the sentence that says what to install."""

import json
import re
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec

import pytest

from gristmill import NotInstalled
from gristmill.cli.failures import WRONG_CALL
from gristmill.extras import brought_by, too_old

#: Hides modules, then goes every way in and says what came of it: {way: [exit code or error, words]}.
PROGRAM = """
import contextlib, io, json, sys

absent, broken = {absent}, {broken!r}

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        if name == broken:
            raise OSError("libcudart.so.12: cannot open shared object file: No such file or directory")

sys.meta_path.insert(0, Hidden())
import gristmill
from gristmill.cli.root import main

found = {{}}
for line in {ways}:
    sys.argv, said = ["gristmill", *line.split()], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main()
        except SystemExit as ended:
            found[line] = ended.code, said.getvalue()
try:
    if {embedded}:
        gristmill.Client.embedded(model="random:qwen3-0.6b:1")
except gristmill.GristmillError as error:
    found["embedded"] = type(error).__name__, str(error), repr(error.__cause__)
print(json.dumps(found))
"""
WAYS = ["worker", "demo --json", "bench encoder --model demo --json"]


def ways_in(
    absent: set[str], broken: str = "", ways: list[str] = WAYS, *, embedded: bool = True
) -> dict[str, list[str]]:
    program = PROGRAM.format(absent=absent, broken=broken, ways=ways, embedded=embedded)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "absent", [{"torch", "transformers", "tokenizers", "platformdirs", "huggingface_hub"}, {"gristmill_worker"}]
)
def test_without_the_worker_every_way_in_says_what_to_install(absent: set[str]) -> None:
    found = ways_in(absent)
    assert [code for way, (code, *_) in found.items()] == [2, 2, 2, "NotInstalled"]
    assert [way for way, (_, said, *_) in found.items() if "pip install 'gristmill[worker]'" not in said] == []
    assert all("NotInstalled" in said for way, (_, said, *_) in found.items() if way != "embedded")


@pytest.mark.slow
def test_without_what_serves_each_way_to_serve_says_what_to_install() -> None:
    ways = ["serve --model hash:8", "worker --serve --model hash:8"]
    for code, said in ways_in({"fastapi"}, ways=ways, embedded=False).values():
        assert str(code) == str(WRONG_CALL)
        assert re.search("(fastapi|uvicorn) is not installed", said)  # whichever is missed first on a base install
        assert "pip install 'gristmill[serve]'" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("absent", "broken", "named"),
    [pytest.param("transformers", "", "transformers", marks=pytest.mark.model), ("", "torch", "libcudart")],
)
@pytest.mark.skipif(find_spec("torch") is None, reason="on a base install nothing is left that could be broken")
def test_what_is_missing_or_broken_is_named_without_a_chain_of_tracebacks(absent: str, broken: str, named: str) -> None:
    kind, said, cause = ways_in({absent}, broken, ways=[])["embedded"]
    assert (kind, named in said, "pip install 'gristmill[worker]'" in said, cause) == (
        "NotInstalled",
        True,
        True,
        "None",
    )


def test_a_package_that_is_too_old_is_named_with_what_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.1.0" if name == "torch" else real(name))
    assert too_old("worker") == ["torch 2.1.0 is there, expected >=2.9"]
    said = r"torch 2\.1\.0 .*run: pip install 'gristmill\[worker\]'"
    with pytest.raises(NotInstalled, match=said), brought_by("worker", "encoding"):
        raise ImportError("cannot import name 'varlen'")
