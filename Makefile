# The commands of this project. CI runs the same commands. `make` without a target lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
RUNS ?= 20
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-sqlite test-postgresql test-worker chaos mutants matrix screenshots bench-accept bench-drain bench-neighbours bench-growth bench-memory bench-clients bench-hostile lambda lint format lock clean

help: ## List all commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.run ## Run one import and print its report: a sample, or FILE=products.json
	@$(BIN)/python -m demo run $(if $(FILE),"$(FILE)")

serve: $(VENV)/.run ## Run the whole product on PORT=8000 until Ctrl-C
	@exec $(BIN)/python -m demo serve --port $(PORT)

test: $(VENV)/.dev ## Run all tests on SQLite and PostgreSQL, or only TESTS=tests/products on SQLite
	$(if $(TESTS),$(BIN)/python -m pytest $(TESTS),@$(MAKE) --no-print-directory -j2 --output-sync=target test-sqlite test-postgresql test-worker)

test-sqlite: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/lambda_worker

test-postgresql: $(VENV)/.dev
	$(BIN)/python tests/with_postgresql.py $(BIN)/python -m pytest tests/bulk_import tests/products tests/pipeline

test-worker: $(VENV)/.dev
	$(BIN)/python -m pytest tests/lambda_worker

chaos: $(VENV)/.dev ## Import while faults are injected, and check every row: RUNS=20 SEED=1
	@$(BIN)/python -m tests.chaos --runs $(RUNS) --seed $(SEED)

mutants: $(VENV)/.dev ## Remove each guarantee in turn and check that `make chaos` detects it
	@$(BIN)/python -m tests.chaos.mutate

matrix: $(VENV)/.dev ## Run the tests on each supported version of Python and Django
	@$(BIN)/python -m tests.matrix $(TESTS)

screenshots: $(VENV)/.dev ## Update the screenshots of the README
	@$(BIN)/python -m tests.browser.screenshots

lambda: $(VENV)/.dev ## Build the zips for AWS Lambda (arm64 and x86_64) in dist/
	@$(BIN)/python -m lambda_worker.package

bench-accept: $(VENV)/.dev ## Measure how fast the endpoint accepts an import
	@$(BIN)/python -m benchmarks.accept $(ARGS)

bench-drain: $(VENV)/.dev ## Measure how many rows a second become products, on SQLite and PostgreSQL
	@$(BIN)/python -m benchmarks.drain $(ARGS)
	@$(BIN)/python tests/with_postgresql.py $(BIN)/python -m benchmarks.drain $(ARGS)

bench-neighbours: $(VENV)/.dev ## Measure how long other requests take while an import runs
	@$(BIN)/python -m benchmarks.neighbours $(ARGS)
	@$(BIN)/python tests/with_postgresql.py $(BIN)/python -m benchmarks.neighbours $(ARGS)

bench-memory: $(VENV)/.dev ## Measure the worker's memory for one chunk and for 1,000,000 rows
	@$(BIN)/python -m benchmarks.worker_memory $(ARGS)

bench-clients: $(VENV)/.dev ## Measure the CPU time of a create call with different HTTP clients
	@$(BIN)/python -m benchmarks.clients $(ARGS)

bench-hostile: $(VENV)/.dev ## Measure hostile bodies: their CPU time, and how long other requests take meanwhile
	@$(BIN)/python -m benchmarks.hostile $(ARGS)

bench-growth: $(VENV)/.dev ## Measure the pages with 100,000 jobs and 10 million ledger records
	@$(BIN)/python tests/with_postgresql.py $(BIN)/python -m benchmarks.growth $(ARGS)

lint: $(VENV)/.dev ## Check style, types, imports between packages, and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python -W ignore manage.py makemigrations --check --dry-run

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/.dev ## Update the pinned versions of all dependencies
	$(BIN)/uv pip compile -q --universal --upgrade pyproject.toml --extra worker --group local -o requirements.txt
	$(BIN)/uv pip compile -q --universal --upgrade pyproject.toml --extra worker --group local --group dev -o requirements-dev.txt
	$(BIN)/uv pip compile -q --universal --upgrade --generate-hashes lambda_worker/pyproject.toml -o lambda_worker/requirements.txt
	$(BIN)/uv pip compile -q --universal --upgrade --python-version 3.13 --group runtime -o tests/lambda_worker/runtime/requirements.txt
	$(BIN)/uv pip compile -q --universal --upgrade --python-version 3.13 --group trigger -o tests/lambda_worker/trigger/requirements.txt

clean: ## Remove the virtual environment, caches and builds
	rm -rf $(VENV) .local .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.run
