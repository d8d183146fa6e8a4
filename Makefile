# Every target sets up .venv by itself; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
PIP := .venv/bin/python -m pip
TORCH := $(shell grep '^torch==' constraints.txt)
RUN := .venv/.installed-run
DEV := .venv/.installed-dev
# A process for each processor, of which each takes a run of neighbouring tests, and then what is left of another's.
# At most four, since each loads torch and collects all the tests. `-x` and `--pdb` want one process: see `test`.
PARALLEL ?= -n logical --maxprocesses 4 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help demo test slow redis-server lint types imports bench docs clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 10

demo: $(RUN)  ## train a language model plain and memoized side by side (under 3 minutes)
	OMP_WAIT_POLICY=passive .venv/bin/memograd demo $(ARGS)

test: $(DEV) redis-server  ## run the tests, in processes side by side; with ARGS='-x tests/test_call.py' in one
	OMP_WAIT_POLICY=passive .venv/bin/python -m pytest -m 'not slow' $(if $(ARGS),,$(PARALLEL)) $(ARGS)

slow: $(DEV) redis-server  ## run the tests that take more than a few seconds each
	OMP_WAIT_POLICY=passive .venv/bin/python -m pytest -m slow $(ARGS)

lint: imports  ## ruff (rules and format) and the import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

imports: $(DEV)  ## the import contracts alone: one way, and a plain core without libraries
	.venv/bin/lint-imports --no-cache

types: $(DEV)  ## basedpyright, strict, over src
	.venv/bin/basedpyright

bench: $(DEV)  ## run each script in bench/; each prints its table
	@set -e; for script in bench/*.py; do echo "== $$script"; OMP_WAIT_POLICY=passive .venv/bin/python "$$script"; done

docs: $(DEV) redis-server  ## run the examples of docs, README and docstrings; check links and line budgets
	.venv/bin/python -m pytest tests/docs $(ARGS)

clean:  ## remove .venv and everything that tools have written
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The tests of the shared store talk to a real one, on ports of their own.
redis-server:
	@command -v redis-server > /dev/null || \
	  { command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server openssl > /dev/null; } || \
	  { command -v apt-get > /dev/null && sudo -n apt-get update -qq && \
	    sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server openssl > /dev/null; } || \
	  { echo 'the tests need redis-server: write "sudo apt-get install redis-server", or "brew install redis"' >&2; exit 1; }

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch goes first and alone, so that nothing after it can resolve to another build of it.
$(RUN): pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) install --quiet '$(TORCH)'
	$(PIP) install --quiet -c constraints.txt -e '.[torch,cli]'
	@touch $@

$(DEV): $(RUN)
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@
