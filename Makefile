# Everything runs in .venv, which the first target that needs it creates.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PROFILE ?= jetson-nano
# Interpreters of the JetPack lines: 3.8 (JetPack 4 and 5), 3.10 (6), 3.12 (7). Missing ones are named.
RUNTIMES ?= 3.8 3.10 3.12

.PHONY: venv demo test check format test-runtimes clean

venv: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "make: found $$($(PYTHON) --version 2>&1) as $(PYTHON); expected Python 3.10 or newer (3.11 is tested); run: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0 --editable '.[compress,tensorboard,emulate,check,dev]'
	@touch $@

demo: .venv/.ready
	$(BIN)/compress --profile $(PROFILE)
	$(BIN)/edge run runs/ssdlite-person-$(PROFILE)/bundle --profile $(PROFILE) \
		--source "$$($(BIN)/python -m compress.assets scene)" --frames 200 \
		--sink video:runs/ssdlite-person-$(PROFILE)/annotated.mp4 --sink jsonl:runs/ssdlite-person-$(PROFILE)/detections.jsonl

test: .venv/.ready
	$(BIN)/python -m pytest

check: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The three packages that run on a board, on each interpreter a board has.
test-runtimes:
	@for version in $(RUNTIMES); do sh tests/house/runtime.sh $$version || exit 1; done

clean:
	rm -rf .venv .venv-* runs .pytest_cache .mypy_cache .ruff_cache
