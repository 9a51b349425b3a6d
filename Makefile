# Everything a developer does here. `make help` explains the targets; variables: PYTHON, ARGS (passed to the tool).

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install run demo test lint types generate verify bench fuzz population faults faults-short soak burst compose-env lock clean

# The first Python that is new enough. `make PYTHON=/path/to/python3 …` names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Test processes: tests wait for servers more than they compute.
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
# Names of package registries and their file hosts; written so that this line does not match itself.
REGISTRIES := pythonhoste[d]|(pypi|npmjs|crates|docker)\.(org|com|io)|ghc[r]\.io

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## Create .venv and install everything into it; quick when nothing changed

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing into $(VENV): about a minute, once."
	@$(PYTHON) -m venv $(VENV) || { echo "This Python has no venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PIP) install --require-hashes --only-binary :all: --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## Start everything on this machine, send a demonstration, stay up (Ctrl-C ends it)
	@$(BIN)/automata up --demo $(ARGS)

demo: install ## Send the demonstration to what `make run` keeps running
	@$(BIN)/automata demo $(ARGS)

test: install ## Run the test suite (ARGS="-k name" selects); the long fault tests and benchmarks are left out
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: install ## Style, spelling, SQL, Dockerfile, compose file, layers, lock
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/lint-imports --no-cache
	$(BIN)/squawk deploy/sql/0*.sql
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@! grep -n '://' requirements.lock requirements-runtime.lock || { echo "a lock holds an address" >&2; exit 1; }
	@! git grep -nIE '$(REGISTRIES)' || { echo "a file names a package registry" >&2; exit 1; }

types: install ## Type-check everything, tests too
	$(BIN)/mypy

generate: install ## Write proto/, docs/settings.md and deploy/sql/schema.sql anew
	$(BIN)/python proto/generate.py
	$(BIN)/python -m tests.schema

verify: install ## Prove that the generated files are current
	$(BIN)/python proto/generate.py --check
	$(BIN)/python -m tests.schema --check

bench: install ## Measure throughput, latency and their ratios to the floors (ARGS="--help")
	$(BIN)/python -m tests.bench $(ARGS)

population: install ## Load 10,000,000 subscriptions and measure requests among them (ARGS="--rows 1000000")
	$(BIN)/python -m tests.bench.population $(ARGS)

fuzz: install ## Search the running API for what contradicts proto/openapi.json, for half an hour, differently each time
	$(BIN)/pytest tests/fuzz --fuzz-seconds 1800 --fuzz-seed random $(ARGS)

faults: install ## Kill and break every part under 20,000 messages each, and check that nothing is lost
	$(BIN)/pytest tests/faults -m faults --messages 20000 $(ARGS)

faults-short: install ## The kills alone, under 2,000 messages each: what CI runs
	$(BIN)/pytest tests/faults -m kills --messages 2000 $(ARGS)

soak: install ## Half the maximum rate for ten minutes, a process killed every five seconds (ARGS="--minutes 60")
	$(BIN)/python -m tests.faults.soak $(ARGS)

burst: install ## Three times the maximum rate for a minute: what is accepted arrives, the rest is refused politely
	$(BIN)/python -m tests.faults.burst $(ARGS)

compose-env: install ## Write .env, fresh secrets for docker compose; an .env that is there stays
	@test -e .env || (umask 077 && $(BIN)/python deploy/compose/new_env.py > .env.new && mv .env.new .env)

lock: install ## Resolve the dependencies anew (ARGS="--upgrade")
	$(COMPILE) --extra embedded --group dev --output-file requirements.lock $(ARGS) pyproject.toml
	$(COMPILE) --group build --constraint requirements.lock --output-file requirements-runtime.lock pyproject.toml

clean: ## Remove .venv and caches; the data of `make run` stays
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
