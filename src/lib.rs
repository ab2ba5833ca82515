//! TenantGate: a pooling proxy for PostgreSQL that makes tenant isolation by row-level security hold
//! for any client.
//!
//! # The map
//!
//! Data path: accept → TLS → startup and authentication → tenant → *(per message)* frame → guard →
//! scope → lease a server → forward → replies back → transaction end → clean check-in.
//!
//! If it decides, it is pure; if it waits, it is in [`driver`]. Everything outside `driver` and `cli`
//! is free of tokio, sockets, files, clock reads and ambient randomness: `now` and seeds are arguments.
//!
//! | folder | owns | may import (`time`, `fault` open to all) |
//! |---|---|---|
//! | [`wire`] | PostgreSQL v3 bytes ↔ messages | – |
//! | [`tenant`] | `TenantId`; how a login's facts become a tenant | – |
//! | [`auth`] | who may log in: rules, SCRAM, secrets | wire, tenant |
//! | [`guard`] | SQL text → verdict | tenant |
//! | [`startup`] | the dialogue until a session begins | wire, auth, tenant |
//! | [`upstream`] | one server's life: login, replies owed by cause | wire, auth |
//! | [`scope`] | puts a tenant on a server transaction, proves a server clean | wire, tenant, guard, upstream |
//! | [`pool`] | who may use which server, when | tenant, scope |
//! | [`bypass`] | which bypass transactions may run, and how much they may do | tenant, auth, guard |
//! | [`audit`] | records of bypass and migration transactions | tenant, guard |
//! | [`offboard`] | erasing a tenant's rows: order, statements, manifest, proof | – |
//! | [`metrics`] | counters and histograms | tenant |
//! | [`check`] | whether a database's schema keeps tenants apart: facts → findings | tenant, guard |
//! | [`session`] | one client's life after startup | wire, tenant, guard, upstream, scope, pool, bypass, audit, metrics |
//! | [`config`] | the only reader of configuration keys | settings types of the domain folders |
//! | [`admin`] | console commands and tables | wire, tenant, guard, pool, bypass, metrics, audit, config |
//! | [`review`] | the review page: sessions of reviewers, pages | auth, audit |
//! | [`driver`] | the only async, the only I/O | all above |
//! | [`cli`] | serve, attack, check, check-config, explain, ledger, emergency, offboard, sql, demo | tenant, config, guard, check, audit, admin, offboard, review, driver |
//!
//! `tests/architecture.rs` enforces this table.
//!
//! # The lexicon
//!
//! *client*: a connection of theirs to us. *server*: a connection of ours to PostgreSQL. *session*: a
//! client after startup. *lease*: a server on loan to a session. *login*: a configured identity a client
//! may authenticate as. *tenant*: whose rows a session may see. *scope*: the tenant context of one server
//! transaction. *claim*: a client's statement of which tenant it acts for. *verdict*: what the guard says
//! of a statement. *effect*: what a session wants done by the driver. *fault*: what an error means to
//! others. *pool*: the servers of one (server group, database, server role).

pub mod admin;
pub mod audit;
pub mod auth;
pub mod bypass;
pub mod check;
pub mod cli;
pub mod config;
pub mod driver;
pub mod fault;
#[deny(clippy::wildcard_enum_match_arm)]
pub mod guard;
pub mod metrics;
pub mod offboard;
pub mod pool;
pub mod review;
#[deny(clippy::wildcard_enum_match_arm)]
pub mod scope;
#[deny(clippy::wildcard_enum_match_arm)]
pub mod session;
pub mod startup;
pub mod tenant;
pub mod time;
#[deny(clippy::wildcard_enum_match_arm)]
pub mod upstream;
pub mod wire;
