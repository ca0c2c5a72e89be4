# The project's commands. Everything they need beyond Python 3.11 they bring into .venv and .data.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
PY := .venv/bin/python

.PHONY: help
help: ## List the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 20

.PHONY: env
env: # The packages that run
	@sh stack/setup.sh

.PHONY: env-dev
env-dev: # And those that check and test
	@sh stack/setup.sh dev

.PHONY: up
up: env ## Start everything, run two sales, stay until Ctrl-C (DETACH=1: in the background)
	@$(PY) -m stack up $(if $(DETACH),--detach)

.PHONY: demo
demo: env ## Run the two sales against what is up
	@$(PY) -m stack demo

.PHONY: manage
manage: env ## Run manage.py with the addresses and secrets of what is up (ARGS="events partitions")
	@$(PY) -m stack manage $(ARGS)

.PHONY: down
down: ## Stop a stack that was started with DETACH=1
	@if [ -f .venv/installed.json ]; then $(PY) -m stack down; else echo "Nothing was started here."; fi

.PHONY: clean
clean: ## Stop the stack and delete its data
	@if [ -f .venv/installed.json ]; then $(PY) -m stack clean; else echo "Nothing was started here."; fi

.PHONY: test
test: env-dev ## Run the tests with servers of their own (ARGS="-k name" for some of them)
	@$(PY) -m pytest $(ARGS)

.PHONY: lint
lint: env-dev ## Check format, style, types, direction of imports, migrations, compose file
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache
	@$(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	@.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

.PHONY: format
format: env-dev ## Format the code and mend what ruff can mend
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

.PHONY: bench
bench: env-dev ## Measure all: bench-sagas (ARGS go there), then bench-choreography in any case
	@failed=0; \
	$(PY) -m tests.benchmarks $(ARGS) || failed=1; \
	$(PY) -m tests.benchmarks.choreography || failed=1; \
	exit $$failed

.PHONY: bench-sagas
bench-sagas: env-dev ## Measure the engine against a bare Celery chain (ARGS="--rounds 1")
	@$(PY) -m tests.benchmarks $(ARGS)

.PHONY: bench-choreography
bench-choreography: env-dev ## Measure the choreography against its targets (ARGS="--parts store")
	@$(PY) -m tests.benchmarks.choreography $(ARGS)

.PHONY: requirements
requirements: env-dev ## Compile the pinned requirements from their sources
	@for name in requirements requirements-servers requirements-dev; do \
		.venv/bin/uv pip compile --quiet --universal --python-version 3.11 \
			--custom-compile-command "make requirements" $$name.in -o $$name.txt $(ARGS) || exit 1; \
	done
