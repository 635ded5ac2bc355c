# `make demo` and `make test` do all the set-up a fresh machine needs, then run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo demo-jelly test test-all lint docs pictures clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[view,taichi,video,test]'
	touch $@

demo: $(STAMP)
	$(BIN)/simengine demo --out out/demo

demo-jelly: $(STAMP)
	$(BIN)/simengine fit identify_jelly --out out/demo-jelly --overwrite

docs: $(VENV)/.docs
	$(BIN)/python docs/site/build.py

pictures: $(STAMP)
	$(BIN)/python docs/site/pictures.py

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[view,taichi,video,test,docs]'
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: lint
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[oracles]'
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=30 --durations-min=5 --cov --cov-report=json:out/coverage.json
	$(BIN)/python tests/coverage_by_package.py out/coverage.json

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
