//! The review page: who may read the ledger in a browser, and what they are shown.
//!
//! Pages are made here as text, without any script; every text of a record is escaped on its way in (`html`).
//!
//! Owns: sessions and logins of reviewers, what a request means, the pages. Does not own: sockets, HTTP, the ledger's files,
//! clocks and randomness (the driver gives them).

mod attempts;
mod detail;
mod form;
mod frame;
mod gate;
mod html;
mod page;
mod request;

pub use detail::detail_page;
pub use form::{Form, encode};
pub use frame::{Checked, Sight};
pub use gate::{Attempt, Gate, Proven, Reviewer, Visit};
pub use page::{failure_page, login_page, sums_page, transactions_page, unmarked_page};
pub use request::{Answer, Origins, Request, Route, redirect, style};
