# make up, make test: each needs Python >= 3.11, pip and make, and nothing else. `make help` lists them all.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11 python,\
	$(shell $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)) python3)
VENV := .venv
BIN := $(VENV)/bin
BLUEPRINT ?= blueprints/evaluation
ARGS ?=
PYTEST_ARGS ?=

# What somebody's shell says about Python must not reach the environment that is made here.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

# A machine may have venv without the pip that belongs into it (Debian); then the machine's own pip fills it.
PIP := $(shell test -x $(BIN)/pip && echo $(BIN)/python -m pip || echo $(PYTHON) -m pip --python $(BIN)/python)
INSTALL = $(PIP) install --disable-pip-version-check --no-input --quiet
LOCKED = --require-hashes --only-binary :all:

.DEFAULT_GOAL := help
.PHONY: up test lint types layers format bench lock docs clean help

up: $(VENV)/.installed ## start the evaluation blueprint; Ctrl-C stops all of it (ARGS="--port 0")
	@$(BIN)/standfast up $(BLUEPRINT) $(ARGS)

test: lint types layers ## everything that must hold: format, lint, types, layers, and all tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## format and lint
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.installed-dev ## mypy --strict
	@$(BIN)/mypy

layers: $(VENV)/.installed-dev ## who may import whom
	@$(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.installed-dev ## put the code into its one form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## measure, beside the bare SQL and beside peers
	@$(BIN)/python benchmarks/run.py $(ARGS)

docs: $(VENV)/.installed-dev ## write docs/reference again from the code
	@$(BIN)/python -m standfast.cli.reference docs/reference

lock: ## resolve the dependencies again; needs uv
	@command -v uv >/dev/null || { echo "make lock needs uv on the PATH" >&2; exit 2; }
	@uv pip compile pyproject.toml --extra environments --group build $(LOCK_FLAGS) -o requirements.lock
	@uv pip compile pyproject.toml --extra environments $(GROUPS) --constraint requirements.lock \
		$(LOCK_FLAGS) -o requirements-dev.lock

GROUPS = --group build --group test --group lint --group bench
LOCK_FLAGS = --universal --python-version 3.11 --generate-hashes --only-binary :all: --quiet \
	--no-header --no-emit-index-url --no-emit-find-links

clean: ## remove the environment and what tools left; data directories (.standfast) stay
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# An environment that is there is used, never removed: it may be somebody's own, or in use.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' 2>/dev/null || { \
		echo "Python 3.11 or later is needed; '$(PYTHON)' is older or not there." >&2; \
		echo "Install it, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(BIN)/python -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' 2>/dev/null || \
		$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || $(PYTHON) -m venv --without-pip $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment: its venv module is missing." >&2; \
		echo "Install it (Debian, Ubuntu: apt install python3-venv) and try again." >&2; exit 2; }
	@touch $@

# --no-build-isolation: the build backend is locked too, nothing is fetched that has no hash.
$(VENV)/.installed: requirements.lock pyproject.toml | $(VENV)/.made
	@echo "installing what requirements.lock names; the first time takes a minute" >&2
	@$(MAKE) --no-print-directory install-locked LOCK=requirements.lock
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml | $(VENV)/.made
	@echo "installing what requirements-dev.lock names; the first time takes a minute" >&2
	@$(MAKE) --no-print-directory install-locked LOCK=requirements-dev.lock
	@touch $@ $(VENV)/.installed

# A make of its own, so that PIP is looked up again after the environment was made.
.PHONY: install-locked
install-locked:
	@$(INSTALL) $(LOCKED) -r $(LOCK)
	@$(INSTALL) --no-deps --no-build-isolation --editable .
