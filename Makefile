# The only list of commands. Everything runs from .venv, which is made anew when the interpreter or the lock changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO_READY := .venv/.demo
PB := indexer_service/v1
PROTO := proto/indexer_service/v1/indexer.proto

.DEFAULT_GOAL := help
.PHONY: FORCE help demo up setup clean check-pythons pythons hooks unit one quick format check test lint types imports proto proto-baseline proto-check docs docs-check \
  dashboards dashboards-check lock check-deploy check-clients check-client-lines client-wheel check-image check-failover check-servers check-monitoring untidy fuzz bench bench-limiter bench-size \
  bench-join bench-watch bench-watch-index bench-economy bench-overhead bench-admission bench-migrate \
  bench-index bench-read bench-slope bench-feed drill-client drill-gateway drill-drain drill-strangers chaos chaos-controls soak mutants sbom audit

help:  ## Show this list.
	@sed -nE -e 's/^## (.*)/\n\1:/p' -e 's/^([a-z-]+):.*  ## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

## Try it

demo: $(DEMO_READY)  ## Index a simulated user's servers while you watch. ARGS="--users 20 --workers 4", ARGS=--json
	@$(BIN)/python -m devstack demo $(ARGS)

up: $(DEMO_READY)  ## Keep the whole stack running for development, and print its addresses.
	@$(BIN)/python -m devstack up $(ARGS)

test: $(READY)  ## Run all tests, on real servers that come with the packages.
	$(BIN)/pytest -n 2 --dist loadfile

## Change it

setup: $(READY)  ## Build .venv from the lock (hashes are checked). Every other target does this first.

# Both rules run each time: set_up.py knows whether .venv is current, and touches nothing if it is.
SET_UP := @$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }; $(PYTHON) devstack/set_up.py
$(READY): FORCE
	$(SET_UP) tests

$(DEMO_READY): FORCE
	$(SET_UP) demo

clean:  ## Remove .venv and everything that was generated beside it.
	rm -rf .venv build dist .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check-pythons: $(READY)  ## Run unit and contract tests on the oldest and newest Python found. PYTHONS="python3.11 python3.15"
	$(BIN)/python -m tests.pythons $(PYTHONS)

hooks: $(READY)  ## Run `make quick` before every commit: points git at .githooks.
	git config core.hooksPath .githooks

quick: lint types imports  ## Check lint, types and import contracts: seconds when warm.

unit: $(READY)  ## Run the unit tests alone: no servers, about half a minute.
	$(BIN)/pytest -n 2 tests/unit

one: $(READY)  ## Run the tests whose names match. T=name, or an expression: T="drain and not load"
	@test -n "$(T)" || { echo 'Name a test: make one T=name'; exit 2; }
	$(BIN)/pytest -k "$(T)" $(ARGS)

format: $(READY)  ## Apply ruff's fixes and format.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

check: quick proto-check docs-check dashboards-check  ## Run every check but the tests.

ci:  ## Run what CI runs on every change, as .ci/run says. Installs Prometheus by apt-get where it lacks.
	bash .ci/run

lint: $(READY)  ## Check ruff's rules and format.
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)  ## Check types with mypy, strict.
	$(BIN)/mypy

imports: $(READY)  ## Check the import contracts.
	$(BIN)/lint-imports

## Generate

OUT ?= .
proto: $(READY)  ## Write the Python code of the API.
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=$(OUT) --pyi_out=$(OUT) --grpc_python_out=$(OUT) --mypy_grpc_out=quiet:$(OUT) $(PROTO)

proto-baseline: $(READY)  ## Take the API as it is now as the baseline that later changes may not break: at a release.
	$(BIN)/buf build --exclude-source-info -o proto/baseline.binpb

proto-check: $(READY)
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	$(BIN)/buf breaking --against proto/baseline.binpb
	@rm -rf build/proto && mkdir -p build/proto && $(MAKE) --no-print-directory proto OUT=build/proto
	diff -r -x __init__.py -x __pycache__ build/proto/$(PB) $(PB)

docs: $(READY)  ## Write docs/settings.md, docs/metrics.md, docs/events.md, docs/visibility.md and the manifests' settings.
	$(BIN)/python docs/make_settings.py > docs/settings.md
	$(BIN)/python docs/make_metrics.py > docs/metrics.md
	$(BIN)/python docs/make_events.py > docs/events.md
	@mkdir -p build && $(BIN)/python -m tests.unit.usecases.visibility_page > build/visibility.log
	$(BIN)/python deploy/make_env.py > deploy/chart/settings.env

pythons: $(READY)  ## Write docs/pythons.md from the locks: which packages have wheels where. Asks PyPI, for 4 minutes.
	$(BIN)/python docs/make_pythons.py > build/pythons.md && mv build/pythons.md docs/pythons.md

docs-check: $(READY)
	$(BIN)/python docs/make_settings.py | diff docs/settings.md -
	$(BIN)/python docs/make_metrics.py | diff docs/metrics.md -
	$(BIN)/python docs/make_events.py | diff docs/events.md -
	$(BIN)/python deploy/make_env.py | diff deploy/chart/settings.env -

dashboards: $(READY)  ## Write Grafana's dashboards and the PrometheusRule.
	$(BIN)/python -m deploy.observability.make

dashboards-check: $(READY)
	$(BIN)/python -m deploy.observability.make --check

UV_LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header -q
lock:  ## Resolve the dependencies anew and write the lock files.
	$(UV_LOCK) pyproject.toml --extra dev --extra embedded --extra editable --upgrade -o requirements.lock
	$(UV_LOCK) -c requirements.lock pyproject.toml --extra embedded --extra editable -o devstack/demo.lock
	$(UV_LOCK) -c requirements.lock pyproject.toml -o deploy/docker/requirements.lock
	$(UV_LOCK) -c requirements.lock deploy/docker/build.in -o deploy/docker/build.lock
	$(UV_LOCK) deploy/tools.in --upgrade -o deploy/tools.lock
	$(UV_LOCK) deploy/audit.in --upgrade -o deploy/audit.lock

## Check the deployment

TOOLS := build/tools
TOOLS_READY := $(TOOLS)/.ready
$(TOOLS_READY): $(READY) deploy/tools.lock deploy/gotools/go.sum deploy/gotools/formula/main.go
	@command -v go >/dev/null || { echo 'Helm is built from its module: install Go 1.26 or newer.'; exit 2; }
	$(PYTHON) -m venv --clear $(TOOLS)
	$(BIN)/uv pip install -q --python $(TOOLS)/bin/python --require-hashes -r deploy/tools.lock
	cd deploy/gotools && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $(CURDIR)/$(TOOLS)/bin/ helm.sh/helm/v3/cmd/helm ./formula
	@touch $(TOOLS_READY)

check-deploy: $(TOOLS_READY)  ## Check image recipe, compose file and charts: no cluster, no container engine. Needs Go, to build Helm.
	$(TOOLS)/bin/hadolint deploy/docker/Dockerfile
	$(TOOLS)/bin/checkov --config-file deploy/checkov/dockerfile.yaml -f deploy/docker/Dockerfile
	INDEXER_CREDENTIAL_KEYS=key $(TOOLS)/bin/docker-compose -f deploy/compose.yaml config -q
	$(TOOLS)/bin/yamllint -c deploy/yamllint.yaml deploy
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(TOOLS)/bin/python -m pytest -c deploy/pytest.ini --rootdir . --confcutdir tests/deploy tests/deploy
	$(TOOLS)/bin/helm lint --quiet --strict --kube-version 1.37.0 -f deploy/values/production.yaml deploy/chart
	$(TOOLS)/bin/helm lint --quiet --strict --kube-version 1.37.0 deploy/observability
	@for name in dev production second-bot everything monitoring; do \
	  $(TOOLS)/bin/python -m tests.deploy.rendered $$name > build/$$name.yaml && \
	  $(TOOLS)/bin/checkov --config-file deploy/checkov/$$([ $$name = dev ] && echo dev || echo production).yaml -f build/$$name.yaml || exit 1; done

.PHONY: ci release sign publish
REGISTRY ?= registry.example.org
release: $(TOOLS_READY)  ## Make a release up to its tag: VERSION=0.2.0 REGISTRY=ghcr.io/you, ARGS=--dry-run. docs/release.md
	@test -n "$(VERSION)" || { echo 'Name a version: make release VERSION=0.2.0'; exit 2; }
	$(BIN)/python -m deploy.release $(VERSION) --registry $(REGISTRY) --tools $(TOOLS)/bin $(ARGS)

sign: $(READY)  ## Sign the images and files of the release in dist. Needs cosign, and images in REGISTRY.
	$(BIN)/python -m deploy.release.sign --registry $(REGISTRY)

publish: $(READY)  ## Push commit, tag, charts and files of the release in dist. Needs git, helm's and GitHub's log-ins.
	git push --follow-tags origin HEAD
	for chart in dist/*.tgz; do $(TOOLS)/bin/helm push $$chart oci://$(REGISTRY)/charts || exit 1; done
	gh release create "$$(git describe --exact-match)" dist/* --notes-file dist/notes.md

LOCK ?= requirements.lock
sbom: $(READY)  ## Write build/sbom.json, the bill of materials (CycloneDX). LOCK=deploy/docker/requirements.lock: the image's
	@mkdir -p build
	$(BIN)/python deploy/make_sbom.py $(LOCK) > build/sbom.json

AUDIT := build/audit
$(AUDIT)/.ready: $(READY) deploy/audit.lock
	$(PYTHON) -m venv --clear $(AUDIT)
	$(BIN)/uv pip install -q --python $(AUDIT)/bin/python --require-hashes -r deploy/audit.lock
	@touch $@

audit: $(AUDIT)/.ready  ## Look all pinned packages up in a database of vulnerabilities. Needs a connection. ARGS="-s osv"
	$(AUDIT)/bin/python deploy/audit.py $(LOCK) $(ARGS)

check-clients: $(READY)  ## Build callers' programs in Python, Go and TypeScript, and run them over restarts. Needs go, npm. ARGS=go
	$(BIN)/python -m tests.clients $(ARGS)

check-client-lines: $(READY)  ## Run each documented line of grpcurl, ghz and buf curl. Needs go.
	$(BIN)/python -m tests.clients.lines

client-wheel: $(READY)  ## Build the Python client's wheel into dist.
	cd indexer_client && ../$(BIN)/python -m hatchling build -t wheel -d ../dist

check-image: $(READY)  ## Build the image without a registry and run it as a pod does; the script lists its needs.
	deploy/docker/check_image.sh

check-failover: $(READY)  ## Fail over real Redis servers under the product. Needs redis-server and redis-sentinel.
	FAILOVER=1 $(BIN)/pytest -n 0 tests/failover $(ARGS)

check-servers: $(READY)  ## Run tests and product on several Redis servers, play servers' faults, write docs/servers.md. ARGS=--list
	$(BIN)/python -m tests.server_kinds $(ARGS)

check-monitoring: $(READY)  ## Check rules and dashboards against a real Prometheus. ARGS=--picture only draws docs/boards
	$(BIN)/python -m deploy.observability.verify $(ARGS)

## Measure

bench: bench-limiter bench-size bench-join bench-watch bench-watch-index bench-economy bench-feed bench-overhead bench-admission bench-migrate  ## Run all measurements.

bench-limiter: $(READY)  ## The limiter against the simulator, and its cost in Redis. ARGS=--quick
	$(BIN)/python -m tests.benchmarks.limiter $(ARGS)
	$(BIN)/python -m tests.benchmarks.limiter.cost

bench-size: $(READY)  ## Memory and CPU of each process at 0, 50 and 100 % of the global limit. ARGS="--seconds 20"
	$(BIN)/python -m tests.benchmarks.size $(ARGS)

bench-index: $(READY)  ## Whole jobs: duration, used share of the limit, cost of a call. ARGS="--scenario B --workers 1 --rounds 3", ARGS=--quick
	$(BIN)/python -m tests.benchmarks.index $(ARGS)

bench-read: $(READY)  ## Pages against an empty handler, and hidden channels under concurrent reads. ARGS=--quick
	$(BIN)/python -m tests.benchmarks.read $(ARGS)

bench-slope: $(READY)  ## Jobs while each operation of MongoDB or Redis takes longer. ARGS="--server mongodb --delay 100", ARGS=--quick
	$(BIN)/python -m tests.benchmarks.slope $(ARGS)

bench-join: $(READY)  ## Starts that join a running job, against an empty handler. ARGS="--users 1000"
	$(BIN)/python -m tests.benchmarks.join $(ARGS)

bench-watch: $(READY)  ## 5,000 watchers of 1,000 jobs on one service process. ARGS="--watchers 500 --jobs 100"
	$(BIN)/python -m tests.benchmarks.watch $(ARGS)

bench-watch-index: $(READY)  ## 100 watchers of what they may see, 50 stored changes a second. ARGS="--watchers 20 --seconds 5"
	$(BIN)/python -m tests.benchmarks.watch_index $(ARGS)
	$(BIN)/python -m tests.benchmarks.watch_index.live $(ARGS)

bench-economy: $(READY)  ## Simulated weeks and a rush: calls per user, stale reads, waits. ARGS=--quick
	$(BIN)/python -m tests.benchmarks.economy $(ARGS)

bench-feed: $(READY)  ## The Gateway's process: start with 2,500 guilds, events a second, deploys, crashes. ARGS="--only start"
	$(BIN)/python -m tests.benchmarks.feed $(ARGS)

drill-gateway: $(READY)  ## 200 drops, lost sessions, kills and stops of the Gateway's processes in a changing world. ARGS="--faults 40"
	$(BIN)/python -m tests.gateway_drill $(ARGS)

bench-overhead: $(READY)  ## Cost of metrics and log lines. ARGS="--users 10"
	$(BIN)/python -m tests.benchmarks.overhead $(ARGS)

bench-admission: $(READY)  ## Cost of checking a caller's token. ARGS="--rounds 5"
	$(BIN)/python -m tests.benchmarks.admission $(ARGS)

bench-migrate: $(READY)  ## A migration from rows: 100,000 channels in 2,000 guilds, and 2,000 users. ARGS="--users 0"
	$(BIN)/python -m tests.benchmarks.migrate $(ARGS)

bench-callers: $(READY)  ## What a light caller notices of a heavy one: jobs, turns, watches and reads. ARGS="--rounds 2"
	$(BIN)/python -m tests.benchmarks.callers $(ARGS)

drill-client: $(READY)  ## Watch jobs by the client library while services are killed and drained and connections cut, 200 times.
	$(BIN)/python -m tests.benchmarks.client $(ARGS)

drill-drain: $(READY)  ## Send SIGTERM to services and workers under load, 20 times. ARGS="--rounds 4"
	$(BIN)/python -m tests.benchmarks.drain $(ARGS)

drill-strangers: $(READY)  ## Attack a service from outside without a token: its memory, and honest reads. ARGS="--only rapid-reset"
	$(BIN)/python -m tests.benchmarks.strangers $(ARGS)

chaos: $(READY)  ## Play faults of every part, and check what must hold after each. ARGS="--scenario kill-worker --seeds 20", ARGS="--group links"
	$(BIN)/python -m tests.chaos $(ARGS)

chaos-controls: $(READY)  ## Break a copy of the product once for each invariant, and see that the harness finds it. ARGS="--invariant I4"
	$(BIN)/python -m tests.chaos.controls $(ARGS)

soak: $(READY)  ## Run at the full budget for 30 minutes with a random fault every 10 s. ARGS="--minutes 5"
	$(BIN)/python -m tests.chaos.soak $(ARGS)

mutants: $(READY)  ## Mutate rules, limiter, store and interceptors, and count what the tests notice. ARGS="--folder domain --sample 40"
	$(BIN)/python -m tests.mutants $(ARGS)

untidy: $(READY)  ## Compare what is shown of 10,000 random untidy guilds with the strictest reading of them.
	UNTIDY_GUILDS=10000 $(BIN)/pytest -q tests/unit/domain/test_untidy_guilds.py

fuzz: $(READY)  ## Send 100,000 random requests and corrupted answers. ARGS="--requests 5000 --seed 1"
	$(BIN)/python -m tests.fuzz $(ARGS)
