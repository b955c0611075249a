# The commands of this project. CI runs the same commands. `make` without a target lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
RUNS ?= 20
SEED ?= 1
LAMBDA_PYTHON ?= 3.13
# Containers often set this variable. The tests start hundreds of processes, and each would compile the code again.
unexport PYTHONDONTWRITEBYTECODE
REQUIREMENTS := lambda_worker/requirements.txt requirements.txt requirements-dev.txt
# uv runs these two tools in environments of their own, because the project does not import them.
SBOM := $(BIN)/uv tool run -q --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --output-reproducible
AUDIT := $(BIN)/uv tool run -q --from pip-audit==2.10.1 pip-audit --disable-pip --require-hashes --strict
# The parts of `make test`, in the order in which they start.
PARTS := $(addprefix test-,sqlite-intake system sqlite-parts postgresql-parts page pipeline worker browser postgresql sqlite chaos)

.DEFAULT_GOAL := help
.PHONY: help demo serve test $(PARTS) monoliths chaos simulate mutants matrix screenshots bench-accept bench-drain bench-row bench-odd bench-neighbours bench-growth bench-memory bench-clients bench-hostile lambda lint format lock sbom audit clean

help: ## List all commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.run ## Run one import and print its report: a sample, or FILE=products.json
	@$(BIN)/python -m demo run $(if $(FILE),"$(FILE)")

serve: $(VENV)/.run ## Run the whole product on PORT=8000 until Ctrl-C
	@exec $(BIN)/python -m demo serve --port $(PORT)

# Many tests wait for processes and for answers, so seven parts run at the same time. Those that need most processor
# time are the first, so that none of them is left alone at the end, where it would use only one core. Those that wait
# most follow, and the rest begins when they end.
test: $(VENV)/.dev ## Run all tests on SQLite and PostgreSQL, or only TESTS=tests/products on SQLite
	$(if $(TESTS),$(BIN)/python -m pytest $(TESTS),@$(MAKE) --no-print-directory -j7 --output-sync=target $(PARTS))

test-postgresql: $(VENV)/.dev
	$(BIN)/python tests/with_postgresql.py $(BIN)/python -m pytest --ignore-glob='tests/bulk_import/*/*' tests/bulk_import tests/products tests/pipeline/test_pipeline.py

test-postgresql-parts: $(VENV)/.dev
	$(BIN)/python tests/with_postgresql.py $(BIN)/python -m pytest --ignore-glob='tests/bulk_import/test_*.py' tests/bulk_import

test-sqlite: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore-glob='tests/bulk_import/*/*' tests/bulk_import

test-sqlite-parts: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore-glob='tests/bulk_import/test_*.py' --ignore=tests/bulk_import/intake tests/bulk_import

test-sqlite-intake: $(VENV)/.dev
	$(BIN)/python -m pytest tests/bulk_import/intake

test-worker: $(VENV)/.dev
	$(BIN)/python -m pytest tests/lambda_worker

test-page: $(VENV)/.dev
	$(BIN)/python -m pytest tests/browser/import_page

test-browser: $(VENV)/.dev
	$(BIN)/python -m pytest --ignore=tests/browser/import_page tests/browser tests/monoliths

test-pipeline: $(VENV)/.dev
	$(BIN)/python -m pytest tests/pipeline

test-chaos: $(VENV)/.dev
	$(BIN)/python -m pytest tests/chaos tests/command_line

test-system: $(VENV)/.dev
	$(BIN)/python -m pytest $(foreach other,bulk_import lambda_worker browser monoliths pipeline chaos command_line,--ignore=tests/$(other))

chaos: $(VENV)/.dev ## Import while faults are injected, and check every row: RUNS=20 SEED=1
	@$(BIN)/python -m tests.chaos --runs $(RUNS) --seed $(SEED)

simulate: RUNS = 1000
simulate: $(VENV)/.dev ## Simulate imports with faults in virtual time, and check every row: RUNS=1000 SEED=1
	@$(BIN)/python -m tests.simulation --runs $(RUNS) --seed $(SEED) --processes $$(getconf _NPROCESSORS_ONLN)

mutants: $(VENV)/.dev ## Remove each guarantee in turn and check that `make chaos` and `make simulate` detect it
	@$(BIN)/python -m tests.chaos.mutate
	@$(BIN)/python -m tests.simulation.mutate

monoliths: $(VENV)/.dev ## Install the app in all monoliths of tests/monoliths, and import
	@MONOLITHS=all $(BIN)/python -m pytest tests/monoliths

matrix: $(VENV)/.dev ## Run the tests on each supported version of Python and Django
	@$(BIN)/python -m tests.matrix $(TESTS)

screenshots: $(VENV)/.dev ## Update the screenshots of the README
	@$(BIN)/python -m tests.browser.screenshots

lambda: $(VENV)/.dev ## Build the zips for AWS Lambda in dist/, for LAMBDA_PYTHON=3.13
	@$(BIN)/python -m lambda_worker.package --python $(LAMBDA_PYTHON)

bench-accept: $(VENV)/.dev ## Measure how fast the endpoint accepts an import
	@$(BIN)/python -m benchmarks.accept $(ARGS)

bench-drain: $(VENV)/.dev ## Measure how many rows a second become products, on SQLite and PostgreSQL
	@$(BIN)/python -m benchmarks.drain $(ARGS)
	@$(BIN)/python tests/with_postgresql.py $(BIN)/python -m benchmarks.drain $(ARGS)

bench-row: $(VENV)/.dev ## Measure what a row costs the monolith, as a single call and in a batch
	@$(BIN)/python -m benchmarks.row_cost $(ARGS)
	@$(BIN)/python tests/with_postgresql.py $(BIN)/python -m benchmarks.row_cost $(ARGS)

bench-odd: $(VENV)/.dev ## Measure how long the validation takes if some rows are unusual
	@$(BIN)/python -m benchmarks.odd_rows $(ARGS)

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
	$(BIN)/uv pip compile -q --universal --upgrade --generate-hashes pyproject.toml --extra worker --extra spreadsheets --group local -o requirements.txt
	$(BIN)/uv pip compile -q --universal --upgrade --generate-hashes pyproject.toml --extra worker --extra spreadsheets --group local --group dev -o requirements-dev.txt
	$(BIN)/uv pip compile -q --universal --upgrade --generate-hashes lambda_worker/pyproject.toml -o lambda_worker/requirements.txt
	$(BIN)/uv pip compile -q --universal --upgrade --generate-hashes --python-version 3.13 --group runtime -o tests/lambda_worker/runtime/requirements.txt
	$(BIN)/uv pip compile -q --universal --upgrade --generate-hashes --python-version 3.13 --group trigger -o tests/lambda_worker/trigger/requirements.txt

sbom: $(VENV)/.dev ## Write the bills of materials (CycloneDX) of the Lambda zip and of the example monolith to dist/
	@mkdir -p dist
	@$(SBOM) --pyproject lambda_worker/pyproject.toml -o dist/lambda_worker.cdx.json lambda_worker/requirements.txt
	@$(SBOM) --pyproject pyproject.toml -o dist/monolith.cdx.json requirements.txt
	@echo "dist/lambda_worker.cdx.json dist/monolith.cdx.json"

audit: $(VENV)/.dev ## Look for known vulnerabilities of all pinned packages (needs access to pypi.org)
	@for file in $(REQUIREMENTS); do echo $$file; $(AUDIT) --requirement $$file || exit 1; done

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
