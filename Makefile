# Each of these works by itself on a fresh clone: it makes the environment in .venv if that is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LABELS := cat dog clock plate rocket lighthouse car tree "cup of coffee" "bowl of soup"

.PHONY: demo test test-all check lint format clean

demo: $(VENV)/.demo ## classify the example photographs with the bundled model
	@$(BIN)/zeroshot classify examples/images/*.jpg --labels $(LABELS) --model mini --top-k 3

test: $(VENV)/.test ## all tests
	$(BIN)/python -m pytest

test-all: $(VENV)/.all ## what `make test` leaves out: tests that need extras, and checkpoints of full size
	$(BIN)/python -m pytest tests -m "extra or full_size"

check: lint test ## what a change has to pass: ruff, mypy, tests

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.demo: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a minute or two, once) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@$(PIP) --editable ".[test]"
	@touch $@

$(VENV)/.all: $(VENV)/.test
	@$(PIP) --editable ".[test-all]"
	@$(PIP) --no-deps clip-benchmark # what else it asks for includes torchvision, which its metrics do not need
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@$(PIP) --editable ".[dev]"
	@touch $@
