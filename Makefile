# Copyright (c) 2026, The infrazero.database contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# `make` alone says what there is. Everything made here lies in .venv/, .ansible/ and .demo/, and goes with `make clean`.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := $(CURDIR)/.venv/bin
PYTHON := $(BIN)/python
# Ansible finds the collection by a link in .ansible/, wherever the checkout lies, and keeps its state there too.
export ANSIBLE_HOME := $(CURDIR)/.ansible
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.ansible/collections
export PATH := $(BIN):$(PATH)
# A few workers: each of them starts PostgreSQL and S3 servers of its own.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))

.PHONY: help setup setup-lint demo unit test molecule faults fuzz lint bench bench-fleet docs lock clean

help: ## what there is to make
	@echo "infrazero.database: make TARGET"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | while IFS=$$'\t' read -r name text; do printf '  %-11s %s\n' "$$name" "$$text"; done

setup: ## install what is missing: packages of the system, and pinned libraries in .venv/
	@scripts/setup requirements/test.txt

setup-lint:
	@scripts/setup requirements/dev.txt
	@scripts/containers/collections

demo: setup ## bootstrap, back up, lose and restore real databases, on this machine, in a temporary directory (INTERRUPT=1: kill it in between)
	@echo "== demo"
	@"$(PYTHON)" demo/run.py $(if $(INTERRUPT),--interrupt)

unit: setup ## the unit tests alone: they need no server, and take under two minutes
	@echo "== unit tests"
	@"$(PYTHON)" -m pytest -q -n $(WORKERS) tests/unit

test: setup-lint lint ## lint, then unit, integration, canary and fuzz tests, with real PostgreSQL and S3 servers
	@echo "== unit, integration, canary and fuzz tests"
	@"$(PYTHON)" -m pytest -q -n $(WORKERS) --dist loadfile tests/unit tests/integration tests/canary tests/fuzz

molecule: setup-lint ## rehearse on hosts in containers what operators do (SCENARIO=default: that one); times at the end
	@echo "== molecule"
	@scripts/rehearse $(SCENARIO)

fuzz: setup ## try made-up bytes on what reads foreign ones, and bound its time per byte; SECONDS=60 for each reader (TARGET=scanner: that one)
	@echo "== fuzz"
	@"$(PYTHON)" tests/fuzz/run.py --seconds $(or $(SECONDS),60) $(TARGET)

faults: setup ## inject some hundred faults into real runs, and look at what is left (ONLY=CASE, SEED=N, JOBS=N); writes faults.json
	@echo "== faults"
	@"$(PYTHON)" tests/faults/run.py --seed $(or $(SEED),1) $(if $(ONLY),--only '$(ONLY)',--document) $(if $(JOBS),--jobs $(JOBS))

lint: setup-lint ## every linter: ruff, mypy, yamllint, ansible-lint, docs, licences, ansible-test sanity, importer, changelog
	@echo "== lint"
	@scripts/lint

bench: setup-lint ## measure backups and restores of 1 GB against the plain tools, fleets, and a first boot; writes bench*.json
	@echo "== bench"
	@status=0; for part in run fleet first_boot; do "$(PYTHON)" "tests/bench/$$part.py" || status=$$?; done; exit $$status

bench-fleet: setup ## measure a run of the playbook site that has nothing to do, on eight hosts and on one; writes bench-fleet.json
	@echo "== bench-fleet"
	@"$(PYTHON)" tests/bench/fleet.py

docs: setup-lint ## generate the reference of modules and roles in docs/reference/
	@echo "== docs"
	@scripts/docs

lock: setup-lint ## resolve the requirements anew: versions and hashes for hosts and for the work here
	@echo "== lock"
	@scripts/lock

clean: ## remove everything that was made here
	@echo "== clean: .venv/, .ansible/, .demo/, caches"
	@if [[ -L .demo ]]; then place=$$(readlink .demo); if [[ -O $$place ]]; then rm -rf "$$place"; elif [[ -e $$place ]]; then sudo rm -rf "$$place"; fi; fi
	@rm -rf .venv .ansible .demo .nox .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache bench.json bench-fleet.json bench-first-boot.json faults.json
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
