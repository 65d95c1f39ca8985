# The commands of this project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build demo test bench convert-env

help:           ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:          ## packages, pinned wheels and headers (idempotent)
	@scripts/bootstrap.sh

build: setup    ## build/bin/vmm and the Python package in build/python
	@cmake --preset release >/dev/null && cmake --build --preset release
