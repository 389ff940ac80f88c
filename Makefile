# The verbs of this project; each is a line that can be typed by hand in the activated environment.
#   make run              install, then the default study: images -> runs -> figures -> reports/
#   make test             install, then the tests
#   make test-thorough    the few that run whole programs once more, which make test leaves out
# Variables: PYTHON (3.11 or newer), VENV, CORES (those of the machine, up to 4), TEST_PROCESSES, PIP_OPTIONS, and TORCH_INDEX, the address of a package index with the torch build wanted.

VENV ?= .venv
CORES ?= $(shell n=$$(nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1); echo $$(( n < 4 ? n : 4 )))
TEST_PROCESSES ?= 3
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX ?=
PIP_OPTIONS ?=
REMOTE ?=
PRESET ?=

export PATH := $(abspath $(VENV))/bin:$(PATH)
# Jobs and tests start many processes: without compiled modules each would compile its packages anew.
unexport PYTHONDONTWRITEBYTECODE
# No tool reports its use to anyone.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= 1
export DVC_NO_ANALYTICS ?= 1
export ITERATIVE_DO_NOT_TRACK ?= 1

.DEFAULT_GOAL := help
.PHONY: help install run smoke test test-thorough lint format report docs readme release keep record pull ui constraints clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -4

install: $(VENV)/installed

# Again only when the list of packages changed. Code needs no second installation: it is used from here.
# --no-compile: Python compiles what it imports when it does; compiling all 200 packages at once takes minutes.
$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; found none. Say which: make PYTHON=/path/to/python3.12"; exit 1; }
	test -x $(VENV)/bin/pip || $(PYTHON) workflow/scripts/make_venv.py $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-compile $(PIP_OPTIONS) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt -e ".[dev]"
	@touch $@

run: install
	snakemake --cores $(CORES)

smoke: install
	snakemake --cores $(CORES) --config preset=smoke

# A file's tests stay in one process, which keeps their fixtures, and so do those of a few folders; files begin in the order of
# tests/conftest.py, which names both. One thread each, since the processes fill the cores. One more than two, since they wait for programs,
# and for what another makes for all.
test: install
	OMP_NUM_THREADS=1 python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# The few that run whole programs once more, some minutes beside the others.
test-thorough: install
	LGMAMBA_THOROUGH=1 OMP_NUM_THREADS=1 python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m thorough

lint: install
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	codespell
	mypy
	snakemake --lint

format: install
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# Snakemake's own report, beside reports/: every figure, rule and run time in one file.
report: install
	snakemake --report report.html

# The documentation site, site/index.html: strict, so that a page, link or anchor that is missing ends it.
docs: $(VENV)/docs-installed
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict

$(VENV)/docs-installed: $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet --no-compile $(PIP_OPTIONS) -c constraints.txt -e ".[docs]"
	@touch $@

# The blocks of README and docs about studies: from the default study's frames, and from those kept of the others.
readme: install
	python -m lgmamba report --study results/queried_digits/config/study.json --frames results/queried_digits/frames \
	  --figures reports/queried_digits/figures --out reports/queried_digits --readme README.md
	for it in omniglot:README read_outs:docs/claims cifar10:docs/cifar10 cifar10_controls:README cifar10_controls:docs/cifar10 cifar10_repairs:docs/cifar10 cifar10_remedies:docs/cifar10 mixers_digits:docs/mixers mixers_second:docs/mixers \
	    mixers_omniglot:docs/mixers mixers_cifar10:docs/mixers transformer_omniglot:docs/paper omniglot_repairs:docs/paper; do \
	  kept=reports/$${it%:*}; python -m lgmamba report --study $$kept/frames/study.json --frames $$kept/frames \
	    --figures $$kept/figures --out $$kept --readme $${it#*:}.md || exit 1; done
	for page in README docs/other_tasks; do python -m lgmamba matrix --page $$page.md || exit 1; done
	python docs/build/objections.py

# Weights of the default study with a card for each run, and its frames with metadata, as one file, for whom training them is too long.
release: install
	python -m lgmamba pack --study results/queried_digits/config/study.json --results results/queried_digits \
	  --data data/queried_digits --out queried_digits-checkpoints.tar.gz

# What figures and report of a study read, copied beside its report for git: make keep PRESET=cifar10. Afterwards
# `snakemake --cores 4 --config preset=cifar10 frames=kept` makes both again in any clone, without runs, GPU or images.
keep: install
	snakemake --cores $(CORES) $(if $(PRESET),--config preset=$(PRESET)) -- keep_frames

# After a plain `snakemake`: DVC takes note of what is there.
record: install
	dvc commit --force

# Results made elsewhere; their records say what they were made from, so Snakemake knows which are current.
pull: install
	dvc pull $(if $(REMOTE),--remote $(REMOTE))
	python -m lgmamba show --write --commands > /dev/null
	dvc status --quiet || { dvc status; echo "Results and configuration differ: run dvc repro."; exit 1; }

ui: install
	@echo "Runs by study: http://127.0.0.1:5000/#/experiments?workflowType=machine_learning"
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --backend-store-uri sqlite:///mlflow/mlflow.db

constraints: install
	{ sed '/^[^#]/,$$d' constraints.txt; uv pip compile --python-version 3.11 --extra dev --extra docs --no-annotate --no-header \
	  --constraint constraints.txt pyproject.toml | sed 's/+cpu$$//'; } > constraints.new && mv constraints.new constraints.txt

clean:
	rm -rf data results .snakemake dvc_plots report.html
