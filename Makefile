# `make up` runs Homeport, `make test` tests it, `make` lists the rest.
# What is installed is what the lock files name, checked by hash, into .venv; nothing outside this folder is changed
# but the cache of scripts/test-setup.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

python := .venv/bin/python
pytest := $(python) -m pytest
pip_install := $(python) -m pip --disable-pip-version-check install --quiet
pip_compile := CUSTOM_COMPILE_COMMAND="make lock" $(python) -m piptools compile --quiet --no-config --strip-extras \
	--allow-unsafe --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.PHONY: help
help: ## list these
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

.PHONY: up
up: .venv/runtime ## run Homeport here, in the foreground: a registry on 127.0.0.1:5000, data in ./homeport-data
	@exec .venv/bin/homeport up

.PHONY: test
test: .venv/development ## get the programs that the tests need, and run them
	scripts/test-setup buildkit engine helm oras regsync
	$(pytest)

.PHONY: check
check: .venv/development ## what is quick: linter, formatter, types, architecture, completeness of the documents
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	$(pytest) -q tests/test_architecture.py tests/test_docs.py

.PHONY: fix
fix: .venv/development ## let the linter and the formatter mend what they can
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

.PHONY: long
long: .venv/development ## the tests that take minutes: vaults, swarms, kills, verbs far away
	scripts/test-setup bw
	$(pytest) -m long

.PHONY: conformance
conformance: .venv/development ## the OCI conformance program, versions 1.1 and dev, with and without login
	scripts/test-setup conformance
	$(pytest) -m conformance

.PHONY: crash
crash: .venv/development ## kill the server under load again and again; nothing that was answered may be lost
	$(pytest) -m crash

.PHONY: simulate
simulate: .venv/development ## pushes, sweeps, crashes and power cuts on fresh seeds; STEPS=1000000 for more
	$(python) -m tests.simulation --steps $(or $(STEPS),100000)

SECONDS := 300
.PHONY: soak
soak: .venv/development ## everything at once on servers that are killed, with graces of a second; SECONDS=300
	SOAK_SECONDS=$(SECONDS) $(pytest) -m soak

.PHONY: bench
bench: .venv/development ## the same work here and on distribution, side by side; ARGS=--quick for a look
	scripts/test-setup registry3 regsync
	$(python) -m bench $(ARGS)

.PHONY: docs
docs: .venv/development ## write the generated reference pages anew
	$(python) scripts/generate_docs.py

.PHONY: lock
lock: .venv/development ## resolve the dependencies anew, into the lock files
	$(pip_compile) --upgrade --build-deps-for=editable --extra chat --output-file requirements.lock pyproject.toml
	$(pip_compile) --upgrade --build-deps-for=editable --extra dev --constraint requirements.lock \
		--output-file requirements-dev.lock pyproject.toml

.PHONY: clean
clean: ## remove what was installed and built here; never ./homeport-data
	rm -rf .venv build dist results src/*.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The build backend is in the lock too, so nothing is fetched in a build of its own.
.venv/runtime: requirements.lock pyproject.toml
	@scripts/venv
	@echo "Installing Homeport into .venv"
	@$(pip_install) --require-hashes --requirement requirements.lock
	@$(pip_install) --no-deps --no-build-isolation --editable .
	@$(python) -m compileall -q src/homeport  # as of every other package: without it, each start compiles it anew
	@touch $@

.venv/development: requirements-dev.lock .venv/runtime
	@echo "Installing what its development needs"
	@$(pip_install) --require-hashes --requirement requirements-dev.lock
	@touch $@
