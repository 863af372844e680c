# make run    set up what is missing, start the cluster, stay in the foreground; Ctrl-C drains and ends it
# make test   format, lint, types and the whole test suite, from a clean clone
#
# Everything lives in .venv. What is installed there is keyed on pyproject.toml, the interpreter and this directory, so
# that a second run installs nothing, needs no network, and notices a moved or changed checkout.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run install dev libopus postgres test lint format bench clean

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --use-pep517
LIBOPUS ?= libopus.so.0
POSTGRES ?= $(wildcard /usr/lib/postgresql/*/bin/postgres) $(shell command -v postgres)
VENV_KEY := $(shell { pwd; $(PYTHON) -VV; } 2>/dev/null | sha256sum | cut -c1-16)
KEY := $(shell { echo $(VENV_KEY); cat pyproject.toml; } | sha256sum | cut -c1-16)
VENV := .venv/python-$(VENV_KEY)
INSTALLED := .venv/installed-$(KEY)
INSTALLED_DEV := .venv/installed-dev-$(KEY)

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# exec: `xiaozhi up` takes the place of the shell, so that a SIGTERM to make reaches it. After Ctrl-C it exits 0; make
# itself has got the same signal from the terminal and reports it ("Interrupt", status 130), whatever the recipe says.
run: install libopus
	@exec $(BIN)/xiaozhi up

install: $(INSTALLED)

dev: $(INSTALLED_DEV)

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1). Choose another: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "This Python cannot make virtual environments. Install what is missing: sudo apt install python3-venv"; exit 1; }
	@echo "creating .venv"
	@$(PYTHON) -m venv --clear .venv
	@touch $@

$(INSTALLED): | $(VENV)
	@echo "installing xiaozhi-cluster into .venv"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(INSTALLED_DEV): | $(VENV)
	@echo "installing xiaozhi-cluster and what its tests need into .venv"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $(INSTALLED) $@

libopus: | $(VENV)
	@if $(BIN)/python -c 'import ctypes; ctypes.CDLL("$(LIBOPUS)")' 2>/dev/null; then exit 0; fi; \
	 if ! command -v apt-get >/dev/null; then echo "libopus is missing: install it with your package manager"; exit 1; fi; \
	 if [ "$$(id -u)" = 0 ]; then as_root=""; \
	 elif sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	 else echo "libopus is missing. Install it, then try again: sudo apt install libopus0"; exit 1; fi; \
	 echo "installing libopus0"; \
	 $$as_root apt-get install -y -qq libopus0 >/dev/null 2>&1 || \
	   { $$as_root apt-get update -qq && $$as_root apt-get install -y -qq libopus0 >/dev/null; }

# The programs alone: the tests start a server of their own. Debian's package would make one that starts with the machine.
# Without them `make test` goes on, and says which tests it has left out.
postgres:
	@if [ -n "$(strip $(POSTGRES))" ]; then exit 0; fi; \
	 without="PostgreSQL is missing, so its tests are left out."; \
	 if ! command -v apt-get >/dev/null; then echo "$$without Install it with your package manager to run them"; exit 0; fi; \
	 if [ "$$(id -u)" = 0 ]; then as_root=""; \
	 elif sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	 else echo "$$without To run them: sudo apt install postgresql"; exit 0; fi; \
	 echo "installing postgresql, without a server that runs"; \
	 get() { $$as_root apt-get install -y -qq --no-install-recommends "$$@" >/dev/null 2>&1; }; \
	 { get postgresql-common || { $$as_root apt-get update -qq && get postgresql-common; }; } && \
	 $$as_root sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf && \
	 get postgresql || echo "$$without It could not be installed"

# Four test processes: most of what takes long waits for real time, not for the processor. A file stays in one of them,
# as its tests share a cluster.
test: lint libopus postgres
	@$(BIN)/pytest -n 4 --dist loadfile

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: install
	@echo "Start the cluster in one terminal (make run), then in another:"
	@echo "  $(BIN)/python -m bench.fleet --help"
	@echo "docs/performance.md has the commands behind every number."

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
