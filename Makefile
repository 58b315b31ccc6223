# What people and CI run. Every target sets up what it needs in .venv, in this folder and nowhere else.
# The recipes that need more than a line are in scripts/.

.DEFAULT_GOAL := help
.PHONY: help demo check measure rest test test-random lint format docs lock sbom clean

# PYTHON=python3.13 VENV=.venv-3.13 make test: with another Python, in an environment of its own.
VENV ?= .venv
export VENV
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

PYTEST := -m pytest --numprocesses logical --maxprocesses 4 --dist loadgroup --no-loadscope-reorder
# Tests that start few processes, never load torch and wait for little: a third of all, in a fifteenth of the time.
CHECK := $(addprefix tests/,catalog hardware media planning schema service) $(filter-out %/test_pages.py,$(wildcard tests/test_*.py)) \
	$(filter-out %/test_starts.py %/test_devices.py %/test_supervision_model.py,$(wildcard tests/jobs/test_*.py)) \
	$(foreach about,arguments old_home one_line_texts prompts refusals resources schema_rules surface tools unreadable, \
	tests/fronts/mcp/test_$(about).py)
# The tests that never load torch, without the browser's. They run nearly all of the source but the engine.
MEASURED := $(addprefix tests/,catalog distribution hardware jobs media planning schema service) \
	$(addprefix tests/fronts/,hosts mcp http) $(filter-out %_in_browser.py %_lasts.py,$(wildcard tests/fronts/web/test_*.py)) \
	$(wildcard tests/test_*.py tests/fronts/test_*.py) \
	$(addprefix tests/weights/,test_fetch.py test_page.py test_trouble.py) \
	$(filter-out %/test_openapi.py %/test_page.py,$(wildcard tests/fronts/openai/test_*.py)) \
	$(filter-out %/test_compile.py %/test_doctor.py,$(wildcard tests/fronts/cli/test_*.py))
# Of the source without the engine and the cluster, whose processes `make rest` starts, in percent of lines and branches:
# 93.1 were measured. Three below, for machines that cannot run some tests (no second user, no small disks).
FLOOR := 90
# Measuring costs a third to a half more time.
MEASURE := rm -rf .cache/coverage && $(VENV)/bin/python -m coverage run $(PYTEST)
COVERED := $(VENV)/bin/python -m coverage combine --quiet && $(VENV)/bin/python -m coverage report
SEED ?= $(shell date +%N)

help:
	@echo "make demo         a video, an image and its caption, in demo/; then how to connect a client"
	@echo "make check        the quick tests; ARGS='-k words' chooses some"
	@echo "make measure      the tests that never load torch, and how much of the source they run, which has a floor"
	@echo "make rest         all that measure does not run"
	@echo "make test         all tests; COVERAGE=1 measures how much of the source they run, and COVERAGE=fast, as in CI,"
	@echo "                  is make measure and make rest"
	@echo "make test-random  all tests in random order; SEED=7 repeats one"
	@echo "make lint         what is checked without running: style, types, import order, file lengths, generated docs"
	@echo "make format       set the style right"
	@echo "make docs         write every generated part of the documentation"
	@echo "make lock         write the hashes of all versions into locks/; HASHES=1 make demo installs only those files"
	@echo "make sbom         write sbom.json, a list of all that is installed in .venv (CycloneDX)"
	@echo "make clean        remove what these make: .venv, .cache and demo"

demo: $(RUN)
	@scripts/demo

check: $(DEV)
	$(VENV)/bin/python $(PYTEST) $(CHECK) $(ARGS)

measure: $(DEV)
	$(MEASURE) $(MEASURED) $(ARGS)
	$(COVERED) --omit='src/wan_mcp/engine/*,src/wan_mcp/cluster/*' --fail-under=$(FLOOR)

rest: $(DEV)
	$(VENV)/bin/python $(PYTEST) $(addprefix --ignore=,$(MEASURED)) $(ARGS)

test: $(DEV)
ifeq ($(COVERAGE),fast)
	@$(MAKE) --no-print-directory measure
	@$(MAKE) --no-print-directory rest
else ifdef COVERAGE
	$(MEASURE) $(ARGS)
	$(COVERED)
else
	$(VENV)/bin/python $(PYTEST) $(ARGS)
endif

test-random: $(DEV)
	$(VENV)/bin/python $(PYTEST) --random-order --random-order-seed $(SEED) $(ARGS)

lint: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python scripts/check_file_length.py
	$(VENV)/bin/python scripts/generate_docs.py --check

format: $(DEV)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(DEV)
	$(VENV)/bin/python scripts/generate_docs.py

lock:
	@scripts/lock

sbom: $(RUN)
	@scripts/sbom

clean:
	rm -rf .venv .venv-* .cache demo

$(RUN): pyproject.toml constraints.txt scripts/install
	@scripts/install run

$(DEV): pyproject.toml constraints.txt scripts/install
	@scripts/install dev
