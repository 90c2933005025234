# make help lists the targets. Everything runs from .venv; nothing is installed outside of it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp

HTTP   ?= 127.0.0.1:8080
BROKER ?= tcp://127.0.0.1:5555
DATA   ?= ./titanic-data

TARGET  ?= broker
SECONDS ?= 60

SOURCES := $(shell find core titanic_store gateway -name '*.py')
COMPILED := build/native/.stamp

# NATIVE=1 with run, test or bench: the compiled build, made anew when a source is newer
ifdef NATIVE
export PYTHONPATH := $(CURDIR)/build/native:$(CURDIR)
export PYTHONSAFEPATH := 1
READY := setup $(COMPILED)
else
READY := setup
endif

.PHONY: help setup native run test check format simulate chaos bench torture crowds fuzz openapi clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## .venv with the pinned requirements and this project; nothing to do when up to date

$(STAMP): requirements.txt pyproject.toml setup.py
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name one with make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

native: setup $(COMPILED) ## compile the busiest modules with mypyc, for NATIVE=1 with run, test and bench; needs a C compiler

$(COMPILED): setup.py pyproject.toml $(SOURCES) | $(STAMP)
	rm -rf build/native
	TITANIC_NATIVE=1 $(BIN)/python setup.py -q build --build-lib build/native
	@touch $@

run: $(READY) ## the server and an echo worker; HTTP=, BROKER= and DATA= say where
	@exec $(BIN)/python -m gateway.cli.demo --http $(HTTP) --broker $(BROKER) --data $(DATA)

JOBS   ?= 2

test: $(READY) ## the whole test suite, by JOBS processes (2)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: setup ## format, lint, types and the rules of the house, in less than a minute
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/tidy

SEED  ?= 1
COUNT ?= 1000

simulate: setup ## histories of a pair under everything that can go wrong; SEED= COUNT=
	$(BIN)/python -m tests.simulation $(SEED) $(COUNT)

KILLS ?= 100

chaos: setup ## kill -9 of a pair's active node under load, KILLS= times (100), with every checker; SEED=
	PAIR_SEED=$(or $(filter-out 1,$(SEED)),0) $(BIN)/python -m tests.chaos --kills $(KILLS)

ORDER_JOBS ?= 100000

order: setup ## that first dispatch follows acceptance: ORDER_JOBS= jobs (100000), eight workers; SEED=
	$(BIN)/python -m tests.order --jobs $(ORDER_JOBS) --seed $(or $(filter-out 1,$(SEED)),0)

format: setup ## write the format that check wants
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## ratios against the limits of this machine
	$(BIN)/python -m bench

torture: setup ## crash the store for MINUTES= (5) from SEED= (random), then kill -9 a node under load
	$(BIN)/python -m tests.torture --seed $(or $(SEED),0) --minutes $(or $(MINUTES),5)

crowds: setup ## 10,000 idle long-polls at one gateway; the suite has a slice of it
	TITANIC_TEST_POLLS=10000 $(BIN)/python -m pytest -q tests/gateway/abuse/test_crowds.py

fuzz: setup ## one parser under atheris: TARGET=broker|readers|worker|titanic|admission|wire, SECONDS=60
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0
	$(BIN)/python -m tests.fuzz.run $(TARGET) $(SECONDS)

openapi: setup ## write openapi/openapi.json and docs/reference/http-problems.md
	$(BIN)/python -m gateway.http.openapi openapi/openapi.json docs/reference/http-problems.md

clean: ## remove what the tools left behind; .venv and titanic-data stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -type d -prune -exec rm -rf {} +
