//! What the ledger knows of an offboarding: its transactions, told apart by their reasons, and what was done to the tenant.
//!
//! Owns: which acts belong to it. Does not own: reading the ledger (`cli::ledger`).

use std::collections::VecDeque;

use super::{Failure, OffboardArguments};
use crate::audit::{Deed, Filter};
use crate::cli::ledger::acts_of;
use crate::config::{Config, LedgerSettings};
use crate::offboard::Recorded;

/// Most acts that a proof names, the last ones: each run has five.
const RECORDED_MAX: usize = 500;

/// The ledger of the proxy.
pub struct Book {
    ledger: Option<LedgerSettings>,
    login: String,
    database: String,
    tenant: String,
}

impl Book {
    /// Of the proxy's configuration.
    pub fn new(config: &Config, arguments: &OffboardArguments, tenant: &str) -> Self {
        let (login, database) = (arguments.login.clone(), arguments.database.clone());
        Self { ledger: config.ledger.clone(), login, database, tenant: tenant.to_owned() }
    }

    /// Oldest first. What was refused before it began is left out.
    pub fn all(&self) -> Result<Vec<Recorded>, Failure> {
        let mut found = VecDeque::new();
        let Some(ledger) = &self.ledger else { return Ok(Vec::new()) };
        let read = acts_of(ledger, &Filter::default(), &mut |act| {
            if let Some(step) = self.step(&act) {
                if found.len() >= RECORDED_MAX {
                    found.pop_front();
                }
                found.push_back(Recorded {
                    step,
                    rows: act.rows_affected,
                    id: act.id,
                    at: act.at,
                    result: act.result,
                    xid: act.xid,
                });
            }
            Ok(())
        });
        read.map_err(|words| Failure::Unusable(format!("the ledger, whose records a proof names: {words}")))?;
        Ok(found.into())
    }

    /// The last one of a step.
    pub fn last(&self, step: &str) -> Result<Option<Recorded>, Failure> {
        Ok(self.all()?.into_iter().rfind(|it| it.step == step))
    }

    /// What an act was for, if it belongs to this.
    fn step(&self, act: &Deed) -> Option<String> {
        match act.kind.as_str() {
            "transaction" if act.login == self.login && act.database == self.database => {
                let (_, behind) = act.reason.as_deref()?.rsplit_once(&format!("(offboard {}: ", self.tenant))?;
                behind.strip_suffix(')').map(str::to_owned)
            }
            "freeze" | "thaw" if act.tenant.as_ref() == Some(&self.tenant) => Some(act.kind.clone()),
            _ => None,
        }
    }
}
