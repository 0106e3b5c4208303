# make demo    plays the shipped recording through the node and scores it
# make test    lint, types, layers and the whole test suite, in an environment of its own
# make soak    an hour of three cameras and faults at random
# make help    the rest

SHELL := /bin/bash
PIP_QUIET := --quiet --disable-pip-version-check

# The newest Python of these that really starts; a version manager's shim may stand for nothing.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.10 python3; do \
	"$$p" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null && echo "$$p" && break; done)
DEMO_ARGS ?=
TEST_ARGS ?=
SOAK_MINUTES ?= 60
SOAK_SEED ?=
SOAK_ARGS ?=

.PHONY: help demo test lint soak rooms-env clean

help:
	@echo "make demo       play the shipped recording through the node over DDS and score it (out/demo)"
	@echo "make test       lint, types, layers and all tests; TEST_ARGS='-k node' passes options to pytest"
	@echo "make lint       lint, types and layers alone"
	@echo "make soak       an hour of three cameras and faults at random (out/soak/report.md); SOAK_MINUTES=10 SOAK_SEED=7"
	@echo "make rooms-env  environment of the generator of rendered rooms (.venv-rooms, Python 3.11)"
	@echo "make clean      remove what these made"

demo: .venv/.installed
	.venv/bin/seg_perception demo --out out/demo $(DEMO_ARGS)

test: lint
	.venv-test/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(TEST_ARGS)

lint: .venv-test/.installed
	.venv-test/bin/ruff check .
	.venv-test/bin/mypy
	.venv-test/bin/lint-imports --no-cache

soak: .venv-test/.installed
	.venv-test/bin/python -m test.soak --minutes $(SOAK_MINUTES) $(if $(SOAK_SEED),--seed $(SOAK_SEED)) --out out/soak $(SOAK_ARGS)

# No torch here: what a robot installs, with ROS 2 from wheels in place of a ROS installation.
.venv/.installed: setup.py constraints.txt
	$(call make_environment,.venv,ros$(comma)onnxruntime$(comma)openvino$(comma)video)

.venv-test/.installed: setup.py constraints.txt
	$(call make_environment,.venv-test,ros$(comma)onnxruntime$(comma)openvino$(comma)video$(comma)view$(comma)train$(comma)test)
	PIP_CONSTRAINT=constraints.txt .venv-test/bin/pip install $(PIP_QUIET) --no-deps tensorrt-stubs

comma := ,
define make_environment
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10, 3.11 or 3.12 found; install one, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(1) with $$($(PYTHON) --version); the first time takes a minute or more"
	"$(PYTHON)" -m venv $(1)
	PIP_CONSTRAINT=constraints.txt $(1)/bin/pip install $(PIP_QUIET) --editable '.[$(2)]'
	@touch $@
endef

rooms-env:
	python3.11 -m venv .venv-rooms
	.venv-rooms/bin/pip install $(PIP_QUIET) --no-deps -r seg_models/data/rooms/requirements.txt

clean:
	rm -rf .venv .venv-test .venv-rooms out build install log *.egg-info
