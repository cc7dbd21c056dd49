# The only list of commands. Everything runs from .venv, which `make setup` builds from the lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PB := indexer_service/v1
PROTO := proto/indexer_service/v1/indexer.proto

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check lint types imports proto proto-check docs docs-check dashboards dashboards-check check-monitoring bench bench-limiter bench-overhead lock format

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY)  ## Build .venv from the lock (hashes checked).

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

lock:  ## Resolve the dependencies again and write requirements.lock.
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra embedded --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade -q -o requirements.lock

OUT ?= .
proto: $(READY)  ## Generate the Python code of the API.
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(OUT) --pyi_out=$(OUT) --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) $(PROTO)

proto-check: $(READY)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@rm -rf build/proto && mkdir -p build/proto && $(MAKE) --no-print-directory proto OUT=build/proto
	diff -r -x __init__.py -x __pycache__ build/proto/$(PB) $(PB)

docs: $(READY)  ## Generate docs/settings.md and docs/metrics.md.
	$(BIN)/python docs/make_settings.py > docs/settings.md
	$(BIN)/python docs/make_metrics.py > docs/metrics.md

docs-check: $(READY)
	$(BIN)/python docs/make_settings.py | diff docs/settings.md -
	$(BIN)/python docs/make_metrics.py | diff docs/metrics.md -

dashboards: $(READY)  ## Generate Grafana's dashboards and the PrometheusRule.
	$(BIN)/python -m deploy.observability.make

dashboards-check: $(READY)
	$(BIN)/python -m deploy.observability.make --check

check-monitoring: $(READY)  ## Rules and dashboards against a real Prometheus. ARGS=--picture draws docs/headroom.svg
	$(BIN)/python -m deploy.observability.verify $(ARGS)

check: lint types imports proto-check docs-check dashboards-check  ## Everything but the tests.

lint: $(READY)  ## Ruff: rules and format.
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY)  ## Let ruff mend what it can.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY)  ## mypy, strict.
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

test: $(READY)  ## All tests, on real servers that come with the packages.
	$(BIN)/pytest -n 2 --dist loadfile

bench: bench-limiter bench-overhead  ## All measurements.

bench-overhead: $(READY)  ## What metrics and log lines cost. ARGS="--users 10" for a short look
	$(BIN)/python -m tests.benchmarks.overhead $(ARGS)

bench-limiter: $(READY)  ## The limiter against the simulator, and its cost in Redis. ARGS=--quick for a short look
	$(BIN)/python -m tests.benchmarks.limiter $(ARGS)
	$(BIN)/python -m tests.benchmarks.limiter.cost

demo: $(READY)  ## Index a made-up user's servers while you watch. ARGS="--users 20 --workers 4", ARGS=--json
	@$(BIN)/python -m indexer_service.embedded demo $(ARGS)

up: $(READY)  ## Keep the whole stack running for development, and print its addresses.
	@$(BIN)/python -m indexer_service.embedded up $(ARGS)
