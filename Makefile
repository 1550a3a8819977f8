# `make` lists the targets. Each builds the virtual environment that it needs, once: the stamps are named after the
# contents of pyproject.toml and constraints.txt, so a second run installs nothing and needs no network.

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=
JOBS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
KEY := $(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')
RUNTIME := $(VENV)/.runtime-$(KEY)
DEV := $(VENV)/.dev-$(KEY)
# The comparisons that need neither data nor a run; the other scripts are started by hand, each says how.
SPEED := $(addprefix benchmarks/,unet.py overhead.py guidance_overhead.py samplers.py)

.DEFAULT_GOAL := help
.PHONY: help demo demo-short test lint format docs bench clean venv dev

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14
	@echo 'PIP_ARGS is passed to pip, PYTEST_ARGS to pytest, BENCH_ARGS to the benchmarks; PYTHON names the interpreter.'

demo: $(RUNTIME) ## train on the embedded digits, sample, measure (about 4 minutes on two cores); results in runs/demo
	$(BIN)/diffprob demo --out runs/demo

demo-short: $(RUNTIME) ## the same in about a minute, with a worse model; results in runs/demo-short
	$(BIN)/diffprob demo --short --out runs/demo-short

test: $(DEV) ## the test suite, JOBS processes of one thread each
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

lint: $(DEV) ## ruff (rules and format) and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

format: $(DEV) ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV) ## the documentation, into build/docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo 'open build/docs/index.html'

bench: $(DEV) ## every speed comparison, one after another; tables on the terminal, JSON in build/bench
	@mkdir -p build/bench
	@set -e; for script in $(SPEED); do \
		echo "== $$script"; $(BIN)/python $$script --out build/bench/$$(basename $$script .py).json $(BENCH_ARGS); \
	done

clean: ## remove what was built (the virtual environment and runs/ stay)
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks docs examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

venv: $(RUNTIME) ## only install what running needs
dev: $(DEV) ## only install what developing needs

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON): install Python 3.11 or later, or name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1), diffprob needs Python 3.11 or later: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments: install python3-venv (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first: no dependency gets to choose another build of it. hatchling stays, so that building needs no network later.
$(RUNTIME): | $(VENV)/.created
	$(PIP) '$(TORCH)' hatchling
	$(PIP) --no-build-isolation -e .
	@touch $@

$(DEV): | $(RUNTIME)
	$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@
