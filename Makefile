# The only commands anyone types. Each one installs what it needs into .venv, if that is missing or out of date.
export PYTHONSAFEPATH := 1
PYTHON ?= $(firstword $(foreach minor,11 12 13 14,$(shell command -v python3.$(minor))) python3)
READY := .venv/.ready
DEV_READY := .venv/.dev-ready
UV = VIRTUAL_ENV=.venv .venv/bin/uv pip
COMPILE = MACOSX_DEPLOYMENT_TARGET=14.0 $(UV) compile --quiet --no-header --no-annotate pyproject.toml
EXTRAS = hub,onnx,slurm,train
PLATFORMS = x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin windows
# The build of torch at set-up: make TORCH=cpu, TORCH=cuda, or auto: for this machine's GPU, or for none. The first
# machine of a cluster may lack what others have. Where only PyPI answers, which has one build, a machine without a
# GPU leaves out what that needs on a GPU only.
ifneq ($(origin TORCH),command line)
TORCH := auto
endif
ifeq ($(filter auto cpu cuda,$(TORCH)),)
$(error TORCH=$(TORCH): expected auto, cpu or cuda)
endif
AUTO = [ "$$UV_TORCH_BACKEND" ] || { [ $(TORCH) = auto ] && command -v sbatch >/dev/null; }
BUILD = $$(if [ $(TORCH) = cuda ] || $(AUTO); then :; \
  elif echo torch | UV_HTTP_RETRIES=0 $(UV) compile --quiet --no-deps --torch-backend=$(TORCH) - >/dev/null 2>&1; \
  then echo --torch-backend=$(TORCH); \
  elif [ $(TORCH) = cpu ] || ! command -v nvidia-smi >/dev/null; then echo --excludes=without-gpu.txt; fi)
# $(call install,EXTRAS)
install = $(UV) install --quiet --compile-bytecode --constraints=constraints.txt $(BUILD) --editable '.[$(1)]'
# A .venv is made anew if its Python is gone, or if the clone was moved or copied; two paths of one folder are one
USABLE = .venv/bin/python -c '' 2>/dev/null && { ! [ -e $(READY) ] || [ "$$(cat $(READY))" -ef . ]; }
RUN := .venv/bin/transferbench
define LINE_END


endef
export LINE_END
# $(call given,SETTING,VARIABLE): setting=value, as one word of the shell, whatever the value holds
given = $(if $(value $(2)),'$(1)=$(subst $(LINE_END),'"$$LINE_END"',$(subst ','\'',$(value $(2))))')
PLACE = $(call given,seeds,SEEDS) $(call given,on,ON) $(call given,cluster,CLUSTER) $(call given,results,RESULTS) $(ARGS)
SPEC = $(call given,target,TARGET) $(call given,source,SOURCE) $(call given,methods,METHODS) $(PLACE)
.DEFAULT_GOAL := help
.PHONY: bench paper test torture slurm-test check speed gpu-check speed-report report data docs pins clean help

bench: $(READY)  ## compare the methods: make bench [TARGET= SOURCE= METHODS= SEEDS= RESULTS= ARGS=]
	@$(RUN) bench $(SPEC)

paper: $(READY)  ## the paper's tables and figures, on the paper's images [SEEDS= RESULTS= ARGS=]
	@$(RUN) suite paper $(PLACE)

test: $(DEV_READY)  ## run the tests (no network, CPU)
	@OMP_NUM_THREADS=1 .venv/bin/pytest --numprocesses=auto --dist=worksteal $(ARGS)

torture: $(DEV_READY)  ## faults at full length, in about half an hour; goes on where it was stopped; then the table
	@OMP_NUM_THREADS=1 .venv/bin/pytest tests/torture --torture=torture.jsonl $(ARGS)
	@.venv/bin/python tests/torture/table.py torture.jsonl docs/explanation/reliability.md

slurm-test: $(DEV_READY)  ## run the tests on a real SLURM, which is started here (root, Debian; a quarter of an hour)
	@TRANSFERBENCH_SLURM_TESTS=1 OMP_NUM_THREADS=1 .venv/bin/pytest -rs tests/slurm $(ARGS)

check: $(DEV_READY)  ## lint, spelling, directions of imports, types
	@.venv/bin/ruff check .
	@.venv/bin/codespell
	@.venv/bin/ruff format --check .
	@mkdir -p .mypy_cache/tree && ln -sfn ../.. .mypy_cache/tree/transferbench
	@cd .mypy_cache/tree && ../../.venv/bin/mypy --config-file ../../pyproject.toml
	@OMP_NUM_THREADS=1 .venv/bin/pytest tests/test_imports.py tests/test_language.py

speed: $(DEV_READY)  ## what a step costs, beside torch's and timm's loops and the floor of the arithmetic
	@mkdir -p results
	@OMP_NUM_THREADS=1 .venv/bin/pytest benchmarks/speed -o python_files='bench_*.py' -o python_functions='bench_*' \
	  --benchmark-only --benchmark-columns=median,iqr,rounds --benchmark-json=results/speed.json $(ARGS)
	@.venv/bin/python -m transferbench.analysis.speed results/speed.json

gpu-check: $(DEV_READY)  ## what only a real GPU can tell, in ten minutes; a second call goes on
	@OMP_NUM_THREADS=1 .venv/bin/python -m transferbench.benchmarks.speed.gpu_check

speed-report: speed report  ## the same, and the report page with its table

report: $(READY)  ## tables, figures and one HTML page from the results
	@$(RUN) report $(call given,results,RESULTS) $(ARGS)

data: $(READY)  ## the data sets that are known, and where they are
	@$(RUN) data list $(ARGS)

docs: $(DEV_READY)  ## build the documentation into docs/_build/html; a warning or a broken link is an error
	@.venv/bin/sphinx-build -b html -W -n -E -q --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:  ## remove .venv, caches and figures; results stay
	rm -rf .venv build docs/_build *.egg-info figures .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## this text
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## */\t/' | expand -t 14
	@echo; echo "make bench TARGET=../my/images SOURCE=../other/images SEEDS=3 ARGS=\"recipe.steps=500 shots=10\""

pins: $(DEV_READY)  ## renew constraints.txt [ARGS=--upgrade], and look for wheels on all platforms (network, minutes)
	@$(COMPILE) --universal --python-version=3.11 --all-extras $(ARGS) --output-file=constraints.txt
	@for python in 3.11 3.12 3.13 3.14; do for platform in $(PLATFORMS); do echo "wheels: $$python $$platform"; \
	  $(COMPILE) --python-version=$$python --python-platform=$$platform --all-extras --constraints=constraints.txt \
	  --only-binary=:all: --no-binary=antlr4-python3-runtime >/dev/null || exit 1; done; done

.venv: $(READY)

ifneq ($(shell ! [ -e .venv ] || { $(USABLE); } && echo yes),yes)
.PHONY: $(READY)
endif
$(READY): pyproject.toml constraints.txt without-gpu.txt
	@echo "setting up .venv (once, under a minute with a fast mirror)"
	@$(PYTHON) -m venv $$({ $(USABLE); } || echo --clear) .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(call install,$(EXTRAS))
	@pwd -P > $@

$(DEV_READY): $(READY)
	@echo "adding what developing needs to .venv"
	@$(call install,dev)
	@touch $@
