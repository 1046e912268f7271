# Two commands: `make demo` and `make test`. Both set the environment up first, if need be.

# Which OpenMMLab: the maintained builds, or (make test STACK=openmmlab) the original packages, which get an
# environment of their own; their torch has no build for Python 3.12.
STACK := onedl
ifeq ($(STACK),openmmlab)
VENV := .venv-openmmlab
PYTHONS := 3.11 3.10
SUITABLE := 3.10 or 3.11
else
VENV := .venv
PYTHONS := 3.12 3.11 3.10
SUITABLE := 3.10, 3.11 or 3.12
endif
BIN := $(VENV)/bin

# The first interpreter of a version that suits; that of an existing environment comes first, so that one
# chosen once (make setup PYTHON=python3.12) is kept. Looked up only when a target asks for it.
PYTHON ?= $(shell for p in $(BIN)/python python3 $(PYTHONS:%=python%); do \
	"$$p" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in "$(PYTHONS)".split())' \
	>/dev/null 2>&1 && echo "$$p" && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-docker docs lint format clean clean-venv

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | column -t -s @ 2>/dev/null \
	|| sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 - \2/p' $(MAKEFILE_LIST)

setup:  ## make .venv with everything in it, pinned (nothing to do when it is complete)
	@python='$(PYTHON)'; if [ -z "$$python" ]; then \
	echo 'error: no Python $(SUITABLE) found: install one, or name it: make setup PYTHON=/path/to/python$(firstword $(PYTHONS))' >&2; \
	exit 1; fi; "$$python" tools/setup_env.py --stack $(STACK)

demo: setup  ## train and test a nano DWNet on the mini dataset, all three tasks (ARGS=... is passed on)
	$(BIN)/python tools/demo.py $(ARGS)

# a file of tests stays in one process, for what its tests share is made once; each process runs on one thread, and
# there is one more than cores, for some tests wait for processes that they start
WORKERS = $(BIN)/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))'
test: setup  ## run the test suite (ARGS=... is passed on to pytest; STACK=openmmlab: on the original packages)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$($(WORKERS)) --dist loadfile -m 'not slow and not docker' $(ARGS)

test-slow: setup  ## run the tests that take minutes each
	OMP_NUM_THREADS=2 $(BIN)/python -m pytest -m slow $(ARGS)

test-docker: setup  ## build the container and run its demo in it (root, Debian's buildah and debootstrap, 30 GB)
	$(BIN)/python -m pytest -s -m docker tests/test_docker_image.py $(ARGS)

docs: setup  ## build the documentation into site/; a warning or a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: setup  ## check style with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## repair style with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove caches and build leftovers (never data, work_dirs or .venv)
	rm -rf build dist site *.egg-info .pytest_cache .ruff_cache
	find configs mmdwnet tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

clean-venv:  ## remove .venv, or that of STACK= (the built mmcv wheel stays in the cache of the account)
	rm -rf $(VENV) .setup.log .setup.lock
