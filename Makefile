# What people do with this repository. `make` alone says so.
# ARGS goes to the program: make demo ARGS="--once --pool-size 2"

ARGS ?=

# What could not be proved on this machine, a line each: `make test` prints it at its end.
SKIPS := $(CURDIR)/target/skipped

.PHONY: help demo test fmt clippy unit real drivers suites fuzz mutants bench setup

help:
	@echo "make demo    throw-away PostgreSQL and TenantGate, with a tour (ARGS=\"--once\", \"--hold\", \"--port N\")"
	@echo "make test    format, lints, all tests on real PostgreSQL, and the demo's tour"
	@echo "make drivers ordinary drivers hold ordinary sessions (a part of make test)"
	@echo "make bench   TenantGate beside PostgreSQL and PgBouncer in one run"
	@echo "make fuzz    TARGET=frames|guard|scram|server|session|startup [FUZZ_SECONDS=1800]: see docs/fuzzing.md"
	@echo "make suites  drivers' own test suites, directly, through PgBouncer and through TenantGate (ARGS=psycopg)"
	@echo "make setup   install what these need (each of them does so for itself)"
	@echo "make fmt clippy real mutants   parts of make test; make unit: a quick part of real"

setup:
	@.ci/setup build server drivers prisma pg18 others bench exporter browser

demo:
	@.ci/setup build server
	cargo build --release --bin tenantgate
	target/release/tenantgate demo $(ARGS)

fmt:
	cargo fmt --check

clippy:
	cargo clippy --all-targets -- -D warnings

# The quick part of what needs no PostgreSQL.
unit:
	cargo test --lib --bins --test config --test architecture --test guard_tables

# Everything there is.
real:
	cargo test

# psql, psycopg, asyncpg, SQLAlchemy, node-postgres, postgres.js, JDBC, pgx, tokio-postgres: directly and through TenantGate.
# One of them: make drivers ARGS=jdbc
drivers:
	@.ci/setup build server drivers pg18
	cargo test --test real drivers::$(ARGS)

# Planted defects must be found.
mutants:
	cargo test --features mutants --test simulation mutants -- --nocapture
	cargo test --features mutants --test session_pinned mutants
	cargo test --features mutants --test real mutants

test: export TENANTGATE_SKIPS = $(SKIPS)
test:
	@.ci/setup build server drivers prisma pg18 others exporter browser
	@mkdir -p target && : >$(SKIPS)
	$(MAKE) fmt
	$(MAKE) clippy
	$(MAKE) real
	$(MAKE) mutants
	cargo build --bin tenantgate
	target/debug/tenantgate demo --once --port 0
	@.ci/setup versions
	@sort -u $(SKIPS)

# Needs nightly Rust, cargo-fuzz and clang-14; not a part of make test, which replays what was found.
TARGET ?= session
FUZZ_SECONDS ?= 1800
fuzz:
	fuzz/run $(TARGET) $(FUZZ_SECONDS) $(ARGS)

# Takes about an hour for all of them, and downloads their sources: not a part of make test.
suites:
	@.ci/setup build server bench
	cargo build --bin tenantgate
	tests/suites/run $(ARGS)

bench:
	@.ci/setup build server bench
	cargo build --release --bin tenantgate
	benches/run $(ARGS)
	cargo bench --bench guard
