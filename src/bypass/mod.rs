//! What a bypass may do: rules of its login, emergencies beyond them, and whether bypasses run at all.
//!
//! ```text
//!  the reason ─▶ first rule that fits it ─▶ its circumstances hold? ─▶ Permit ─▶ each statement, each row, the clock
//!                 └ an open emergency of the login: a Permit without limits, until the emergency is over
//! ```
//!
//! Owns: the rules, which of them counts, what a permit lets through. Does not own: the transaction (`session`), the record
//! (`audit`), who opens emergencies (`admin`), clocks.

mod emergency;
mod hours;
mod permit;
mod rule;
mod tables;

pub use emergency::{Closed, Emergencies, Emergency, EmergencyFault, EmergencyId, OPEN_MAX};
pub use hours::{Hours, HoursFault};
pub use permit::{LimitName, Permit, Standing, Usage};
pub use rule::{Pattern, PatternFault, Rule, Terms, check_quality, permit_for};
pub use tables::{Doubt, TableFault, Tables};
