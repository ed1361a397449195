# Python >= 3.11 and make are all that a fresh machine needs. Each target sets up what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PINS := requirements/uv.txt requirements/dev.txt pyproject.toml client/pyproject.toml
# Without bytecode every process compiles torch and the rest anew, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run demo test test-slow test-registry fuzz stack-test chaos lint fix bench start-bench isolation \
        teaching gpu soak sbom audit-pins docs proto lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Start Fovea on 127.0.0.1:8000, whole
	@exec $(BIN)/fovea up

demo: $(READY) ## The main job from start to end, in a folder of its own
	@exec $(BIN)/fovea demo

# A file's tests stay together: they share a Redis, a gateway, a trained model. 0 is this process alone: many tests
# use two cores themselves, and on two of them two processes are in each other's way.
PROCESSES ?= 0
test: $(READY) lint ## Every check that CI runs; PROCESSES=4 where there are more than two cores
	@$(BIN)/pytest --numprocesses $(PROCESSES) --dist loadfile

test-slow: $(READY) ## The tests that take minutes
	@$(BIN)/pytest -m slow

test-registry: $(READY) ## The whole zoo, every architecture exported and proven, its first fifteen explained; most of an hour on two cores
	@$(BIN)/pytest -m 'slow or registry' tests/models/zoo tests/models/explanation

lint: $(READY) ## Formatting, style, types, arrows between the rooms; changes nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fix: $(READY) ## Mend formatting and style where a tool can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# How many made-up requests to a call; make test-slow sends 15.
EXAMPLES ?= 400
fuzz: $(READY) ## Made-up requests and files, for half an hour; EXAMPLES=15 for less
	@FOVEA_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -m 'slow or not slow' -s tests/fuzz

stack-test: $(READY) ## Build the images and drive the compose project in a Docker engine of its own
	@PYTHONPATH=. $(BIN)/python tests/stack/run.py

chaos: $(READY) ## Faults of every kind under load, by a printed seed; SEEDS=20 MINUTES=5 for long
	@PYTHONPATH=.:tests $(BIN)/python -m chaos.run --seeds $(or $(SEEDS),1) --minutes $(or $(MINUTES),0.8) \
	  $(if $(SEED),--seed $(SEED)) $(if $(JSON),--json $(JSON))

bench: $(READY) ## Measure against this machine's limit; PEERS=all installs and drives the peers too, JSON=FILE
	@$(BIN)/python -m benchmarks.run $(if $(PEERS),--peers $(PEERS)) $(if $(JSON),--json $(JSON))

start-bench: $(READY) ## Measure how long a start takes, and what each process holds in memory
	@$(BIN)/python -m benchmarks.start

isolation: $(READY) ## Measure how bulk work beside them slows interactive images
	@$(BIN)/python -m benchmarks.isolation

teaching: $(READY) ## Measure how long ants and bees take to be taught; wants FOVEA_TEST_DATA
	@$(BIN)/python -m benchmarks.teaching

gpu: $(READY) ## Measure what Fovea makes of a GPU; says so where there is none
	@$(BIN)/python -m benchmarks.gpu $(if $(JSON),--json $(JSON))

soak: $(READY) ## Half an hour of mixed load: what grows, what is left; MINUTES=5 for less
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30)

sbom: $(READY) ## What is in each image, as CycloneDX, into dist/sbom
	@$(BIN)/python -m supply.sbom dist/sbom

audit-pins: $(READY) ## Known vulnerabilities among the pins; FOVEA_OSV_DB=FILE for a copy of OSV's database
	@$(BIN)/python -m supply.audit

docs: $(READY) ## Write the generated tables of the documentation anew
	@PYTHONPATH=. $(BIN)/python docs/generate.py
	@$(BIN)/python -m models.zoo.catalogue --write

proto: $(READY) ## Write the gRPC messages of the Open Inference Protocol anew
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. service/protocol/open_inference.proto

lock: $(READY) ## Compile the hash-pinned requirement files; UPGRADE=--upgrade for newer releases
	@for role in dev gateway inference-cpu inference-cuda training debug; do \
	  $(BIN)/uv pip compile pyproject.toml --extra $$role --extra client --extra s3 --extra tracing -o requirements/$$role.txt --universal $(UPGRADE) \
	    --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet || exit 1; \
	done
	@for file in benchmarks/peers/*/requirements.in; do \
	  $(BIN)/uv pip compile $$file -o $${file%.in}.txt --universal $(UPGRADE) --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet || exit 1; \
	done

clean: ## Remove everything that set-up and tools made (never the data folder)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Compiled here, for otherwise the first start of each process does it, and every one where Python may not write.
# Names no index: the user's own pip and uv settings decide where packages come from.
$(READY): $(PINS)
	@echo "Setting up $(VENV) (once; several GB, a few minutes) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Fovea needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another with PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements/dev.txt requirements/uv.txt
	@VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable . --editable ./client
	@touch $@
	@echo "Ready."
