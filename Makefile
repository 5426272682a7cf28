# Needs Python 3.11 or later, pip and make: everything else is installed into $(VENV) from requirements.lock.
PYTHON ?= python3
VENV ?= .venv
# Test processes that run at the same time.
WORKERS ?= 2
# The benchmark has an environment of its own, since nothing else needs PyTorch; its release is fixed, as figures are.
BENCH_VENV ?= .venv-bench
TORCH ?= torch==2.13.0
SCALE ?= cpu

# The pure core: losses, budgets, rounding, blind views (and the key's folder, in the same file), transforms, layers.
CORE := $(addprefix tests/test_,authorized.py budget.py losses_*.py networks_convolution.py networks_layers.py \
  rounding.py transforms*.py)
# What another release of Python, and so of jax, may change beside the core: commands, steps, trainings, files.
SAMPLE := $(CORE) $(addprefix tests/test_,cli*.py compiled_steps.py compiler.py data_tfds.py evaluation_trial.py \
  packaging.py parallel.py protect.py readme.py training.py)

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.ugejax-installed
TOOLS := $(VENV)-tools/.ugejax-installed

.PHONY: help demo check test sample lint types docs bench lock
help:
	@echo "make demo   protect digits in photographs, train both sides and report (results in runs/demo)"
	@echo "make check  rules, types of what changed, the pure core and one small run: a minute and a half, while you work"
	@echo "make test   run the whole test suite"
	@echo "make sample run a part of it: the core, the commands and what else depends on the releases of Python and jax"
	@echo "make lint   ruff: rules and layout"
	@echo "make types  pyright"
	@echo "make docs   build the documentation's site into build/site"
	@echo "make bench  time the compiled steps beside PyTorch (results in runs/bench); SCALE=accelerator elsewhere than on a CPU"
	@echo "make lock   renew the lock files from pyproject.toml"
	@echo "Each installs what it needs into $(VENV) first; VENV=... and PYTHON=... choose another place and interpreter."

demo: $(INSTALLED)
	@echo "[demo] Protecting digits in photographs and training the authorized network and the hackers on the release"
	@$(BIN)/ugejax demo

test: $(INSTALLED)
	@echo "[test] Running the whole test suite in $(WORKERS) processes"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 15

sample: $(INSTALLED)
	@echo "[sample] Running a part of the test suite in $(WORKERS) processes"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 15 $(SAMPLE)

check: lint
	@changed=$$(git diff --name-only --diff-filter=d HEAD -- 'ugejax/*.py' 'experiments/*.py'; \
	  git ls-files --others --exclude-standard -- 'ugejax/*.py' 'experiments/*.py'); \
	if [ -n "$$changed" ]; then \
	  echo "[check] Checking the types of what changed since the last commit with pyright"; \
	  $(BIN)/pyright --pythonpath $(BIN)/python $$changed; \
	fi
	@echo "[check] Running the tests of the pure core and one protection from end to end"
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(CORE) tests/test_cli.py::test_release_and_key \
	  tests/test_cli.py::test_evaluate_and_report

lint: $(INSTALLED)
	@echo "[lint] Checking rules and layout with ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED)
	@echo "[types] Checking types with pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(TOOLS)
	@echo "[docs] Building the site into build/site"
	@NO_MKDOCS_2_WARNING=1 $(VENV)-tools/bin/mkdocs build --quiet

bench: $(BENCH_VENV)/.ugejax-bench-installed
	@echo "[bench] Timing the compiled steps beside the same steps in PyTorch"
	@$(BENCH_VENV)/bin/python -m experiments.bench --scale $(SCALE)

# The stamp is written last, so that an interrupted installation is taken up again.
$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "ugejax needs Python 3.11 or later, and '$(PYTHON)' is not one: say which to use, as in 'make PYTHON=python3.12 ...'" >&2; \
	  exit 2; }
	@echo "[setup] Making a virtual environment in $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@echo "[setup] Installing the locked packages (requirements.lock; a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "[setup] Installing ugejax itself"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH_VENV)/.ugejax-bench-installed: pyproject.toml requirements.lock
	@$(MAKE) --no-print-directory VENV=$(BENCH_VENV) $(BENCH_VENV)/.ugejax-installed
	@echo "[setup] Installing PyTorch ($(TORCH))"
	@$(BENCH_VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation -e '.[bench]' '$(TORCH)'
	@touch $@

# What builds the site and checks the archives reads the sources and needs none of their dependencies.
$(TOOLS): requirements-tools.lock
	@echo "[setup] Installing the locked tools into $(VENV)-tools"
	@$(PYTHON) -m venv $(VENV)-tools
	@$(VENV)-tools/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-tools.lock
	@touch $@

# One lock for every supported Python: markers choose the newest jax that each of them can have.
LOCKING := pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  --no-annotate
lock:
	@echo "[lock] Resolving the dependencies of ugejax[test] and those of the tools"
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	$(PYTHON) -m venv "$$folder" && \
	"$$folder/bin/python" -m pip install -qq --disable-pip-version-check uv && \
	"$$folder/bin/uv" $(LOCKING) --extra test pyproject.toml -o requirements.lock && \
	"$$folder/bin/uv" $(LOCKING) --group tools -o requirements-tools.lock
