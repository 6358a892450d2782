# What a user types. Every target does its own set-up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LAS    := $(BIN)/las
WORK   ?= work
RECIPE ?= las
# Said only where they are given: make sample REGION=global SEED=3
OPTIONS = --work $(WORK) $(if $(REGION),--region "$(REGION)") $(if $(SEED),--seed $(SEED)) \
          $(if $(SOURCE),--source "$(SOURCE)") $(if $(COUNT),--count $(COUNT)) \
          $(if $(CATALOGS),--catalogs "$(CATALOGS)")
ENGINE  = $(if $(WORKERS),--workers $(WORKERS))

.PHONY: setup sample scenes fetch audit pack publish build demo test check docs bench bench-quick clean

setup: $(VENV)/.done
$(VENV)/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,train,text]" --constraint constraints.txt
	touch $@

demo: setup
	$(LAS) build demo --work $(WORK) $(ENGINE)
	$(LAS) look $(WORK)/demo
	@echo "The plan:    $(WORK)/demo/plan.png"
	@echo "The patches: $(WORK)/demo/look.png and $(WORK)/demo/look.html"

# make sample DRY_RUN=1 prints the allocation; make sample EXTEND=40000 raises the counts of a plan.
sample: setup
	$(LAS) sample $(RECIPE) $(OPTIONS) $(if $(DRY_RUN),--dry-run) $(if $(EXTEND),--extend $(EXTEND))
scenes fetch pack build: setup
	$(LAS) $@ $(RECIPE) $(OPTIONS) $(ENGINE)
publish audit: setup
	$(LAS) $@ $(RECIPE) $(OPTIONS)

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One table, with its JSON and plot in $(WORK)/bench; rows as they come go to stderr. Peers live in an
# environment of their own, whose torch is theirs.
# make bench SAMPLES=64 ROUNDS=2 is over sooner, and says less.
PEERS = $(WORK)/peers/bin/python
SAMPLES ?= 256
ROUNDS  ?= 5
bench: setup $(WORK)/shards/index.parquet $(WORK)/peers/.done
	rm -rf $(WORK)/bench
	$(BIN)/python benchmarks/shards.py $(WORK)/shards --samples $(SAMPLES) --rounds $(ROUNDS) --peers $(PEERS) --out $(WORK)/bench >&2
	$(PEERS) benchmarks/cog_readers.py $(WORK)/shards --rounds $(ROUNDS) --out $(WORK)/bench >&2
	@$(BIN)/python benchmarks/results.py $(WORK)/bench
bench-quick: setup $(WORK)/quick/shards/index.parquet
	rm -rf $(WORK)/bench
	$(BIN)/python benchmarks/shards.py $(WORK)/quick/shards --samples 96 --rounds 3 --only raw pack read random --out $(WORK)/bench >&2
	@$(BIN)/python benchmarks/results.py $(WORK)/bench
$(WORK)/shards/index.parquet: | setup
	$(LAS) build benchmarks/shards.yaml --work $(WORK)
$(WORK)/quick/shards/index.parquet: | setup
	$(LAS) build benchmarks/shards.yaml --work $(WORK)/quick --count 16
$(WORK)/peers/.done:
	$(PYTHON) -m venv $(WORK)/peers
	$(WORK)/peers/bin/python -m pip install --quiet --disable-pip-version-check --editable . torch litdata mosaicml-streaming odc-stac stackstac async-geotiff torchgeo rslearn imagecodecs uvicorn
	touch $@

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(abspath $(WORK)/docs)
	$(BIN)/pdoc --docformat google --output-directory $(WORK)/docs/api las_builder
	@echo "The guides, commands and Python reference: $(WORK)/docs/index.html"

clean:
	rm -rf $(VENV) $(WORK)
