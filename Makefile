# `make demo` and `make test` need python3 (3.11 or later), python3-venv and make; the rest they fetch.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
PACKAGES := shim agent server
MANIFESTS := $(PACKAGES:%=%/pyproject.toml)
# Programs that the tests use where they find them: `make deps` gets them.
DEBIAN_PACKAGES := acl btrfs-progs chromium fish fonts-dejavu-core fuse3 gcc git golang-go iproute2 libc6-dev lintian man-db mandoc mmdebstrap nftables nodejs \
	openssl patchelf prometheus prometheus-blackbox-exporter prometheus-node-exporter rpm rustc strace sysstat systemd systemd-container zsh

# Tests wait more than they compute.
TEST_JOBS ?= $(shell expr $$(nproc) + 1)

.DELETE_ON_ERROR:
.PHONY: bench booted chaos check clean demo deploy-check deps dist docs format gpu-check help integrations lock packages peers test ui

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMPS)/installed ui  ## server, agent and a training; DEMO_EXIT=1 verifies and exits
	@$(BIN)/python -m demo $(if $(filter 1,$(DEMO_EXIT)),--exit)

test: $(STAMPS)/dev ui  ## run the tests; at the end, what this machine lacks for some
	@$(BIN)/python -m pytest --numprocesses=$(TEST_JOBS) --dist=worksteal $(PYTEST_ARGS)

chaos: $(STAMPS)/dev ui  ## hundreds of real faults, then account for every record; CHAOS_ARGS="--seed N" replays
	@$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

check: $(STAMPS)/dev  ## lint and check types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python server/hatch_build.py check

format: $(STAMPS)/dev  ## format the code and sort imports
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

ui: $(STAMPS)/runtime  ## build the web UI into the server package
	@$(BIN)/python server/hatch_build.py build

# watch.py needs torch, which is where `make integrations` puts it.
bench: $(STAMPS)/dev ui .venv-peers/.stamp .venv-integrations/.stamp  ## run the benchmarks one after another; bench/results keeps the figures
	@for script in $$(grep -l '^if __name__' bench/*.py | grep -v gpu_check); do \
		python=$(BIN)/python; [ $$script != bench/watch.py ] || python=.venv-integrations/bin/python; \
		echo "== $$script"; PYTHONPATH=shim/src $$python -m bench.$$(basename $$script .py) || exit 1; done

# Needs neither the web UI nor the test tools: a bare machine with a GPU, python3 and pip is enough.
gpu-check: $(STAMPS)/runtime  ## compare GPU metrics with nvidia-smi on a machine with an NVIDIA GPU
	@PYTHONPATH=shim/src:agent/src $(BIN)/python -m bench.gpu_check $(GPU_CHECK_ARGS)

# UV_FIND_LINKS names the directory or page where uv finds torch's builds for CPUs.
lock: $(STAMPS)/dev  ## pin the requirements anew
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-package tracker-shim $(MANIFESTS) requirements/runtime.in -o requirements/runtime.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/dev.in -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/peers.in -o requirements/peers.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/docs.in -o requirements/docs.txt
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/deploy.in -o requirements/deploy.txt
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/integrations.in -o requirements/integrations.txt
	for part in agent server; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --no-emit-package tracker-shim -c requirements/runtime.txt shim/pyproject.toml $$part/pyproject.toml \
		-o requirements/$$part.txt || exit 1; done
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/packaging.in -o requirements/packaging.txt

# Needs root, and mmdebstrap once for each release. RELEASES=bookworm builds that alone; PACKAGE_VERSION=0.1.1 gives the
# packages another version than pyproject.toml does.
packages: .venv-packaging/.stamp  ## build .deb and .rpm into dist/packages (as root); RELEASES=bookworm, PACKAGE_VERSION=…
	@.venv-packaging/bin/python packaging/make_packages.py $(RELEASES:%=--release %) $(PACKAGE_VERSION:%=--version %)

dist: .venv-packaging/.stamp  ## build wheels and source distributions into dist
	@.venv-packaging/bin/python packaging/make_distributions.py

.venv-packaging/.stamp: requirements/packaging.txt
	@echo "== installing the pinned tools that make packages"
	$(PYTHON) -m venv --clear .venv-packaging
	.venv-packaging/bin/python -m pip --disable-pip-version-check --no-input install --quiet --require-hashes -r $<
	@touch $@

# Apart from the rest, since this installs a module named wandb. pip must know where torch's builds for CPUs are.
integrations: $(STAMPS)/installed ui .venv-integrations/.stamp  ## train with libraries that log to wandb by themselves
	@TEST_SERVICES_PYTHON=$(abspath $(BIN)/python) .venv-integrations/bin/python -m pytest --numprocesses=$$(nproc) \
		--dist=worksteal $(or $(INTEGRATIONS_ARGS),tests/integrations)

.venv-integrations/.stamp: requirements/integrations.txt shim/pyproject.toml shim-wandb/pyproject.toml \
		shim-wandb/wheel_with_wandb.py shim-wandb/src/wandb/_version.py
	@echo "== installing the pinned libraries that log to wandb by themselves"
	$(PYTHON) -m venv --clear .venv-integrations
	.venv-integrations/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-compile \
		--require-hashes -r $<
	.venv-integrations/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps \
		--no-build-isolation -e ./shim -e ./shim-wandb
	@touch $@

docs: .venv-docs/.stamp  ## build the documentation into dist/site; a dead link or anchor fails
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

.venv-docs/.stamp: requirements/docs.txt
	$(PYTHON) -m venv --clear .venv-docs
	.venv-docs/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-compile --require-hashes -r $<
	@touch $@

# Apart, since what checks deploy/ is larger than all the rest.
deploy-check: $(STAMPS)/installed ui .venv-deploy/.stamp  ## check what deploy/ holds with the tools that it is for
	@TEST_SERVICES_PYTHON=$(abspath $(BIN)/python) .venv-deploy/bin/python -m pytest --numprocesses=$$(nproc) \
		--dist=loadfile $(or $(DEPLOY_ARGS),tests/deploy)

# uv: half a gigabyte of small files in two seconds, where pip takes fifteen.
.venv-deploy/.stamp: requirements/deploy.txt | $(STAMPS)/dev
	@echo "== installing the pinned tools that check deploy/"
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-deploy
	$(BIN)/uv pip install --quiet --python .venv-deploy/bin/python --require-hashes -r $<
	@touch $@

# Apart, too: wandb's client, and a stand-in for it, cannot be installed side by side.
peers: .venv-peers/.stamp  ## get tensorboardX and wandb, which bench/log_call.py compares log() with

.venv-peers/.stamp: requirements/peers.txt
	$(PYTHON) -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check --no-input install --quiet --require-hashes -r $<
	@touch $@

# Needs root. The packages of this checkout are built before, by `make packages`.
booted: $(STAMPS)/dev  ## install, run and break the packages on machines booted with systemd (as root)
	@$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile $(or $(BOOTED_ARGS),tests/packages/built tests/booted)

deps:  ## install from apt what some tests need (as root, or through sudo)
	@missing=$$(for package in $(DEBIAN_PACKAGES); do \
	    [ "$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || echo $$package; done); \
	if [ -z "$$missing" ]; then echo "deps: nothing is missing"; exit 0; fi; \
	echo "deps: installing" $$missing; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing

clean:  ## remove everything that the targets above made
	rm -rf $(VENV) .venv-deploy .venv-docs .venv-integrations .venv-packaging .venv-peers dist .demo .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis ui/node_modules ui/dist \
		server/src/tracker_server/web/static
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Tracker needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime: requirements/runtime.txt | $(STAMPS)/venv
	@echo "== installing the pinned requirements (downloads 150 MB; a minute at most)"
	@$(PIP) install --quiet --no-compile --require-hashes -r $<
	@touch $@

# The server's build hook would build the UI too; done first, one can watch it.
$(STAMPS)/installed: $(STAMPS)/runtime $(MANIFESTS) server/hatch_build.py | ui
	@echo "== installing tracker itself"
	@$(PIP) install --quiet --no-deps --no-build-isolation $(PACKAGES:%=-e ./%)
	@touch $@

$(STAMPS)/dev: requirements/dev.txt | $(STAMPS)/installed
	@echo "== installing the pinned test and lint tools"
	@$(PIP) install --quiet --no-compile --require-hashes -r $<
	@touch $@
