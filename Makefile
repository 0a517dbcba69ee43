# `make` lists the targets. Needs Python >= 3.11, git and make; everything else goes into .venv from requirements.lock.
#   make reproduce PYTHON=/path/to/python3.12          another Python
#   make reproduce ARGS='--configfile config/smoke.yaml'   any Snakemake options; `make test ARGS=…` takes pytest's

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed
FOUNDATIONS := clip vae text_to_image ip2p prompt_diffusion prompt_diffusion_edits \
	instamanip_vision instamanip_renderer instamanip
# The rules of the workflow and the tests call `python` and `snakemake`: they are to find those of .venv. A user's wish
# for no bytecode is set aside here: each of a run's many short jobs would compile torch and transformers anew.
RUN = PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help setup reproduce foundations test test-slow trunks bench docs lint format lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) trunks ## install the locked packages and this project into .venv, fetch LPIPS's weights into the cache

reproduce: $(INSTALLED) ## the whole run, on all cores: results/table1.csv
	@$(RUN) snakemake --cores all $(ARGS)

foundations: $(INSTALLED) ## make the pinned weights of foundations/ anew (3.5 core-hours): results/foundations/packed
	@$(RUN) snakemake --cores all --configfile config/foundations.yaml $(ARGS) -- results/foundations/bench $(FOUNDATIONS:%=results/foundations/weights/%)
	@$(RUN) python benchmarks/learning_curve.py --weights results/foundations/weights/ip2p --bench results/foundations/bench
	@$(RUN) python -m editclip.packed --weights $(foreach name,$(FOUNDATIONS),$(name)=results/foundations/weights/$(name)) \
		--triplets results/foundations/triplets --out results/foundations/packed

test: $(INSTALLED) trunks ## all tests but the slow ones, two processes at a time
	@$(RUN) python -m pytest -n 2 -m "not slow" $(ARGS)

test-slow: $(INSTALLED) trunks ## the slow tests: whole runs whose parts `make test` tests one by one
	@$(RUN) python -m pytest -m slow $(ARGS)

trunks: $(INSTALLED)
	@$(RUN) python -m editclip.metrics.fetch_trunks

bench: $(INSTALLED) ## measure anew what docs/statistics.md reports (minutes); more in benchmarks/README.md
	@$(RUN) python benchmarks/interval_coverage.py --out docs/interval_coverage.csv --docs docs/statistics.md

docs: $(INSTALLED) ## make config/schema.json and docs/configuration.md anew from the config's models
	@$(RUN) python -m editclip.config.reference --schema config/schema.json --docs docs/configuration.md

lint: $(INSTALLED) ## style, types and workflow checks; changes nothing
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy
	@$(RUN) snakefmt --check Snakefile workflow
	@$(RUN) snakemake --lint

format: $(INSTALLED) ## rewrite Python, notebooks and Snakemake files in the project's style
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .
	@$(RUN) snakefmt Snakefile workflow

lock: $(INSTALLED) ## resolve pyproject.toml anew into requirements.lock, environment.yml and launcher.yml; ARGS=--upgrade for newer pins
	@$(RUN) python workflow/scripts/lock_environment.py $(ARGS)

clean: ## remove results and every cache, LPIPS's weights among them; .venv stays
	rm -rf .snakemake .cache .pytest_cache .mypy_cache .ruff_cache *.egg-info build dist
	find results -mindepth 1 ! -name .gitkeep -delete
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

# pip installs uv alone, checked against the lock's hashes (so a pip configured to look elsewhere cannot swap it); uv
# does the rest. An interrupted set-up leaves no stamp and is taken up again by the next call.
$(INSTALLED): requirements.lock pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "error: $(PYTHON) is not on PATH: install Python 3.11 or newer, or name it with make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: $(PYTHON) is Python %d.%d, but 3.11 or newer is needed: name one with make PYTHON=/path/to/python" % sys.version_info[:2])'
	@$(PYTHON) -c 'import sys, importlib.util as u; u.find_spec("venv") and u.find_spec("ensurepip") or sys.exit("error: $(PYTHON) cannot make virtual environments: install its venv module (on Debian and Ubuntu the package python3-venv)")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	@sed -n '/^uv==/,/# via/p' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r .venv/uv.txt
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation -e .
	@touch $@
