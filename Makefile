# Two commands: `make demo` shows what the harness does, `make test` proves that it works.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests start a hundred processes: where bytecode is not written, each of them compiles all modules again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: install fetch demo test quick coverage mutation lint docs clean

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
	$(BIN)/harness run --preset demo --workers 2 --output results/runs/demo
	$(BIN)/harness compare results/runs/demo --against mixer --metric gold_logprob

# One thread each: most tests are too small to gain from more. Three workers on two cores: many wait for sandboxes, servers
# and other processes. In the order of the folders: files with many tests first would leave those that wait to the end.
test: fetch
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 15

# Rules, arithmetic and tables: no model, no data, no program of the distribution, no whole run, no conformance of variants,
# no simulations, pictures, pages or whole catalogue.
QUICK := tests/test_arrows.py tests/test_documents.py tests/results tests/reports tests/methods/routing \
	tests/methods/merging tests/tasks/judge/test_parse.py tests/tasks/judge/test_rubric.py tests/harness/test_config.py \
	tests/harness/test_progress.py
SLOW := families plots page catalogue claims labels

quick: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet --numprocesses 2 --dist loadfile \
		-m "not model and not assets and not system" -k "not variants_conform" \
		$(SLOW:%=--ignore tests/reports/test_%.py) --ignore tests/results/test_reference.py $(QUICK)

# Lines that the suite runs, over all processes it starts: a table of the files with lines left over, and the total.
coverage: fetch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[strength]'
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest --quiet
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --show-missing

# Mutants that the suite kills, of a sample of 400 in each of three areas; `python -m tests.mutation` alone tries all.
mutation: install
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[strength]'
	$(BIN)/python -m tests.mutation --sample 400 --seed 1 --workers 2

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The documents and the Python reference as a site; a broken link or an unknown name is an error.
docs: install
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/site/packages.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build *.egg-info
