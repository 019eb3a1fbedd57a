# Everything here works on a machine with Python 3.11 and make.
PYTHON ?= $(or $(shell command -v python3.11),python3)
# Tests run in so many processes; each that needs PostgreSQL starts its own.
WORKERS ?= 2
# More for the command: make demo ARGS=--no-serve
ARGS ?=
# Which benchmarks `make bench` runs.
BENCH ?= detection networks
BIN := .venv/bin
PIP = $(BIN)/pip install --disable-pip-version-check --require-hashes
# What tests need of the system: each a program of the Debian package of its name, or of the one behind the colon.
SYSTEM := chromium prometheus prometheus-alertmanager prometheus-pushgateway mariadbd:mariadb-server-core my_print_defaults:mariadb-client-core

.DEFAULT_GOAL := help
.PHONY: help env demo test test-long test-lowest faults quick check audit fix bench build docs lock system

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# uv installs on all cores, in a third of pip's time; pip where only pip knows the registry.
env: ## set up .venv as requirements.lock says; does nothing where that is done
	@cmp -s requirements.lock .venv/requirements.lock || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	    { echo "This needs Python 3.11: install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }; \
	  echo "Setting up .venv: some 300 MB are downloaded, once."; \
	  $(PYTHON) -m venv .venv && \
	  sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.lock && \
	  $(PIP) --quiet -r .venv/uv.lock && \
	  { $(BIN)/uv pip install --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock || \
	    $(PIP) -r requirements.lock; } && \
	  rm -f .venv/pyproject.toml && cp requirements.lock .venv/requirements.lock; }
	@cmp -s pyproject.toml .venv/pyproject.toml || { \
	  $(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e . && \
	  cp pyproject.toml .venv/pyproject.toml; }

demo: env ## the whole story on made data: import, train, score, flags, and a page to look at
	$(BIN)/anomaly demo $(ARGS)

test: env system ## run the tests; what this machine cannot run is named at the end
	$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(ARGS)

test-long: env system ## run the tests that take minutes each
	$(BIN)/pytest -m long $(ARGS)

faults: env system ## strike it hard and count: kills, takeovers, database faults, hostile rows, routes by roles; prints a table
	$(BIN)/pytest -m "" tests/faults tests/integration/test_access.py $(ARGS)

test-lowest: env ## run the unit tests with the lowest versions that pyproject.toml allows
	@rm -rf .venv/lowest && $(BIN)/uv venv --quiet --python $(BIN)/python .venv/lowest
	$(BIN)/uv pip install --quiet --python .venv/lowest/bin/python --resolution lowest-direct --group test --group bench -e '.[mysql]'
	.venv/lowest/bin/python -m pytest -q tests/unit $(ARGS)

quick: env ## run the unit tests that train no network, in under a minute
	$(BIN)/pytest -m quick -q -n $(WORKERS) -p no:schemathesis tests/unit $(ARGS)

# Of no use to a scan for secrets: digests, pictures, data. Example addresses and names of mounted secrets are none.
NO_SECRETS := ':!*.lock' ':!*.png' ':!*.svg' ':!*.gz' ':!tests/upgrades'
check: env ## lint, formatting, types, the direction of imports, what is unsafe, and secrets left in files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml anomaly pipelines migrations
	git ls-files -z -- $(NO_SECRETS) | xargs -0 -n 300 -P 2 $(BIN)/detect-secrets-hook --no-verify \
	  --exclude-lines 'secretName: .?anomaly' \
	  --exclude-lines '(example\.org|127\.0\.0\.1:1/x|hooks\.corp\.test|@db/x|@host/db|hunter2)'

audit: env ## look for known holes in the locked packages; says so where advisories cannot be reached
	@said=$$(timeout 120 $(BIN)/pip-audit --strict --disable-pip --require-hashes --timeout 10 \
	  --progress-spinner off -r requirements.lock 2>&1); code=$$?; echo "$$said" | tail -n 40; \
	case "$$code $$said" in 124*|*"could not be audited"*|*ConnectionError*|*"Max retries"*|*ServiceError*|*"timed out"*) \
	  echo "NOT RUN: pip-audit --strict: the advisories cannot be reached from here"; exit 0;; esac; exit $$code

fix: env ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: env ## print tables of detection and networks, quickly; in full: ARGS="--data DIR" BENCH=detection
	@for name in $(BENCH); do echo "== $$name"; \
	  $(BIN)/python -m benchmarks.$$name $(or $(ARGS),--quick) || exit; done

build: env ## a wheel and a source archive in dist/
	$(BIN)/python -m build --no-isolation

docs: env ## the documentation as a site in site/; a broken link or a forgotten page is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

LOCK := $(BIN)/uv pip compile pyproject.toml --python-version 3.11 --universal --no-config --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet
lock: ## choose exact versions anew (UPGRADE=--upgrade: the newest), with the registry's hashes
	$(LOCK) --all-extras --group dev $(UPGRADE) --output-file requirements.lock
	sed -n 's/^\([^ ]*==[^ ]*\).*/\1/p' requirements.lock > .venv/pins.txt
	$(LOCK) --constraints .venv/pins.txt --output-file deploy/container/training.lock
	$(LOCK) --constraints .venv/pins.txt --override deploy/container/no-training.txt \
	  --output-file deploy/container/scoring.lock

system: env # installs what is missing where that is allowed; whoever misses it says so later
	@missing=; for name in $(SYSTEM); do command -v $${name%%:*} >/dev/null || missing="$$missing $${name##*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing$$missing"; export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1; \
	  { apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } \
	    >.venv/system.log 2>&1 || { tail -n 3 .venv/system.log; echo "Could not install$$missing"; }; \
	fi
