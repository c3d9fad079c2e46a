# Two commands do all the set-up on a bare machine with Python 3.11 and make:
#   make demo    the main job, end to end
#   make test    every test
# `make` alone tells the other targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cksum < requirements.lock | cut -d' ' -f1)

.PHONY: help demo examples test check lint unit faults fault-table chaos soak fuzz format lock bench bench-quick clean

help:
	@echo "make TARGET, where TARGET is one of:"
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP)  ## the main job, end to end; a gateway is killed on the way
	@$(BIN)/tailrace demo

examples: $(STAMP)  ## start each application of examples/ that has a story, and print a verdict
	@for story in examples/*/story.py; do $(BIN)/python -m examples.$$(basename $$(dirname $$story)).story || exit 1; done

# Four at a time, a file at a time: most tests wait more than they work.
test: $(STAMP) lint  ## format, lint, types, layers and every test
	$(BIN)/pytest -n 4 --dist loadfile

check: $(STAMP) lint unit  ## format, lint, types, layers and unit tests: before every commit

lint: $(STAMP)  ## format, lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(STAMP)  ## unit tests
	$(BIN)/pytest tests/unit -q -n 2

faults: $(STAMP)  ## tests that kill, cut, pause and flush
	$(BIN)/pytest tests/faults

fault-table: $(STAMP)  ## each fault on each shape of Redis under executions and viewers, a row each (an hour)
	$(BIN)/python -m tests.fault_table

chaos: $(STAMP)  ## Redis, gateways and workers die, freeze and leave at random under 300 viewers
	$(BIN)/python -m tests.chaos

soak: $(STAMP)  ## what 10,000 viewers of each kind leave behind, and what a flood of each kind does to others
	$(BIN)/python -m tests.soak viewers
	$(BIN)/python -m tests.soak floods

FUZZ_ROUNDS ?= 10
fuzz: $(STAMP)  ## property tests, FUZZ_ROUNDS times over, with new examples each time
	for round in $$(seq $(FUZZ_ROUNDS)); do $(BIN)/pytest -q -n 2 -m hypothesis tests/unit tests/contract || exit 1; done

format: $(STAMP)  ## format the code, and cure what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Exact versions with hashes of everything, build tools included; and of what the image has.
lock: $(STAMP)  ## requirements.lock anew, after pyproject.toml has changed
	$(BIN)/pip install -q uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --group dev --all-extras pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    -c requirements.lock pyproject.toml -o deploy/requirements.lock
	echo hatchling | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --no-header -c requirements.lock - -o deploy/build.lock

bench: $(STAMP)  ## every measurement, with a table and plots in bench/results
	$(BIN)/python -m bench

bench-quick: $(STAMP)  ## the same in short
	$(BIN)/python -m bench --quick

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Tailrace needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || { echo "creating $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "installing locked requirements into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-* && touch $@

clean:  ## remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
