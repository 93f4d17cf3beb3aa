# leadsight: `make demo` and `make test` are all that is needed; `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
OUT ?= out/demo
PYTEST_ARGS ?=

PY := $(VENV)/bin/python
# The interpreter's own version names the file of versions that it was tested with.
TAG := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
LOCK := $(wildcard constraints/python$(TAG).txt)
PIP := $(PY) -m pip install --quiet --disable-pip-version-check $(addprefix -c ,$(LOCK))

# ROS 2 comes from a sourced installation, else from PyPI wheels (x86-64 only), else not at all.
ifdef ROS_DISTRO
ROS := sourced
VENV_FLAGS := --system-site-packages
else ifeq ($(shell uname -sm),Linux x86_64)
ROS := wheels
else
ROS := none
endif

# Set by the ROS wheels in their own processes; it would send our Python to their libraries.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# A process for each core; then what must keep time, with the cores to itself.
TIMED := tests/ros_nodes tests/llm_edge
define TESTS
$(RUN) $(PY) -m pytest -n logical --maxprocesses 8 --dist loadfile $(TIMED:%=--ignore %) $(PYTEST_ARGS)
$(RUN) $(PY) -m pytest $(TIMED) $(PYTEST_ARGS)
endef

.PHONY: help demo test test-all lint format install install-ros lock bench clean check-python

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

demo: $(VENV)/.core  ## install and run the main job on the embedded world
	$(PY) -m leadsight demo --out $(OUT)

test: $(VENV)/.test install-ros  ## install and run every test, ROS 2 ones included
	$(TESTS)

test-all: $(VENV)/.all install-ros  ## the same with llama.cpp (compiled here), highway-env, SUMO, CARLA's library and torch
	$(TESTS)

lint: $(VENV)/.test  ## ruff and mypy
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(VENV)/.test  ## let ruff format and mend
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

install: $(VENV)/.core  ## only install, into $(VENV)

install-ros: $(VENV)/.test $(VENV)/.ros-$(ROS)  ## rclpy and our messages
	@test $(ROS) = wheels && $(PY) interfaces/build_wheels.py || test $(ROS) != wheels

lock:  ## write constraints/python<version>.txt from a fresh install
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[test,ros]'
	build/lock/bin/python -m pip freeze | grep -E '^[A-Za-z0-9._-]+==' \
		| grep -vE '^(leadsight|(rcl|rosidl|rosgraph|builtin|action|lifecycle|service|sensor|std|geometry|nav|diagnostic|unique|type_description|rmw|rcutils|rpyutils|ament)[a-z_]*)==' \
		> constraints/python$(TAG).txt
	rm -rf build/lock

bench: $(VENV)/.test install-ros  ## every benchmark, each with its table
	@for file in benchmarks/*.py; do echo "== $$file"; \
		$(RUN) $(PY) -m benchmarks.$$(basename $$file .py) || exit 1; done

clean:  ## remove what was made here
	rm -rf $(VENV) build install log out

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "leadsight: $(PYTHON) is missing or not Python 3.10 to 3.13:" \
		"give one with PYTHON=python3.12 (sudo apt install python3 python3-venv)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "leadsight: $(PYTHON) cannot make virtual environments: sudo apt install python3-venv"; exit 2; }
	@test -n "$(LOCK)" || echo "leadsight: not tested with Python $(TAG); versions are not pinned"

$(VENV)/bin/python: | check-python
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)

$(VENV)/.core: $(VENV)/bin/python setup.py pyproject.toml $(LOCK)
	@echo "leadsight: installing into $(VENV) (about a minute the first time)"
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.core
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.all: $(VENV)/.test
	@echo "leadsight: llama.cpp is compiled: 7 to 14 minutes on two cores"
	$(PIP) -e '.[carla,highway,llm,sumo,train]'
	@touch $@

$(VENV)/.ros-wheels: $(VENV)/.core
	@echo "leadsight: installing ROS 2 Jazzy from PyPI wheels"
	$(PIP) -e '.[ros]'
	@touch $@

# Our messages beside the sourced ROS 2; RUN puts them on the paths.
$(VENV)/.ros-sourced: $(VENV)/.core $(wildcard interfaces/*/*.msg interfaces/*/*.srv interfaces/*/*.action interfaces/CMakeLists.txt)
	cmake -S interfaces -B build/interfaces -DCMAKE_INSTALL_PREFIX="$(CURDIR)/install/leadsight_msgs"
	cmake --build build/interfaces --parallel
	cmake --install build/interfaces
	@touch $@
ifeq ($(ROS),sourced)
RUN := . install/leadsight_msgs/share/leadsight_msgs/local_setup.sh &&
endif

$(VENV)/.ros-none: $(VENV)/.core
	@echo "leadsight: no ROS 2 here (source one; PyPI wheels are for x86-64): its tests are skipped"
	@touch $@
