# Two commands: `make demo` and `make test`. Everything they need they set up themselves.
SHELL := /bin/bash
.DELETE_ON_ERROR:
PY ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
export UV_PYTHON_DOWNLOADS := never
V := .venv
UV := $(or $(shell command -v uv),.boot/bin/uv)
RUN := $(V)/bin/python -m
PORT ?= 8000
WORKSPACE ?= var/demo
LOCK := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: demo test lint types contracts docs-check check bench lock format clean

demo: $(V)/.core
	@$(V)/bin/bihuan demo --workspace $(WORKSPACE) --port $(PORT) $(if $(HEADLESS),--headless)

test: $(V)/.dev
	$(RUN) pytest -n auto --dist worksteal $(PYTEST_ARGS)

bench: $(V)/.bench
	@test -n "$(NAME)" || { echo "Say which: make bench NAME=ingest|derive|audience|allocation|decisions|deploy|kills|serve [SIZE=n] [INSTANCE=dir] [OUT=dir]"; exit 2; }
	@$(V)/bin/python -m bench $(NAME) $(if $(SIZE),--size $(SIZE)) $(if $(INSTANCE),--instance $(INSTANCE)) $(if $(OUT),--out $(OUT))

lint: $(V)/.dev
	$(V)/bin/ruff check .
	$(V)/bin/ruff format --check .

types: $(V)/.dev
	$(V)/bin/mypy

contracts: $(V)/.dev
	$(V)/bin/lint-imports --no-cache

docs-check: $(V)/.dev
	$(V)/bin/python tools/docs_check.py

check: lint types contracts docs-check test

format: $(V)/.dev
	$(V)/bin/ruff check --fix .
	$(V)/bin/ruff format .

.boot/bin/uv:
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo 'Bihuan needs Python 3.11 or later; say which with  make PY=/path/to/python3.11'; exit 1; }
	@$(PY) -c 'import ensurepip' 2>/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >/dev/null; } || { echo 'Python lacks ensurepip: run  sudo apt-get install python3-venv'; exit 1; }
	$(PY) -m venv .boot
	.boot/bin/pip install -q --disable-pip-version-check uv==$(UV_VERSION)

# LightGBM needs the OpenMP run-time, which a bare Debian lacks and no wheel brings.
$(V)/.openmp:
	@mkdir -p $(V)
	@ldconfig -p 2>/dev/null | grep -q libgomp.so.1 || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends libgomp1 >/dev/null; } || { echo 'LightGBM needs the OpenMP run-time: run  sudo apt-get install libgomp1'; exit 1; }
	@touch $@

$(V)/bin/python: $(filter .boot/bin/uv,$(UV))
	$(UV) venv -q --allow-existing --python $(PY) $(V)

$(V)/.core: requirements.lock pyproject.toml | $(V)/bin/python $(V)/.openmp
	@echo "Setting up Bihuan (once; about a minute) ..."
	$(UV) pip install -q --require-hashes --python $(V)/bin/python -r requirements.lock
	$(UV) pip install -q --no-deps --python $(V)/bin/python -e .
	touch $@

$(V)/.dev: requirements-dev.lock requirements.lock pyproject.toml | $(V)/bin/python $(V)/.openmp
	@echo "Setting up the test tools (once; about a minute) ..."
	$(UV) pip sync -q --require-hashes --python $(V)/bin/python requirements-dev.lock
	$(UV) pip install -q --no-deps --python $(V)/bin/python -e .
	touch $(V)/.core $@

# What a user would pick instead, to be measured beside; no test and no command of ours needs it.
$(V)/.bench: requirements-bench.lock $(V)/.dev
	$(UV) pip install -q --require-hashes --python $(V)/bin/python -r requirements-bench.lock
	touch $@

lock: $(filter .boot/bin/uv,$(UV))
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	$(LOCK) --group bench -c requirements.lock pyproject.toml -o requirements-bench.lock

clean:
	rm -rf $(V) .boot var
