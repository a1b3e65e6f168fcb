# `make smoke` and `make test` do everything on a fresh Debian 12 machine, through `make setup`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The system's Python, not one that happens to be first on the path.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off
BINDIR ?= $(HOME)/.local/bin
STAMP := $(VENV)/.installed

SECONDS ?= 60
FIDELITY_SECONDS ?= 20
WORKERS ?= $(shell nproc)
SMOKE_FLAGS ?=
BENCH_FLAGS ?=
# Tests with a command of their own.
APART := not mutants and not fidelity and not kills
BENCH_STAMP := $(VENV)/.installed-bench

.PHONY: help setup install packages smoke test test-all lint mutants kills fidelity docs bench bench-long clean

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: packages $(STAMP)  ## Install what is missing and leave the s2fuzz command in .venv/bin

install: setup  ## Link the s2fuzz command into ~/.local/bin, so that it is found (BINDIR=…)
	@.ci/link $(BIN)/s2fuzz $(BINDIR)

packages:
	@.ci/packages $(PACKAGES_FOR)

$(STAMP): pyproject.toml
	@echo "[2/3] a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[3/3] Python packages, into it"
	@set -o pipefail; $(PIP) --editable '.[dev,fuzz]' | .ci/told pip
	@touch $@
	@echo "s2fuzz is in $(BIN). To have it found:  export PATH=\"$(CURDIR)/$(BIN):\$$PATH\"  (or: make install)"

smoke: setup  ## Fuzz the packaged kernel for a minute, with a worker on every core (SECONDS=…, WORKERS=…)
	$(BIN)/s2fuzz smoke --seconds $(SECONDS) --workers $(WORKERS) $(SMOKE_FLAGS)

test: PACKAGES_FOR := test
test: setup lint  ## Lint, type-check and test everything
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow and $(APART)'

test-all: PACKAGES_FOR := test
test-all: setup lint  ## The same, with the tests that say it at greater length: for every night
	$(BIN)/python -m pytest -n 2 --dist loadfile -m '$(APART)'

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: setup  ## Find every planted bug, three seeds each
	$(BIN)/python -m pytest -m mutants tests/mutants

kills: setup  ## Kill a campaign, its workers and their QEMUs 60 times; nothing recorded may be lost
	$(BIN)/python -m pytest -m kills tests/campaign

fidelity: PACKAGES_FOR := fidelity
fidelity: setup  ## Prove the shim headers against objects of the kernel's own build
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m fidelity tests/fidelity
	$(BIN)/s2fuzz smoke --sides kernel:6.12,kernel-make:6.12 --also kernel:6.1,kernel-make:6.1 --seconds $(FIDELITY_SECONDS) --workers $(WORKERS)

docs: setup  ## Write what docs/ has from definitions anew: tables of programs.md, contracts.md
	$(BIN)/python tests/docs_tables.py

$(BENCH_STAMP): $(STAMP)
	@set -o pipefail; $(PIP) --editable '.[dev,fuzz,bench]' | .ci/told pip
	@touch $@

bench: setup $(BENCH_STAMP)  ## Measure, in at most 15 minutes; bench-out/ gets bench.json and bench.svg (BENCH_FLAGS=…)
	@PYTHONPATH=tests $(BIN)/python -m bench $(BENCH_FLAGS)

bench-long: setup $(BENCH_STAMP)  ## The same for hours: every planted bug, memory over an hour
	@PYTHONPATH=tests $(BIN)/python -m bench --long $(BENCH_FLAGS)

clean:  ## Remove the virtual environment and caches of tools
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build
