# Each of these works by itself on a fresh clone: it makes the environment in .venv if that is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
LABELS := cat dog clock plate rocket lighthouse car tree "cup of coffee" "bowl of soup"
# What is known to depend on versions: every library that is not ours is called in one of them.
VERSION_TESTS := $(addprefix tests/test_, image tokenizer tokenizer_file weights hub head classifier stream sources \
	formats embeddings jobs probe baselines robustness labelled labelled_images nets layouts mini registry public)

.PHONY: help demo test test-all test-minimum check lint format docs package clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.demo ## classify the example photographs with the bundled model
	@$(BIN)/zeroshot classify examples/images/*.jpg --labels $(LABELS) --model mini --top-k 3

test: $(VENV)/.test ## all tests
	$(BIN)/python -m pytest

test-all: $(VENV)/.all ## what `make test` leaves out: tests that need extras, and checkpoints of full size
	$(BIN)/python -m pytest tests -m "extra or full_size"

test-minimum: $(VENV)-minimum/.done ## what depends on versions, with the lowest of each: gigabytes, with CUDA libraries
	$(VENV)-minimum/bin/python -m pytest -W default $(addsuffix .py, $(VERSION_TESTS))

check: lint test ## what a change has to pass: ruff, mypy, tests

lint: $(VENV)/.dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs ## README, guides and the reference as pages, in build/docs
	$(BIN)/python -m sphinx -q -W --keep-going -c examples/guides -d build/doctrees . build/docs

package: $(VENV)/.dev ## wheel and sdist in dist/, the same bytes whenever and wherever it is called
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m build --outdir dist .

clean: ## remove what these make: environments, packages, caches
	rm -rf $(VENV) $(VENV)-minimum build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

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
	@$(PIP) --no-deps gradio # and the rest that it asks for, but for a Pillow that is older than the pinned one
	@$(BIN)/python -c "from importlib.metadata import requires; \
		print(*(r for r in requires('gradio') if 'extra ==' not in r and not r.startswith('pillow')), sep='\n')" > $@
	@$(PIP) --requirement $@
	@$(PIP) --no-deps clip-benchmark # what else it asks for includes torchvision, which its metrics do not need
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	@$(PIP) --editable ".[dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.demo
	@$(PIP) --editable ".[docs]"
	@touch $@

# The extras and not `test`, which asks for the newest of the peers that ours is compared with.
$(VENV)-minimum/.done: pyproject.toml .ci/minimum.txt
	@test -x $(VENV)-minimum/bin/python || $(PYTHON) -m venv $(VENV)-minimum
	@$(VENV)-minimum/bin/python -m pip install --quiet --disable-pip-version-check --constraint .ci/minimum.txt \
		--editable ".[datasets,pandas,parquet,plot,probe,ray,timm,tokenizers,transformers]" pytest hypothesis protobuf
	@touch $@
