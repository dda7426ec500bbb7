# make run    start Nion Swift with the plug-in and a simulated instrument (without a display: a headless scan)
# make test   check style, types and layers, and run the tests
# make venv   the development environment alone
# make lint   style, types and layers alone
# make wheel  a wheel in dist/

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PYTEST_ARGS ?= -q --durations=15
# Processes that share the tests; each needs about 1 GB.
JOBS ?= auto
# Folder for reports of the tests; none without.
REPORTS ?=

VENV := .venv
BIN := $(VENV)/bin
# A change of one of these installs again.
METADATA := setup.cfg setup.py pyproject.toml constraints.txt
# The compatible editable mode puts the repository itself on the path, where Swift lists plug-ins.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	--config-settings editable_mode=compat --editable

RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

# True when there is an X server that lets us in.
HAS_DISPLAY = $(BIN)/python -c "import ctypes, sys; sys.exit(not ctypes.CDLL('libX11.so.6').XOpenDisplay(None))" 2>/dev/null

.PHONY: venv run test lint format wheel clean

venv: $(DEV_STAMP)

$(RUN_STAMP): $(METADATA)
	@scripts/make-venv $(VENV) "$(PYTHON)"
	@echo "Installing Adaptive Scan and Nion Swift into $(VENV)"
	@$(INSTALL) .
	@touch $@

$(DEV_STAMP): $(METADATA)
	@scripts/make-venv $(VENV) "$(PYTHON)"
	@echo "Installing Adaptive Scan with the development extras into $(VENV)"
	@$(INSTALL) '.[dev]'
	@touch $(RUN_STAMP) $@

run: $(RUN_STAMP)
	@if [ -n "$$DISPLAY" ]; then scripts/system-packages swift; fi
	@if [ -n "$$DISPLAY" ] && $(HAS_DISPLAY); then \
		echo "Starting Nion Swift; its projects and settings are in out/swift-home"; \
		$(BIN)/adaptive-scan app --home out/swift-home; \
	else \
		echo "There is no display: scanning without a window"; \
		$(BIN)/adaptive-scan demo --out out/demo; \
	fi

report = $(if $(REPORTS),--junitxml=$(REPORTS)/$(1).xml)

# Tests that drive the real application have the machine for themselves.
test: lint
	@scripts/system-packages swift tests
	@status=0; set -x; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS) $(call report,tests) -m "not app" \
		--numprocesses $(JOBS) --maxprocesses 4 --dist worksteal || status=1; \
	$(BIN)/python -m pytest $(PYTEST_ARGS) $(call report,tests-app) -m app || status=1; \
	exit $$status

lint: $(DEV_STAMP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

format: $(DEV_STAMP)
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

wheel: $(DEV_STAMP)
	@rm -rf build
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean:
	rm -rf build dist out ci-output *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
