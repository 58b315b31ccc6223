# What people and CI run. Every target sets up what it needs in .venv, in this folder and nowhere else.
# The recipes that need more than a line are in scripts/.

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs clean

RUN := .venv/.installed-run
DEV := .venv/.installed-dev

help:
	@echo "make demo     a video, an image and its caption, in demo/; then how to connect a client"
	@echo "make test     all tests; ARGS='-k words' chooses some"
	@echo "make lint     what is checked without running: style, types, import order, file lengths, generated docs"
	@echo "make format   set the style right"
	@echo "make docs     write every generated part of the documentation"
	@echo "make clean    remove .venv, .cache and demo"

demo: $(RUN)
	@scripts/demo

test: $(DEV)
	.venv/bin/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadgroup \
		--no-loadscope-reorder $(ARGS)

lint: $(DEV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python scripts/check_file_length.py
	.venv/bin/python scripts/generate_docs.py --check

format: $(DEV)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: $(DEV)
	.venv/bin/python scripts/generate_docs.py

clean:
	rm -rf .venv .cache demo

$(RUN): pyproject.toml constraints.txt scripts/install
	@scripts/install run

$(DEV): pyproject.toml constraints.txt scripts/install
	@scripts/install dev
