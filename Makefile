# Two commands do everything on a machine with nothing but Python and make.
#   make demo   set up .venv, then the main job on an embedded dataset
#   make test   set up .venv, then linters, types, contracts and the test suite
#   make test-long   400 flipped bytes in every file that is written, a kill at every change of the disk
#   make test-adapters   the examples for other libraries, in environments of their own; minutes
#   make fuzz MINUTES=60   every reader for so long, with bytes that are nearly a dataset; Linux, Python 3.11 on
# And for those who change the trainer:
#   make bench    measure it beside eager torch, JAX and its matrix products, and filters beside a bare copy;
#                 rewrites docs/performance.md and docs/scaling.md
#   make quality DATA=folder   the board of docs/quality.md: policies learned from what scores choose; minutes
#                 on a GPU, many hours on CPUs, resumable
#   make docs     build the documentation site: open site/index.html

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long test-adapters fuzz check bench quality docs clean

demo: $(VENV)/installed
	$(BIN)/vaco-curate demo --if-exists replace

test: check
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

test-long: $(VENV)/installed-dev
	$(BIN)/pytest tests/reliability tests/test_engines.py --flips 400 --kills 1000

test-adapters: $(VENV)/installed-dev
	$(BIN)/python tests/adapters/table.py

MINUTES ?= 60

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris
	$(BIN)/python tests/reliability/fuzz.py findings --minutes $(MINUTES)

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed-bench
	$(BIN)/python benchmarks/speed/bench.py
	$(BIN)/python benchmarks/scale.py

quality: $(VENV)/installed-dev
	$(BIN)/python benchmarks/quality $(DATA)

docs: $(VENV)/installed-docs
	$(BIN)/python docs/generate build/docs
	$(BIN)/zensical build --config-file mkdocs.yml --clean --strict
	@echo "open site/index.html; to search it, too: $(BIN)/python -m http.server -d site"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "vaco-curate needs Python 3.11 or later; say which: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/installed

$(VENV)/installed-bench: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) demo build site
