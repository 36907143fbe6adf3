# `make demo` does the main job, `make test` checks everything. Both build .venv first, with plain pip.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# Torch's threads wait at barriers: two test processes of one thread each finish sooner than one of two.
# Test modules with rewritten assertions are kept, whatever the environment says: rewriting takes longer than importing.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install demo test test-fast test-slow check format browser codecs postgres docs clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[pipeline,demo,dev]"
	touch $@

demo: install
	$(BIN)/hfd retrain -c demo

test: install check
	$(TEST_ENV) $(BIN)/pytest --numprocesses 2 --dist loadfile -m "not slow"

# What starts no server, browser, Ray or further process and trains no whole model; a quarter of the generated examples.
test-fast: install
	$(TEST_ENV) $(BIN)/pytest --numprocesses 2 --dist loadfile -m "not slow and not integration" --hypothesis-profile fast

# Runs killed in every step, Ray workers that die, a tracking server that goes away: minutes, on a quiet machine.
test-slow: install
	$(TEST_ENV) $(BIN)/pytest -m slow

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The report's tests drive a real browser; without one they say so and are skipped.
browser:
	apt-get update -qq && apt-get install -y -qq chromium

# The programs of two external codecs, cjxl and opj_compress; without them, their tests say so and are skipped.
codecs:
	apt-get update -qq && apt-get install -y -qq libjxl-tools libopenjp2-tools

# A PostgreSQL server for MLflow; without its programs, the tests with one say so and are skipped.
postgres:
	apt-get update -qq && apt-get install -y -qq postgresql

# The generated pages and diagrams, then the documentation site in site/. Warnings are errors.
docs: install
	for script in command_line settings presets diagrams; do $(BIN)/python docs/generate/$$script.py || exit 1; done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) runs site
