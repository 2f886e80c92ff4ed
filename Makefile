# `make run` and `make test` need Python >= 3.10, a C++17 compiler and PyPI; they set everything else up in .venv.
#
#   PYTHON=python3.12            the interpreter of the environment
#   TORCH="torch==2.11.0"        another torch (CUDA or CPU); any in the range of pyproject.toml
#   TORCH_INDEX=https://...      the index to take that torch from
#   TRITON36="triton==3.6.0"     the oldest Triton that `make test-triton36` tries
#   FLOWER141="flwr==1.41.0"     the oldest Flower that `make test-flower141` tries
#   BENCH="-k 'step or conv'"    what `make bench` is to pass on to pytest

PYTHON ?= python3
CXX ?= c++
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
TRITON ?= triton==3.9.0
TRITON36 ?= triton==3.6.0
FLOWER141 ?= flwr==1.41.0
BENCH ?=
OLD ?= $(firstword $(RUNS))
NEW ?= $(lastword $(RUNS))
VENV := .venv
TRITON_VENV := .venv-triton36
FLOWER_VENV := .venv-flower141
BIN := $(VENV)/bin
# Neighbours, which share fixtures and imports, stay together until a process has nothing left.
PARALLEL := -n auto --maxprocesses 8 --dist worksteal
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUNS := $(sort $(wildcard bench/results/*/*.json))
CPP := $(wildcard csrc/*.cpp csrc/*.h csrc/cpu/*.cpp csrc/cpu/*.h csrc/cuda/*.cpp csrc/cuda/*.cu csrc/cuda/*.h csrc/tests/*.cpp csrc/tests/*.h)

.DEFAULT_GOAL := help
.PHONY: help setup run test test-triton36 test-flower141 lint docs docs-version dist try-dist format bench bench-smoke bench-compare sanitize clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/built ## the environment and the compiled module, made once

run: setup ## the main job: FedAvg against FedSAM on real digits, with a table and a plot
	$(BIN)/fedfast run examples/quickstart.yaml --fresh

test: setup ## all tests
	$(BIN)/pytest -q $(PARALLEL) tests

test-triton36: $(TRITON_VENV)/built ## the Triton kernels, launched under the oldest Triton
	PYTHONPATH=$(TRITON_VENV) $(BIN)/pytest -q $(PARALLEL) --dist loadfile tests/test_triton_launch.py tests/test_triton_compile.py tests/test_triton_images.py tests/test_kernel_budgets.py

test-flower141: $(FLOWER_VENV)/built ## the Flower integration under the oldest Flower
	PYTHONPATH=$(FLOWER_VENV) $(BIN)/pytest -q $(PARALLEL) tests/test_flower*.py

lint: setup ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/typed && mkdir -p build/typed/fedfast && cd build/typed/fedfast && ln -s ../../../fedfast/*.py ../../../fedfast/*/ ../../../kernels .
	MYPYPATH=build/typed $(BIN)/mypy -p fedfast  # the tree as it is installed, kernels/ as fedfast.kernels
	$(BIN)/clang-format --dry-run -Werror $(CPP)

docs: setup ## docs/algorithms.md and docs/ops.md from the code, then the site in build/site
	$(BIN)/python -m fedfast.report.algorithm_tables > docs/algorithms.md
	$(BIN)/python -m fedfast.kernels.table > docs/ops.md
	$(BIN)/python -m doctest docs/site/docstrings.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet  # strict: a warning is an error
	$(BIN)/python docs/site/check.py build/site

docs-version: docs ## the site as this version's, beside those of earlier ones, on the branch gh-pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mike -q deploy --update-aliases "$$($(BIN)/python -c 'import fedfast; print(fedfast.__version__)')" latest
	$(BIN)/mike -q set-default latest

dist: setup ## sdist and wheel in dist/
	rm -rf dist
	$(PIP) -c constraints.txt build
	$(BIN)/python -m build

try-dist: ## the sdist of dist/ in a bare environment of PYTHON: built, installed, the quickstart run
	rm -rf build/bare && $(PYTHON) -m venv build/bare
	build/bare/bin/pip install --quiet --disable-pip-version-check "$(TORCH)" $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	build/bare/bin/pip install --quiet --disable-pip-version-check dist/*.tar.gz
	mkdir build/bare/empty && cd build/bare/empty && ../bin/fedfast run quickstart

format: setup ## what lint would ask for, done
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

bench: setup ## operations, layers, rounds and algorithms beside torch; a JSON file in bench/results (BENCH=... chooses)
	$(BIN)/pytest -q bench $(BENCH) --benchmark-autosave --benchmark-storage=file://bench/results

bench-smoke: setup ## every benchmark once on the smallest sizes, nothing timed
	$(BIN)/pytest -q $(PARALLEL) bench bench/test_scripts.py --smoke

bench-compare: setup ## what became slower from OLD=... to NEW=... (files of bench/results; the first and the newest)
	$(BIN)/python bench/compare.py $(OLD) $(NEW)

sanitize: ## the C++ backend under ASan+UBSan and TSan
	$(MAKE) -C csrc sanitize CXX=$(CXX)

clean: ## remove the environment and what was built
	rm -rf $(VENV) $(TRITON_VENV) $(FLOWER_VENV) build dist *.egg-info fedfast/_fedfast*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/built: pyproject.toml constraints.txt setup.py $(CPP)
	@command -v $(PYTHON) >/dev/null || { echo "fedfast needs Python >= 3.10 and found no $(PYTHON) (PYTHON=... names another)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "fedfast needs Python >= 3.10; $(PYTHON) is $$($(PYTHON) --version) (PYTHON=... names another)"; exit 1; }
	@command -v $(CXX) >/dev/null || { echo "fedfast compiles a C++17 module and found no $(CXX). Install one: Debian/Ubuntu 'apt-get install g++', Fedora 'dnf install gcc-c++', macOS 'xcode-select --install' (CXX=... names another)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)" $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@$(BIN)/python -c 'import triton' 2>/dev/null || [ "$$(uname -sm)" != "Linux x86_64" ] || $(PIP) "$(TRITON)"
	$(PIP) -c constraints.txt setuptools wheel pybind11
	CXX=$(CXX) $(PIP) -c constraints.txt --no-build-isolation -e ".[test,lint,docs]"
	@touch $@

# The environment of `make setup` with another Triton in front of its own.
$(TRITON_VENV)/built: $(VENV)/built
	@[ "$$(uname -sm)" = "Linux x86_64" ] || { echo "Triton comes for Linux on x86_64; this is $$(uname -sm)"; exit 1; }
	rm -rf $(TRITON_VENV)
	$(PIP) --no-deps --target $(TRITON_VENV) "$(TRITON36)"
	@touch $@

# The same with another Flower.
$(FLOWER_VENV)/built: $(VENV)/built
	rm -rf $(FLOWER_VENV)
	$(PIP) --no-deps --target $(FLOWER_VENV) "$(FLOWER141)"
	@touch $@
