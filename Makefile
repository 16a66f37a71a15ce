# The two commands of the README, and what people and CI run. `make` alone lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-fast lint audit format drill bench secrets images clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Without it each start of Python imports setuptools' finder: slower than all the rest, and Ctrl-C shows a traceback there.
AS_A_PATH := --config-settings editable_mode=compat

install: $(READY)  ## make .venv with everything, client and worker
	@echo 'ftq is in .venv/bin. Type: export PATH=$$PWD/.venv/bin:$$PATH'

$(READY): $(wildcard requirements/*.txt) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ftq needs Python 3.11 or newer, and $(PYTHON) isn't: make install PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || \
	  { echo "libgomp is missing, for llama.cpp: apt-get install libgomp1"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Downloading and unpacking some GB into .venv, once: that takes minutes, and nothing is shown meanwhile."
	$(BIN)/python -m pip install --quiet -r requirements/worker.txt -r requirements/serve.txt -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/unsloth.txt
	$(BIN)/python -m pip install --quiet --no-deps $(AS_A_PATH) --editable .
	touch $(READY)

demo: $(READY)  ## train a real model on documents/ and ask it, here, in minutes
	$(BIN)/python -m ftq.start worker.host.demo

# Tests wait for other processes for a third of their time: one more runs at once than there are processors, at most five.
TESTS := -n $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1))) --maxprocesses 5

test: $(READY)  ## eleven minutes of tests: each stage, a run end to end, real servers
	$(BIN)/python -m pytest -m "not long" $(TESTS)

test-all: test  ## these, and the long ones: browser, TLS, PostgreSQL, Inductor, ranks, drill, images
	$(BIN)/python -m pytest -m long $(TESTS)

test-fast: $(READY)  ## the tests that need no model and no server
	$(BIN)/python -m pytest -m "not slow and not long" $(TESTS)

lint: $(READY)  ## ruff, mypy, import-linter; the Dockerfiles, the compose file, Kubernetes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile.gpu Dockerfile.cli
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(BIN)/kubernetes-validate --strict --quiet --no-warn deploy/kubernetes/*.yaml

audit: $(READY)  ## known vulnerabilities of everything that is installed
	$(BIN)/python .ci/audit.py

format: $(READY)  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

drill: $(READY)  ## a hundred random faults on real workers and a real broker
	$(BIN)/python -m benchmarks.drill

bench: $(READY)  ## the client's and the queue's times, side by side with bare Python
	$(BIN)/python -m benchmarks.client

secrets:  ## what docker compose needs: .env, passwords in secrets/, the folders of the containers
	images/secrets.sh

images:  ## build ftq-cli and ftq-worker (by Docker, or by buildah as root) and try them with a small run
	images/build.sh
	images/try.sh

clean:  ## remove the environment; artifacts stay
	rm -rf .venv
