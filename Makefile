# Everything runs in .venv, which is made anew only when the requirements change. Needs Python 3.11+ and a package index.
PYTHON ?= python3
# Versions to install; empty for the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints-dev.txt
BIN := .venv/bin
STAMP := .venv/.complete
# The networks are small: on busy cores, threads that wait for each other cost more than they give.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help env demo test test-crash lint notebooks tutorials docs dist clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-11s %s\n", $$1, $$2}' Makefile

env: $(STAMP) ## make the environment in .venv

demo: $(STAMP) ## run `chipvi demo`
	$(BIN)/chipvi demo

test: $(STAMP) ## run all tests; ARGS="-k name" picks some
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-crash: $(STAMP) ## kill commands at random times and look at what is left; CASES=100 SEED=0
	CHIPVI_CRASH_CASES=$(or $(CASES),100) CHIPVI_CRASH_SEED=$(or $(SEED),0) $(BIN)/python -m pytest -n 0 tests/crash/test_signals.py $(ARGS)

lint: $(STAMP) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

notebooks: $(STAMP) ## run the tutorials from top to bottom
	$(BIN)/python .ci/notebooks.py

tutorials: $(STAMP) ## run the tutorials and keep what they print and draw in them
	$(BIN)/python .ci/notebooks.py --keep

docs: $(STAMP) ## build the site, without network, in build/site
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs -d build/doctrees . build/site

dist: $(STAMP) ## build wheel and sdist in dist, and try each in an empty environment
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python .ci/release.py --try

clean: ## remove caches, builds and what the demo wrote
	rm -rf build dist docs/site/generated chipvi-demo .mypy_cache .pytest_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environment too
	rm -rf .venv

# torch goes first: the packages that need it would otherwise take whatever release is newest.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("chipvi needs Python 3.11 or newer, $(PYTHON) is %d.%d; try: make PYTHON=python3.11" % v[:2])'
	@echo "Installing into .venv: some minutes the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(addprefix -c ,$(CONSTRAINTS)) torch
	$(BIN)/python -m pip install --quiet $(addprefix -c ,$(CONSTRAINTS)) -e '.[dev,docs]'
	@touch $@
