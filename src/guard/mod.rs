//! The guard: SQL text → facts about every statement in it → verdict under a login's policy.
//!
//! ```text
//! text ── FactsCache::lookup ──────────────────────────────► Facts ── Policy::judge ──► Ok | Fault
//!   └─ (cold) driver::parser thread ── inspect ── insert ──────┘
//! ```
//!
//! Facts depend on the text alone and are cached for everybody; the login's [`Policy`] is applied to them at
//! every Parse, Bind and Query. It is an allow-list: statement kinds, nodes, `pg_catalog` functions and system
//! relations that are not in a table are refused. The parser is PostgreSQL's own, and it reads a text as a
//! server does whose `standard_conforming_strings` is on and whose `client_encoding` is UTF8; both are
//! pinned elsewhere.
//!
//! Texts that differ in literals alone share their facts by `shape`.
//!
//! Owns: parsing, facts, policy, the cache. Does not own: threads, the tenant, what is done about a verdict.

mod cache;
mod claim;
mod condition;
mod configure;
mod configured;
mod definition;
mod elements;
mod estimates;
mod explain;
mod facts;
mod functions;
mod gaps;
mod nodes;
mod numbered;
mod parser;
mod policy;
mod redact;
mod relations;
mod settings;
mod shape;
mod split;
mod state;
mod statement;
mod text;
mod walk;

pub use crate::tenant::Claiming;
pub use cache::{CACHE_BYTES_DEFAULT, FactsCache};
pub use claim::{Claim, ClaimForm, ClaimSpan, ClaimSubject, ClaimedValue};
pub use condition::{Condition, FunctionName, Mentions, Operand, OperandKind, PolicyExpression, policy_expression};
pub use configured::{Definition, Lists, Sides};
pub use explain::{Also, Explained, ExplainedLine, explain, explain_by, explain_file};
pub use facts::{
    Access, Configuration, ConfiguredValue, Control, Demand, DemandKind, Facts, FunctionUse, RelationUse, SettingValue,
    Statement, StatementClass,
};
pub use functions::FunctionClass;
pub use gaps::Gaps;
pub use numbered::call_of_number;
pub use policy::{AllowedSetting, Mode, Observed, Policy, PolicySettings, Preset};
pub use redact::redacted;
pub use relations::RelationClass;
pub use settings::{ON_BEHALF_SETTING, REASON_SETTING, check_reason, quoted_list};
pub use state::{Keeping, State, StateUse};
pub use statement::inspect;
pub use text::{InspectFault, Inspected, Limits};
