# make demo: set everything up and show it. make test: set everything up and check it.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: demo test test-slow chaos fuzz soak results lint pair clean

demo: $(VENV)/.demo
	./mosquitto/install
	$(BIN)/python -m evaluation.demo

test: lint
	./mosquitto/install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev
	./mosquitto/install
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# workers, broker and links die at random while agents generate; the texts must not change
chaos: $(VENV)/.demo
	./mosquitto/install
	$(BIN)/python -m benchmarks.chaos

# a million hostile messages against a live worker; the texts of a device that behaves must not change
fuzz: $(VENV)/.demo
	./mosquitto/install
	$(BIN)/python -m benchmarks.fuzz

# twenty minutes of load with faults; memory, open files and tasks must stay flat
soak: $(VENV)/.demo
	./mosquitto/install
	$(BIN)/python -m benchmarks.soak

# all pages under docs/results, in an order in which each has what it needs (most of an hour on two cores)
results: $(VENV)/.dev
	./mosquitto/install
	$(BIN)/python -m evaluation calibrate --page docs/results
	$(BIN)/python -m evaluation quality --page docs/results
	$(BIN)/python -m evaluation risk
	$(BIN)/python -m evaluation bytes
	$(BIN)/python -m evaluation simulate pages
	$(BIN)/python -m benchmarks.simulation_check
	$(BIN)/python -m benchmarks.fleet_inputs
	$(BIN)/python -m evaluation fleet --report
	$(BIN)/python -m benchmarks.fleet_check --write

# train the demo pair anew (an hour on two cores)
pair: $(VENV)/.dev
	$(BIN)/python -m evaluation.demo_pair

$(VENV)/.demo: pyproject.toml | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable '.[edge,cloud]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.demo

# before everything else, so that nothing asks for a build of torch with gigabytes of CUDA
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "This needs Python 3.11 or newer with venv (Debian: apt-get install python3-venv); or set PYTHON=..."; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis
