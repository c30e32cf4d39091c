"""An adapter whose package is missing says which extra brings it; who uses none of them loads none of their packages."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from gristmill import NotInstalled

ADAPTERS = [
    ("langchain", "langchain_core.embeddings"),
    ("llamaindex", "llama_index.core.base.embeddings.base"),
    ("mcp", "mcp.server.mcpserver"),
]


@pytest.mark.parametrize(("name", "package"), ADAPTERS)
def test_an_adapter_without_its_package_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    for loaded in [each for each in sys.modules if each.startswith(f"gristmill.adapters.{name}")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotInstalled, match=rf"{package.partition('.')[0]}.*pip install 'gristmill\[{name}\]'"):
        importlib.import_module(f"gristmill.adapters.{name}")


@pytest.mark.slow
def test_a_client_loads_no_adapters_package() -> None:
    asked = "any(each in sys.modules for each in ('langchain_core', 'llama_index', 'mcp'))"
    program = f"import gristmill, sys; gristmill.Client, gristmill.AsyncClient; sys.exit({asked})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
