# Needs Python 3.11 or newer, git and make. The isolated environments make themselves on first use.
.PHONY: help setup demo test parity learn bench lint locks wheel clean
.DEFAULT_GOAL := help

VENV := .venv
RUN := $(VENV)/bin/python -m tests.run
UV := $(VENV)/bin/uv
INSTALL := $(UV) pip install --quiet --python $(VENV)/bin/python --require-hashes --no-build

help:
	@echo "make setup              the program i2v, in $(VENV)"
	@echo "make demo               the whole path on generated data"
	@echo "make test               every test, each in its environment"
	@echo "make parity PARITY=DIR  compare with reference outputs (default: those in tests/parity)"
	@echo "make learn              train on generated data and compare with trivial baselines"
	@echo "make bench AGAINST=DIR  one JSON row per measurement; beside the published code in DIR/NAME"
	@echo "make lint               format, style, types, imports"
	@echo "make locks              renew envs/*.lock and tests/*.lock (UPGRADE=--upgrade: newest)"
	@echo "make wheel              dist/*.whl"
	@echo "make clean              delete what make made; never data or runs"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	@python=$$(for name in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	    if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then echo $$name; break; fi; done); \
	if [ -z "$$python" ]; then \
	    echo "error: no Python 3.11 or newer"; \
	    echo "  to fix   install one, or say where it is: make setup PYTHON=/path/to/python"; exit 3; fi; \
	$$python -m venv $(VENV) || { \
	    echo "  to fix   on Debian and Ubuntu: apt install python3-venv"; exit 3; }
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.tests: tests/requirements.lock $(VENV)/.installed
	@$(INSTALL) -r $<
	@touch $@

$(VENV)/.lint: tests/lint.lock $(VENV)/.installed
	@$(INSTALL) -r $<
	@touch $@

demo: setup
	$(VENV)/bin/i2v demo

test: $(VENV)/.tests
	$(RUN)

parity: $(VENV)/.tests
	$(if $(PARITY),I2V_PARITY_DIR='$(abspath $(PARITY))') $(RUN) parity

learn: $(VENV)/.tests
	$(RUN) learn

bench: setup
	PYTHONPATH=. "$$($(VENV)/bin/i2v env python main)" -m tests.benchmarks \
	    $(if $(AGAINST),--against '$(abspath $(AGAINST))')

lint: $(VENV)/.lint
	$(VENV)/bin/ruff format --check i2v_cli pipelines tests
	$(VENV)/bin/ruff check i2v_cli pipelines tests
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# One after the other, each held to the versions of those before it, so that what environments share
# is the same everywhere. setuptools is left out of that: one environment needs an older one.
LOCK := env -u UV_FIND_LINKS -u UV_CONSTRAINT -u UV_OVERRIDE $(UV) pip compile --quiet --no-config \
    --universal --generate-hashes --no-build --python-version 3.11 \
    --no-header --no-annotate --no-emit-index-url $(UPGRADE)
PINS := .build/pins.txt

locks: setup
	@mkdir -p .build
	@: > $(PINS)
	@for name in main flow fvd data cluster; do \
	    echo "envs/$$name.lock"; \
	    $(LOCK) envs/$$name.in -c $(PINS) -o envs/$$name.lock || exit 1; \
	    grep -h '==' envs/$$name.lock | grep -v '^setuptools==' | sed 's/ *\\$$//' >> $(PINS); done
	$(LOCK) tests/requirements.in -o tests/requirements.lock
	$(LOCK) --group pyproject.toml:dev -o tests/lint.lock
	@if grep -n '://' envs/*.lock tests/*.lock; then echo 'error: an address in a lock'; exit 1; fi

wheel: setup
	$(UV) build --quiet --wheel --out-dir dist

clean:
	rm -rf $(VENV) .build build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache
	find i2v_cli pipelines tests -name __pycache__ -prune -exec rm -rf {} +
