"""The examples of docs/howto/adapters.md do what they say, with the model that ships."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mcp
import pytest
from mcp.client.stdio import StdioServerParameters

from gristmill import Client

PAGE = (Path(__file__).parents[3] / "docs" / "howto" / "adapters.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def demo() -> Iterator[Client]:
    """One mill for all of them: loading its model takes longer than everything else here."""
    with Client.embedded(model="demo", budget_tokens=2048) as client:
        yield client


@pytest.mark.model
@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_prints_what_stands_beside_it(
    block: str, demo: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = re.findall(r"print\(.*\)  # (.*)", block)
    assert told
    monkeypatch.setattr(Client, "embedded", lambda **_: demo)
    exec(compile(block, "docs/howto/adapters.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == told
    for each in demo.collections.list():
        demo.collections.delete(each.name)


@pytest.mark.model
def test_an_mcp_client_finds_a_chinese_document_by_a_question(demo: Client, tmp_path: Path) -> None:
    (info,) = demo.models.list()
    with Client.embedded(tmp_path / "store", model="hash:16", threads=1) as empty:
        empty.create_collection("faq", space=info.space())
    env = {
        **os.environ,
        "GRISTMILL_EMBEDDED_PATH": str(tmp_path / "store"),
        "GRISTMILL_MODEL": "demo",
        "GRISTMILL_BUDGET_TOKENS": "2048",
    }
    arguments = ["-m", "gristmill", "mcp", "--allow-writes", "--instruction", "preset:faq:zh"]

    async def ask() -> Any:
        async with mcp.Client(StdioServerParameters(command=sys.executable, args=arguments, env=env)) as client:
            for id, text in {"42": "优惠券要在结算页勾选才会抵扣。", "43": "审核通过后，款项三日内原路退回。"}.items():
                assert not (await client.call_tool("store", {"id": id, "text": text})).is_error
            answer = await client.call_tool("find", {"query": "钱退了之后要等几天才能收到？", "limit": 1})
            return answer.structured_content

    (hit,) = asyncio.run(ask())["hits"]
    assert (hit["id"], hit["text"]) == ("43", "审核通过后，款项三日内原路退回。")
