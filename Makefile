# What a user and CI run; `make repro` and `make test` are the two commands of the README.
#
# The environment in .venv is known by the text of its lock, not by dates: it is made anew when the
# lock or the Python changes, completed when a tool is missing, and otherwise left alone.

PYTHON ?= python3
PYTHON_PATH := $(shell command -v $(PYTHON) 2>/dev/null)
PYTHON_IS := $(shell { $(PYTHON) -V; } 2>/dev/null)
key = $(shell { cat $(1); echo "$(PYTHON_IS)"; } | cksum | cut -d ' ' -f 1)

LOCKED := .venv/.locked-$(call key,requirements/lock.txt)
PROJECT := .venv/.project-$(call key,pyproject.toml)
TOOLS := .venv/.tools-$(call key,requirements/lock-test.txt)
DOCS := .venv/.docs-$(call key,requirements/lock-docs.txt)
PIP := .venv/bin/python -m pip
FETCHING := .dvc/tmp/fetching-data

# The stages run `python`, which has to be the one of .venv. Nothing calls home.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help environment fetched repro test check bench docs lock clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@echo "make repro   install, fetch the bundled data, run the pipeline to report/index.html"
	@echo "make test    install, run all tests"
	@echo "make check   lint, format, types, import contracts"
	@echo "make bench   print the measured figures: difficulty of the data, speed"
	@echo "make docs    build the documentation into site/"
	@echo "make lock    resolve pyproject.toml into requirements/lock*.txt"
	@echo "make clean   remove the environment, caches and results (never data or the model history)"

$(LOCKED):
	@test -n "$(PYTHON_PATH)" && "$(PYTHON_PATH)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "make: $(PYTHON) is missing or too old: Python 3.11 or newer is needed; name one with make PYTHON=python3.12" >&2; exit 4; }
	@echo "installing requirements/lock.txt into .venv: some minutes, most of them for PyTorch"
	@"$(PYTHON_PATH)" -m venv --clear .venv
	@$(PIP) install -q -r requirements/lock.txt
	@touch $@

$(PROJECT): | $(LOCKED)
	@$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(TOOLS): | $(LOCKED)
	@$(PIP) install -q -r requirements/lock-test.txt
	@touch $@

$(DOCS): | $(LOCKED)
	@$(PIP) install -q -r requirements/lock-docs.txt
	@touch $@

environment: $(PROJECT)

# Fetches only what is absent: a set that you have changed is yours. The mark tells a fetch that was
# cut short from a set with fewer files. A set that is not the bundled one comes from your own remote.
fetched: | environment
	@if [ ! -e data ] || [ -e $(FETCHING) ]; then \
	  mkdir -p $(dir $(FETCHING)) && touch $(FETCHING) \
	  && { dvc pull -r bundled data.dvc || { test -n "$$(dvc config core.remote)" && dvc pull data.dvc; }; } \
	  && rm $(FETCHING); \
	fi

repro: fetched
	@dvc repro
	@echo "the report: report/index.html"

test: environment $(TOOLS)
	@python -m pytest

check: environment $(TOOLS)
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports

bench: environment
	@for file in benchmarks/*.py; do echo "== $$file"; python "$$file" || exit 1; done

docs: environment $(DOCS)
	@NO_MKDOCS_2_WARNING=1 mkdocs build -q --strict

lock: environment
	@python requirements/make_lock.py

clean:
	rm -rf .venv site dvc_plots report results prepared split models defectops.egg-info \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find defectops pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
