# The only list of commands. Everything runs from .venv, which `make setup` builds from the lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PB := indexer_service/v1
PROTO := proto/indexer_service/v1/indexer.proto

.DEFAULT_GOAL := help
.PHONY: help setup demo up test check lint types proto proto-check docs docs-check bench lock format

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

proto: $(READY)  ## Generate the Python code of the API.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=. --pyi_out=. --grpc_python_out=. --mypy_grpc_out=. $(PROTO)
