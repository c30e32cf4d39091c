"""The article's page as a script: it starts a server, asks it by OpenAI's client, and prints our figures beside its own."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gristmill_worker.encoder import open_encoder
from gristmill_worker.encoder.hash_encoder import HashEncoder
from serving import served

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Figures that the article gives, by experiment.
ARTICLES = {"tickets": [0.876, 0.91, 0.89, 0.93, 0.41], "views": [0.72, 0.68, 0.51], "clusters": ["0.92 – 0.98"]}


@pytest.fixture
def article(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("article")


def told(article: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    article.main([*arguments, "--json"])
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_every_experiment_prints_its_figures_and_the_articles_beside_them(
    article: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with served([HashEncoder(64)]) as serving:
        printed = told(article, capsys, "--base-url", serving.base_url, "--model", "hash:64")
        article.main(["--base-url", serving.base_url, "--model", "hash:64", "--only", "tickets"])
    assert "hash:64：" in (shown := capsys.readouterr().out)
    assert "文章（Qwen3-Embedding-0.6B）：0.876" in shown
    assert printed["model"] == "hash:64"
    sections = {each["name"]: each for each in printed["sections"]}
    assert list(sections) == list(article.SECTIONS)
    for name, section in sections.items():
        assert section["rows"], name
        assert section["claims"], name
        assert [row["article"] for row in section["rows"] if row["article"]] == ARTICLES.get(name, [])
    refused = [row["ours"] for row in sections["policies"]["rows"] if isinstance(row["ours"], str)]
    assert len(refused) == 3, "a window of 512 takes the shortest alone"
    assert all("512" in each for each in refused)
    assert all(claim["holds"] for claim in sections["client"]["claims"])


@pytest.mark.slow
def test_the_script_starts_a_server_of_its_own_and_ends_it() -> None:
    command = [sys.executable, str(EXAMPLES / "article.py"), "--model", "hash:16", "--only", "client", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["ours"] for row in json.loads(done.stdout)["sections"][0]["rows"]][:2] == ["hash:16", 16]
    command[3] = "absent-folder"
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert wrong.returncode == 1
    assert "absent-folder" in wrong.stderr


@pytest.mark.model
def test_what_the_article_says_holds_for_the_demos_model(
    article: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with served([open_encoder("demo", budget_tokens=2048)]) as serving:
        printed = told(article, capsys, "--base-url", serving.base_url, "--model", serving.service.all[0].name)
    # A model of 120 million weights puts the page that introduces a subject first, and finds one of two FAQ entries: both
    # are printed as they are.
    sure = [each for each in printed["sections"] if each["name"] not in ("faq", "technical")]
    claims = [claim for section in sure for claim in section["claims"]]
    assert [claim["what"] for claim in claims if not claim["holds"]] == []
