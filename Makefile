# textmill: `make demo` and `make test` set themselves up from nothing; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
# The build of torch for this machine. The version is pinned here because its CPU and CUDA builds share a version and differ in hash.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo demo-content test test-unit check docs faults soak bench bench-million bench-peers gpu bundle lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(VENV)/.installed ## make the virtual environment with every locked package

# The stamp is written last: a set-up that was cut off is done again.
$(VENV)/.installed: pyproject.toml deploy/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "textmill needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r deploy/requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

demo: setup ## label 2,225 real articles end to end; KEEP=1 leaves the stack up
	$(BIN)/python -m api.demo $(if $(KEEP),--keep)

demo-content: setup ## a table in, the same table with texts out: rules, masking, a prompt, JSON, checks, a chain; some four minutes
	$(BIN)/python -m api.demo.content

test: setup ## run every test, on real Postgres and Valkey, by two processes with servers of their own; WORKERS= for more
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),2) --dist worksteal

test-unit: setup ## run the tests that need no server and no process, within a minute
	$(BIN)/python -m pytest tests/unit

check: setup ## format, lint, types, layers, documents, deployment files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint deploy/Containerfile
	$(BIN)/shellcheck .ci/run deploy/make-secrets deploy/bundle/install
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml deploy/compose.gpu.yaml
	$(BIN)/python -m pytest tests/test_house.py tests/unit/api/docs tests/unit/api/reference tests/deploy --ignore=tests/deploy/test_parts.py

docs: setup ## write what is generated into the pages of api/docs/pages/ anew
	$(BIN)/python -m api.reference

faults: setup ## break everything, in some 35 minutes: matrix, cost, mutants, goals; writes faults-report.json and .md
	$(BIN)/python -m tests.faults $(if $(ONLY),--only $(ONLY))

soak: setup ## a million rows while everything is broken, 20 minutes; MINUTES=, SEED=; writes soak-report.json and .md
	$(BIN)/python -m tests.faults.soak --minutes $(or $(MINUTES),20) $(if $(SEED),--seed $(SEED)) --report soak-report.json

bench: setup ## our goals table in some ten minutes; writes bench-report.json and .md; FULL=1 runs everything whole
	$(BIN)/python -m tests.benchmarks $(if $(FULL),--full)

bench-million: setup ## a million rows through the null model against 10,000: the cost of a row, and memory
	$(BIN)/python -m tests.benchmarks --only many_rows --rows 1000000 --report bench-million.json

bench-peers: setup ## against what else labels the same texts, in environments of their own; PEERS= only those, of engines that write too; writes peers-report.json and .md
	$(BIN)/python -m tests.benchmarks.peers $(if $(PEERS),--peers $(PEERS))

# Without set-up: on a machine with no network the packages come from a bundle, or are that Python's own. PYTHON= names another than .venv's.
GPU_PYTHON := $(if $(filter environment command,$(firstword $(origin PYTHON))),$(PYTHON),$(or $(wildcard $(BIN)/python),$(PYTHON)))
gpu: ## what only a GPU can show, in 8 minutes; writes gpu-report.json and .md; without a GPU what a CPU can check of it
	$(GPU_PYTHON) -m tests.gpu $(if $(ONLY),--only $(ONLY))

bundle: setup ## a folder that installs where nothing can be downloaded; TO=, PYTHONS=, TORCH=, TORCH_PYTHONS=, EXTRAS=, WITHOUT=
	$(BIN)/python deploy/bundle/write.py --torch "$(TORCH)" $(if $(TO),--to "$(TO)") $(if $(PYTHONS),--pythons $(PYTHONS)) \
	  $(if $(TORCH_PYTHONS),--torch-pythons $(TORCH_PYTHONS)) $(if $(EXTRAS),--extras $(EXTRAS)) $(if $(WITHOUT),--without "$(WITHOUT)")

lock: setup ## write the lock files in deploy/ anew from pyproject.toml; UPGRADE=1 takes newer versions
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet pip-tools==7.6.2
	$(VENV)/lock/bin/python deploy/lock.py $(if $(UPGRADE),--upgrade)

clean: ## remove the virtual environment, models and caches (never ~/.textmill)
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache bench-*.json bench-*.md peers-report.* gpu-report.* faults-*.json faults-*.md soak-report.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
