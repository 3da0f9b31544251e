# The commands of this repository; `make` alone lists them. The work is done by the harness in
# e2e/, which builds what it needs and keeps it in ~/.cache/hubstorage.

E2E = cargo run --package hubstorage-e2e --bin e2e --

.DEFAULT_GOAL := help
.PHONY: help up down status demo test bench soak prerequisites

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: prerequisites ## Start Kubernetes, MinIO and the operator on this machine
	@$(E2E) up

down: prerequisites ## Stop what `make up` started
	@$(E2E) down

status: prerequisites ## What runs, and how to reach it
	@$(E2E) status

demo: prerequisites ## The story of one hub, step by step (starts the platform if needed)
	@$(E2E) demo

test: prerequisites ## Every test, tier by tier, and the counts (starts the platform if needed)
	@$(E2E) test

bench: prerequisites ## Memory, rates and times beside their budgets, into docs/performance.md (takes an hour)
	@HUBSTORAGE_PROFILE=release cargo run --release --package hubstorage-e2e --bin e2e -- bench

soak: prerequisites ## Generated cases for an hour, clients for up to three, into docs/soak.md
	@$(E2E) soak

prerequisites:
	@e2e/prerequisites.sh
