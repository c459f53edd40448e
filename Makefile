# Two commands: `make demo` shows what the harness does, `make test` proves that it works.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install fetch demo test lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

fetch: install
	$(BIN)/harness fetch

demo: fetch
	$(BIN)/harness run --methods base,lora,uniform,mixer,mole --tasks sst2,mrpc,arc-e --preset quick

# Two workers with one thread each: most tests are too small to gain from more threads.
test: fetch
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 15

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info
