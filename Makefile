# The two commands: `make run` and `make test`. The environment is made once, from pinned versions.

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready

.PHONY: run test check bench wheel clean

run: $(READY)
	$(BIN)/codestrata run

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# An hour or more on two cores that have nothing else to do: JSON into benchmarks/results, tables on stdout.
bench: $(BENCH_READY)
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/training.py --losses
	$(BIN)/python benchmarks/decoding.py
	$(BIN)/python benchmarks/swapping.py
	$(BIN)/python benchmarks/scaling.py

wheel: $(READY)
	$(BIN)/python -m build --wheel

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "codestrata needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,mined]"
	# The oracle that tests compare ours with; its pin of an old tree-sitter is why it is installed alone.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps codebleu==0.7.0
	touch $(READY)

$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"
	touch $(BENCH_READY)

clean:
	rm -rf $(VENV) build dist *.egg-info
