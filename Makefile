# make demo: set up, then the main job on real samples, ending with an adapter and reports.
# make test: set up, then lint, types, layers and all tests but those marked slow.
# make slow: those: the README's commands, several processes, a Ray cluster, killed runs.
# make bench-train: side by side with other trainers (slow).
# make bench-peers, bench-growth: side by side with other trainers' preparation; how cost grows.
# make fuzz: the property tests again and again, with examples that were never tried.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= demo
JOBS   ?= 2
ROUNDS ?= 10
TESTS  := tests/e2e tests/train tests/dataprep tests/diagnose tests/reports
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: setup demo test slow fuzz lint docs bench-peers bench-growth bench-train clean

setup: $(VENV)/.ready

# torch comes first and pinned: what needs it would otherwise bring gigabytes of CUDA libraries.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[train,gx,semantic,ray,dev]'
	touch $@

demo: setup
	@PATH="$(abspath $(BIN)):$$PATH" bash demo.sh $(DEMO)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not slow" $(TESTS)

# The longest test comes first, so that it does not run alone in the end.
slow: setup
	$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m slow $(TESTS)

# New random examples for the property tests, ROUNDS times over.
fuzz: setup
	for round in $$(seq $(ROUNDS)); do \
	  $(BIN)/pytest -n $(JOBS) -q --hypothesis-profile=fuzz -m hypothesis || exit 1; \
	done

bench-peers: setup
	bash bench/peers.sh
	$(BIN)/python bench/compare.py --repeats 3

bench-train: setup
	bash bench/peers.sh
	$(BIN)/python bench/train.py --checkpointing

bench-growth: setup
	$(BIN)/python bench/growth.py

docs: setup
	$(BIN)/python docs/make_rules.py
	$(BIN)/python docs/make_settings.py

clean:
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
