//! What counts for the statements of a configured login, as far as they say so by themselves: the guard's policy, the rules of its
//! bypasses, the forms of its claims. For whoever asks without a session (`explain`).
//!
//! Owns: bringing these together. Does not own: any of them.

use std::sync::Arc;

use super::build::policy_of_login;
use super::generation::claim_rules;
use crate::auth::Access;
use crate::bypass::{Permit, permit_for};
use crate::config::{Config, EmergencyUse};
use crate::fault::Fault;
use crate::guard::{Policy, Statement};
use crate::session::ClaimRules;

/// By what statements are judged.
pub struct Law {
    policy: Policy,
    /// What a bypass may do.
    permit: Result<Permit, Fault>,
    claims: Option<Arc<ClaimRules>>,
}

impl Law {
    /// A policy, and nothing else.
    #[must_use]
    pub fn of_policy(policy: Policy) -> Self {
        Self { policy, permit: Ok(Permit::default()), claims: None }
    }

    /// Of a configured login, and of its bypasses for a reason.
    ///
    /// # Errors
    /// There is no such login, or a reason is needed, in words.
    pub fn of_login(config: &Config, name: &str, reason: Option<&str>) -> Result<Self, String> {
        let login = config.logins.get(name).ok_or_else(|| format!("there is no logins.{name}"))?;
        let policy = policy_of_login(config, login, &Arc::default());
        let claims = claim_rules(config).remove(name);
        let is_bypass = login.access() == Access::Bypass;
        let rules = if is_bypass { config.bypass.rules_of(name) } else { Arc::default() };
        let only_in_emergency = is_bypass && login.emergencies == EmergencyUse::Only;
        let permit = match reason {
            Some(reason) if is_bypass => permit_for(&rules, reason, config.bypass.reason_chars_min, only_in_emergency),
            None if !rules.is_empty() || only_in_emergency => {
                return Err(format!("what logins.{name} may do depends on the reason of its bypass: give --reason"));
            }
            Some(_) | None => Ok(Permit::default()),
        };
        Ok(Self { policy, permit, claims })
    }

    /// The guard's part.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the policy allows and something else does not.
    ///
    /// # Errors
    /// The fault that the client is to see.
    pub fn judge(&self, statement: &Statement) -> Result<(), Fault> {
        if let Some(claims) = &self.claims {
            claims.vet_in(statement)?;
        }
        match &self.permit {
            Ok(permit) => permit.judge_alone(statement),
            Err(fault) => Err(fault.clone()),
        }
    }
}
