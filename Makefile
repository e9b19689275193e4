# make demo     the main job, end to end, on the embedded model          make test     everything that is tested
# make check    the fast part of the tests, and lint                     make help     the rest
PYTHON ?= python3
V := .venv/bin
STAMP := .venv/.edge-ready
# Two processes, whole files each, for what a file's tests share: half the time on two cores; more would disturb their waiting.
TWO := -n 2 --dist loadfile --no-loadscope-reorder
# A strict editable install links single files, so a new file (a newer folder) means installing again.
FOLDERS := $(shell find edge train export bench devices -type d -not -name __pycache__)

.PHONY: demo test check lint help install standins bench-270m bench-agreement bench-sensitivity bench-training tiny pins clean

demo: $(STAMP)  ## tune, export, measure and report in ./demo
	$(V)/edge demo

test: install-dev  ## everything, on real workers and runtimes
	$(V)/python -m pytest $(TWO)

check: install-dev lint  ## the fast part
	$(V)/python -m pytest -m "not slow" -q $(TWO)

lint: install-dev
	$(V)/ruff check .
	$(V)/ruff format --check .
	$(V)/mypy edge train/readers train/data export bench devices

bench-270m: $(STAMP)  ## the 270M architecture with random weights: every format and quantisation, beside litetune
	$(V)/python -P -m edge.bench.suites.formats_270m

bench-agreement: $(STAMP)  ## our prefill and decode rates beside llama-bench's and litert-lm benchmark's, in one run
	$(V)/python -P -m edge.bench.suites.agreement

bench-sensitivity: $(STAMP)  ## what each quantisation loses on the embedded model, over 1000 rows
	$(V)/python -P -m edge.bench.suites.sensitivity

bench-training: $(STAMP)  ## a tuning step of the 270M architecture beside TRL's defaults: tokens a second, memory, loss
	$(V)/python -P -m edge.bench.suites.training

standins: install-dev  ## the aarch64 Raspberry Pi and phone that the tests measure on
	$(V)/python -P tests/standins/build.py

tiny: $(STAMP)  ## train the embedded model again
	$(V)/edge tiny train

pins: $(STAMP)  ## resolve the environments of the workers anew
	$(V)/python -P -c "from edge import environments as e; [print(s, len(e.pin(s))) for s in e.scripts()]"

install: $(STAMP)

$(STAMP): pyproject.toml $(FOLDERS)
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'edge needs Python 3.11 or newer: make PYTHON=…')"
	$(PYTHON) -m venv .venv
	$(V)/python -m pip install --quiet --disable-pip-version-check --editable . --config-settings editable_mode=strict
	touch $@

.PHONY: install-dev
install-dev: $(STAMP)-dev
$(STAMP)-dev: $(STAMP)
	$(V)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" --config-settings editable_mode=strict
	touch $@

clean:
	rm -rf .venv build *.egg-info demo

help:
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14
