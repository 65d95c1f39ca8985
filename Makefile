# The commands of this project; `make help` lists them. `make demo` and `make test` do everything on a fresh Debian 12 or Ubuntu 24.04.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup configure build demo test test-quick lint format node-tests fuzz fuzz-short soak coverage asan tsan bench convert-env cuda-env install clean

VENV := $(or $(AI_VMM_ENV),$(CURDIR)/.venv)
PYTHON := $(VENV)/bin/python
CMAKE_ARGS := -DAI_VMM_ENV=$(VENV)
export PYTHONPATH := $(CURDIR)/build/python

help:           ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:          ## packages, pinned wheels and headers; does nothing where they are there
	@scripts/bootstrap.sh

configure: setup
	@cmake --preset release $(CMAKE_ARGS) >build-configure.log 2>&1 || { cat build-configure.log; exit 1; }
	@rm -f build-configure.log

build: configure ## build/bin/vmm and the Python package in build/python
	@cmake --build --preset release

demo: build     ## deploy the bundled models: predictions, plans, speed beside the native engines
	@$(PYTHON) scripts/demo.py

test: setup     ## everything CI checks
	@scripts/cuda_env.sh --optional
	@$(MAKE) --no-print-directory build
	@scripts/test.sh

test-quick: build ## unit, conformance and Python tests only
	@scripts/test.sh quick

lint: configure ## layering, formatting and clang-tidy
	@scripts/lint.sh

format:         ## clang-format every source file
	@git ls-files '*.cpp' '*.hpp' | xargs clang-format -i

node-tests: build ## ONNX node tests through deploy(), against the committed list
	@$(PYTHON) tests/node/run_node_tests.py

fuzz-short: setup ## every fuzz target for a minute
	@scripts/fuzz.sh 60

fuzz: setup     ## every fuzz target for FUZZ_SECONDS (default 900)
	@scripts/fuzz.sh $(or $(FUZZ_SECONDS),900)

soak: build     ## 10,000 deploy/undeploy cycles and an hour of traffic
	@$(PYTHON) bench/soak.py

asan: setup     ## the C++ suites under address and undefined-behaviour sanitizers
	@cmake --preset asan $(CMAKE_ARGS) >/dev/null && cmake --build --preset asan && ctest --preset asan

tsan: setup     ## the C++ suites under the thread sanitizer
	@cmake --preset tsan $(CMAKE_ARGS) >/dev/null && cmake --build --preset tsan && ctest --preset tsan

coverage: setup ## line coverage of the C++ suites, as text and in coverage/
	@scripts/coverage.sh

bench: build    ## the benchmarks whose figures the documents give; writes bench/results/
	@$(PYTHON) bench/run.py
	@$(PYTHON) bench/read.py

convert-env:    ## the optional environment that converts PyTorch and Hugging Face models (says its size first)
	@scripts/convert_env.sh $(CONVERT_ARGS)

cuda-env:       ## CUDA headers and NVRTC, to build and test the CUDA backend without a GPU (says its size first)
	@scripts/cuda_env.sh $(CUDA_ARGS)

install: build  ## into PREFIX (default /usr/local)
	@cmake --install build --prefix $(or $(PREFIX),/usr/local)

clean:          ## remove the build trees
	@rm -rf build build-dev build-asan build-tsan build-coverage build-cuda build-fuzz
