# `make demo` and `make test` need Python 3.11 or newer, pip and make; they do the rest themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# Processes that run tests; each may take 2 GB of memory.
JOBS ?= 2
TEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: help demo guild-demo circle-demo serve-demo test quick lint format docs bench clean

help:
	@echo "make demo        from a base to a model taught by feedback, and a report (14 to 30 minutes)"
	@echo "make guild-demo  watch the bot in a simulated Discord server (a minute)"
	@echo "make serve-demo  serve the starter to programs and in the browser (within a minute)"
	@echo "make circle-demo one turn of the circle with simulated members (6 to 15 minutes)"
	@echo "make test        all tests"
	@echo "make quick       all but the slowest tests"
	@echo "make lint        formatting, lint and types"
	@echo "make docs        the map of the code, and the tables of keys and commands"
	@echo "make bench       speed and memory beside the peers"

demo: $(VENV)/.train
	$(BIN)/guildgpt train starter

guild-demo: $(VENV)/.core
	@$(BIN)/python -m simguild.play

circle-demo: $(VENV)/.train
	test -e runs/starter/sft/done.json || $(BIN)/guildgpt train starter --stage sft
	$(BIN)/python -m simguild.circle

serve-demo: $(VENV)/.core
	$(BIN)/guildgpt serve starter

test: $(VENV)/.dev
	$(TEST)

quick: $(VENV)/.dev
	$(TEST) -m "not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --explicit-package-bases bench/*.py

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py

bench: $(VENV)/.dev
	$(PIP) install -q -r bench/requirements.txt
	$(BIN)/python bench/sft.py
	$(BIN)/python bench/rlhf.py
	$(BIN)/python bench/startup.py

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "GuildGPT needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.train: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	$(PIP) install -q -c constraints.txt -e '.[train,dev]'
	@touch $@
