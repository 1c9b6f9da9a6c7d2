# The two commands that matter are `make demo` and `make test`; each makes its own .venv and is fast when run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint types contract unit docs dist wheel-check clean

# What is installed depends on these two files only; a stamp a set says that it is.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[demo]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,peers]'
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/polytask demo

test: lint types contract unit

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

contract: $(VENV)/.dev
	$(BIN)/lint-imports

# One thread per process: the tests run on as many processes as there are cores.
unit: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal

# The site, without the network; any warning is an error. Open docs/_build/html/index.html.
docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -n -q -b html docs docs/_build/html

# Wheel and source distribution in dist/.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build

# The wheel in an environment that has nothing else: imported, asked, trained, its types seen. Some minutes.
wheel-check: dist
	$(BIN)/python tests/architecture/wheel.py dist

clean:
	rm -rf $(VENV) build dist docs/_build .mypy_cache .ruff_cache .import_linter_cache
