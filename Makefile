# Every target that CI runs is here; `make help` lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
PY := .venv/bin/python
ARGS ?=

.PHONY: help run install test check lint fix types imports migrations demo-model bench-engine bench-gateway clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: .venv/installed ## install what is missing, then start everything (ARGS="--port 9000")
	@exec $(PY) manage.py serve $(ARGS)

install: .venv/installed ## create .venv and install the server with local inference

test: .venv/installed-dev ## run all tests: on SQLite, then on real PostgreSQL and Redis
	$(PY) -m pytest -n 2 --dist loadfile
	$(PY) -m tests.with_services $(PY) -m pytest -n 2 --dist loadfile -m database tests/gateway tests/models_registry tests/end_to_end

check: lint types imports migrations ## lint, types, import rules, migrations

lint: .venv/installed-dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

fix: .venv/installed-dev ## format and mend what ruff can mend
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

types: .venv/installed-dev
	$(PY) -m mypy

imports: .venv/installed-dev
	.venv/bin/lint-imports

migrations: .venv/installed-dev
	$(PY) manage.py check
	$(PY) manage.py makemigrations --check --dry-run

demo-model: .venv/installed ## train the built-in demo model again
	$(PY) -m tools.train_demo_model

bench-engine: .venv/installed ## compare the engine with llama.cpp and transformers (ARGS="--quick")
	$(PY) -m benchmarks.engine $(ARGS)

bench-gateway: .venv/installed-dev ## compare the gateway with LiteLLM and Portkey (ARGS="--quick")
	$(PY) -m benchmarks.gateway $(ARGS)

clean: ## remove .venv and caches; data in var/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) tools/install.py local
	@touch $@

.venv/installed-dev: pyproject.toml constraints.txt
	@$(PYTHON) tools/install.py local,dev
	@touch .venv/installed $@
