//! The review page: who may read the ledger in a browser, and what they are shown.
//!
//! Pages are made here as text, without any script; every text of a record is escaped on its way in (`html`).
//!
//! Owns: sessions and logins of reviewers, what a request means, the pages. Does not own: sockets, HTTP, the ledger's files,
//! clocks and randomness (the driver gives them).

mod form;
mod gate;
mod html;
mod page;
mod request;

pub use form::{Form, encode};
pub use gate::{Attempt, Gate, Reviewer, Visit};
pub use page::{Checked, Sight, detail_page, failure_page, login_page, sums_page, transactions_page};
pub use request::{Answer, Origins, Request, Route, redirect, style};
