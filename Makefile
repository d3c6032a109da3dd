# `make demo` shows the whole way on a phantom, `make test` checks everything. Needed: make, and Python 3.10 or newer.
# pip's own settings decide where packages come from; `make demo PYTHON=python3.12` names a Python.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
PACKAGE := setup.cfg pyproject.toml requirements.txt

# a phantom is quickly learnt: axial slices alone, coarser and smaller, and steeper steps than the recipe for patients
DEMO_CASES := 12
DEMO_TRAINING := --train_cases 9 --val_cases 3 --max_epochs 26 --val_interval 4 --planes "[2]" --pixdim 2.0 \
	--patch_size "[64, 64, 64]" --batch_size 8 --lr 0.005 --ema_momentum 0.05
# every demo is a run of its own, so the command can be repeated
DEMO_RUN := $(shell date +%Y%m%d-%H%M%S)
DEMO_PATIENT := la_011

# threads that wait should sleep: with anything else running, spinning costs several times the time
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check venv clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-6s %s\n", $$1, $$2}' Makefile

demo: .venv/demo.stamp ## install, then train, evaluate and predict on a phantom: about 3 minutes after the install
	@echo "[1/4] Phantom: $(DEMO_CASES) computed patients"
	@$(BIN)/python -m pipelines phantom atrium demo/Task02_Heart --cases $(DEMO_CASES)
	@echo "[2/4] Training"
	@$(BIN)/python -m monai.bundle run --config_file bundles/atrium/train.yaml --dataset_dir demo/Task02_Heart \
		--output_dir demo/runs --run_name $(DEMO_RUN) --experiment_name demo $(DEMO_TRAINING)
	@echo "[3/4] Evaluation of the patients that it did not train on"
	@$(BIN)/python -m monai.bundle run --config_file bundles/atrium/evaluate.yaml --ckpt_path demo/runs/$(DEMO_RUN) \
		--experiment_name demo
	@echo "[4/4] Prediction of one of them"
	@$(BIN)/python -m pipelines predict atrium demo/Task02_Heart/imagesTr/$(DEMO_PATIENT).nii.gz --out demo/predictions \
		--ckpt_path demo/runs/$(DEMO_RUN)
	@$(BIN)/python scripts/demo_summary.py demo/runs/$(DEMO_RUN) demo/predictions/$(DEMO_PATIENT) $(BIN)

# each process of the tests computes with one thread; files stay whole, since their tests share what they trained
TEST_PROCESSES ?= 2
test: check ## lint, check the format and run every test
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --durations 10

check: .venv/test.stamp ## lint and check the format alone
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

venv: .venv/demo.stamp ## make .venv with the exact versions of requirements.txt, and the project

clean: ## remove .venv, demo/ and caches; data/, runs/, predictions/ and the MLflow store stay
	rm -rf .venv demo build *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "Python 3.10 or newer is needed, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing)." >&2; \
		echo "Install one, or name another: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/demo.stamp: $(PACKAGE) | .venv/bin/python
	@echo "Installing the versions of requirements.txt into .venv: this happens once and takes some minutes"
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/test.stamp: requirements-test.txt requirements-engines.txt .venv/demo.stamp
	@echo "Installing the test tools of requirements-test.txt into .venv"
	@$(PIP) -r requirements-test.txt
	@touch $@
