//! How what a client says at its start becomes a tenant, or a refusal.
//!
//! Owns: the login's tenant policy and the decision. Does not own: how a user name is matched to a
//! login, how startup options are parsed, proof of identity. The decision is made for authenticated
//! clients only: an assertion by anybody else is no identity.
//!
//! All comparison is byte by byte: no case folding, no Unicode normalisation.

use std::collections::BTreeSet;

use super::claim::Claiming;
use super::id::{TenantFault, TenantId, TenantKind};
use crate::fault::{Code, Fault};

/// Longest pattern, in bytes.
pub const GLOB_BYTES_MAX: usize = 256;

/// Longest separator, in bytes.
pub const SEPARATOR_BYTES_MAX: usize = 8;

/// A pattern in which `*` stands for any text, empty text included; everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// What lies between the stars; one element means no star at all.
    pieces: Vec<String>,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobFault {
    /// Nothing at all: would match only the empty text.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than allowed.
    #[error("the pattern is longer than {GLOB_BYTES_MAX} bytes")]
    TooLong,
}

impl Glob {
    /// The pattern that matches everything.
    #[must_use]
    pub fn any() -> Self {
        Self { pieces: vec![String::new(), String::new()] }
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn parse(text: &str) -> Result<Self, GlobFault> {
        match text.len() {
            0 => Err(GlobFault::Empty),
            1..=GLOB_BYTES_MAX => Ok(Self { pieces: text.split('*').map(str::to_owned).collect() }),
            _ => Err(GlobFault::TooLong),
        }
    }

    /// A pattern that only this very text fits, stars and all.
    #[must_use]
    pub fn exact(text: &str) -> Self {
        Self { pieces: vec![text.to_owned()] }
    }

    /// Whether this is only stars.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.pieces.len() > 1 && self.pieces.iter().all(String::is_empty)
    }

    /// Whether the whole text fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.pieces.as_slice() else {
            return self.pieces.first().is_some_and(|piece| piece == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
            return false;
        };
        // The leftmost place of each piece leaves most for those behind it.
        for piece in middle {
            match rest.split_once(piece.as_str()) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        true
    }
}

/// What stands between login and tenant in a user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separator(String);

/// Why a text is no separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SeparatorFault {
    /// Nothing at all.
    #[error("the separator is empty")]
    Empty,
    /// Longer than allowed.
    #[error("the separator is longer than {SEPARATOR_BYTES_MAX} bytes")]
    TooLong,
    /// Letters and digits occur in names; control characters and blanks get lost.
    #[error("the separator may hold only ASCII punctuation")]
    BadCharacter,
}

impl Default for Separator {
    fn default() -> Self {
        Self(".".into())
    }
}

impl Separator {
    /// Reads a separator.
    ///
    /// # Errors
    /// It is empty, too long, or could be part of a name.
    pub fn parse(text: &str) -> Result<Self, SeparatorFault> {
        match text.len() {
            0 => Err(SeparatorFault::Empty),
            1..=SEPARATOR_BYTES_MAX if text.bytes().all(|byte| byte.is_ascii_punctuation()) => Ok(Self(text.into())),
            1..=SEPARATOR_BYTES_MAX => Err(SeparatorFault::BadCharacter),
            _ => Err(SeparatorFault::TooLong),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a client may name its tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Behind the login in the user name.
    Suffix,
    /// In a startup parameter or option with the scope setting's name.
    Startup,
}

/// Where a login's tenant comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantSource {
    /// It is always this one.
    Fixed(TenantId),
    /// The client names it; the first origin of the list that is there counts.
    Named {
        /// Accepted origins, in order of preference.
        from: Vec<Origin>,
        /// What separates login and tenant in a user name.
        separator: Separator,
    },
}

/// Which tenants a login may act for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedTenants {
    /// Every one.
    Any,
    /// These.
    List(BTreeSet<TenantId>),
    /// Those whose canonical text fits.
    Pattern(Glob),
}

impl AllowedTenants {
    fn allow(&self, tenant: &TenantId) -> bool {
        match self {
            AllowedTenants::Any => true,
            AllowedTenants::List(list) => list.contains(tenant),
            AllowedTenants::Pattern(glob) => glob.matches(tenant.as_str()),
        }
    }
}

/// How one login comes to its tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPolicy {
    /// Where the tenant comes from.
    pub source: TenantSource,
    /// Which tenants are allowed; a fixed one needs no permission.
    pub allowed: AllowedTenants,
    /// Whether the client may name its tenant later.
    pub claiming: Claiming,
}

/// What a client has said about its tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantClaims<'a> {
    /// What stands behind the separator in the user name.
    pub suffix: Option<&'a str>,
    /// Every value given for a scope setting, by parameter or option, in order.
    pub startup: Vec<&'a str>,
}

/// Why a client gets no tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantRefusal {
    /// It named none.
    Missing,
    /// It named one where this login does not take it from.
    OriginNotAccepted,
    /// What it named is no tenant.
    Malformed(Origin, TenantFault),
    /// It named two that differ.
    Conflict,
    /// It named another one than the login's fixed one.
    NotFixed,
    /// The login may not act for it.
    NotAllowed,
}

impl TenantRefusal {
    /// What the client is told. The tenant is not echoed: it may hold anything.
    #[must_use]
    pub fn fault(self) -> Fault {
        match self {
            TenantRefusal::Missing => Fault::of(Code::TenantMissing),
            TenantRefusal::OriginNotAccepted => Fault::of(Code::TenantMissing)
                .with_detail("The login's configuration does not take the tenant from the startup parameters."),
            TenantRefusal::Malformed(Origin::Suffix, fault) => {
                Fault::of(Code::TenantMalformed).with_detail(format!("In the user name: {fault}."))
            }
            TenantRefusal::Malformed(Origin::Startup, fault) => {
                Fault::of(Code::TenantMalformed).with_detail(format!("In the startup parameters: {fault}."))
            }
            TenantRefusal::Conflict => Fault::of(Code::TenantForbidden)
                .with_detail("The connection names more than one tenant.")
                .with_hint("Name the tenant once: in the user name, or in the startup parameters."),
            TenantRefusal::NotFixed => Fault::of(Code::TenantForbidden)
                .with_detail("The login always acts for one tenant, and the connection names another."),
            TenantRefusal::NotAllowed => Fault::of(Code::TenantForbidden),
        }
    }
}

impl TenantPolicy {
    /// The separator, if a user name may carry the tenant.
    #[must_use]
    pub fn suffix_separator(&self) -> Option<&Separator> {
        match &self.source {
            TenantSource::Named { from, separator } if from.contains(&Origin::Suffix) => Some(separator),
            TenantSource::Named { .. } | TenantSource::Fixed(_) => None,
        }
    }

    /// Whether a session that acts for this tenant may go on, under what may be another policy than the one it
    /// was admitted by.
    #[must_use]
    pub fn still_admits(&self, kind: TenantKind, tenant: &TenantId) -> bool {
        let is_of_kind = TenantId::parse(kind, tenant.as_str()).is_ok_and(|same| same == *tenant);
        is_of_kind
            && match &self.source {
                TenantSource::Fixed(fixed) => fixed == tenant,
                TenantSource::Named { .. } => self.allowed.allow(tenant),
            }
    }

    /// Whether a client may claim this tenant.
    #[must_use]
    pub fn may_claim(&self, tenant: &TenantId) -> bool {
        self.claiming.is_allowed()
            && match &self.source {
                TenantSource::Fixed(fixed) => fixed == tenant,
                TenantSource::Named { .. } => self.allowed.allow(tenant),
            }
    }

    /// The tenant an authenticated client acts for.
    ///
    /// Everything the client said has to agree, also what this login would not take its tenant from: a
    /// client that asks for one tenant is never given another.
    ///
    /// # Errors
    /// The client named none, a malformed one, several, or one the login may not act for.
    pub fn resolve(&self, kind: TenantKind, claims: &TenantClaims<'_>) -> Result<TenantId, TenantRefusal> {
        let suffix = claims.suffix.map(|text| parse(kind, Origin::Suffix, text)).transpose()?;
        let startup = parse_all(kind, &claims.startup)?;
        if let (Some(suffix), Some(startup)) = (&suffix, &startup)
            && suffix != startup
        {
            return Err(TenantRefusal::Conflict);
        }
        match &self.source {
            TenantSource::Fixed(fixed) => match suffix.or(startup) {
                Some(named) if named != *fixed => Err(TenantRefusal::NotFixed),
                Some(_) | None => Ok(fixed.clone()),
            },
            TenantSource::Named { from, .. } => self.choose(from, suffix, startup),
        }
    }

    fn choose(
        &self,
        from: &[Origin],
        suffix: Option<TenantId>,
        startup: Option<TenantId>,
    ) -> Result<TenantId, TenantRefusal> {
        let by_origin = |origin: &Origin| match origin {
            Origin::Suffix => suffix.clone(),
            Origin::Startup => startup.clone(),
        };
        let Some(tenant) = from.iter().find_map(by_origin) else {
            let was_named = suffix.is_some() || startup.is_some();
            return Err(if was_named { TenantRefusal::OriginNotAccepted } else { TenantRefusal::Missing });
        };
        if self.allowed.allow(&tenant) { Ok(tenant) } else { Err(TenantRefusal::NotAllowed) }
    }
}

fn parse(kind: TenantKind, origin: Origin, text: &str) -> Result<TenantId, TenantRefusal> {
    TenantId::parse(kind, text).map_err(|fault| TenantRefusal::Malformed(origin, fault))
}

/// All of them, provided they are the same: PostgreSQL would let the last one win, which hides mistakes.
fn parse_all(kind: TenantKind, texts: &[&str]) -> Result<Option<TenantId>, TenantRefusal> {
    let mut found = None;
    for text in texts {
        let tenant = parse(kind, Origin::Startup, text)?;
        match &found {
            Some(first) if *first != tenant => return Err(TenantRefusal::Conflict),
            Some(_) => {}
            None => found = Some(tenant),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACME: &str = "00000000-0000-0000-0000-00000000000a";
    const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

    fn tenant(text: &str) -> TenantId {
        TenantId::parse(TenantKind::Uuid, text).unwrap()
    }

    fn named(from: &[Origin], allowed: AllowedTenants) -> TenantPolicy {
        TenantPolicy {
            source: TenantSource::Named { from: from.to_vec(), separator: Separator::default() },
            allowed,
            claiming: Claiming::None,
        }
    }

    fn both() -> TenantPolicy {
        named(&[Origin::Suffix, Origin::Startup], AllowedTenants::Any)
    }

    fn resolve(policy: &TenantPolicy, suffix: Option<&str>, startup: &[&str]) -> Result<TenantId, TenantRefusal> {
        policy.resolve(TenantKind::Uuid, &TenantClaims { suffix, startup: startup.to_vec() })
    }

    #[test]
    fn globs_match_whole_texts() {
        for (pattern, text, fits) in [
            ("acme-*", "acme-", true),
            ("acme-*", "acme-eu", true),
            ("acme-*", "xacme-eu", false),
            ("acme", "acme", true),
            ("acme", "acme2", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("*.eu.*", "x.eu.y", true),
            ("**", "anything", true),
            ("a?c", "abc", false),
            ("Acme", "acme", false),
            ("é*", "e\u{301}x", false),
        ] {
            assert_eq!(Glob::parse(pattern).unwrap().matches(text), fits, "{pattern} {text}");
        }
        assert!(Glob::any().is_any() && Glob::parse("**").unwrap().is_any() && !Glob::parse("a*").unwrap().is_any());
        assert_eq!(Glob::parse(""), Err(GlobFault::Empty));
        assert_eq!(Glob::parse(&"x".repeat(257)), Err(GlobFault::TooLong));
    }

    #[test]
    fn separators_cannot_be_part_of_a_name() {
        for (bad, fault) in [
            ("", SeparatorFault::Empty),
            ("a", SeparatorFault::BadCharacter),
            (" ", SeparatorFault::BadCharacter),
            ("·", SeparatorFault::BadCharacter),
            (".........", SeparatorFault::TooLong),
        ] {
            assert_eq!(Separator::parse(bad), Err(fault), "{bad:?}");
        }
        assert_eq!(Separator::parse("__").map(|s| s.as_str().to_owned()), Ok("__".into()));
    }

    #[test]
    fn a_tenant_comes_from_either_origin() {
        assert_eq!(resolve(&both(), Some(ACME), &[]), Ok(tenant(ACME)));
        assert_eq!(resolve(&both(), None, &[ACME]), Ok(tenant(ACME)));
        assert_eq!(resolve(&both(), Some(ACME), &[&ACME.to_uppercase()]), Ok(tenant(ACME)));
        assert_eq!(resolve(&both(), None, &[ACME, ACME]), Ok(tenant(ACME)));
    }

    #[test]
    fn the_three_refusals_are_distinct() {
        let codes = [
            resolve(&both(), None, &[]).unwrap_err().fault().code,
            resolve(&both(), Some("x"), &[]).unwrap_err().fault().code,
            resolve(&named(&[Origin::Suffix], AllowedTenants::List([tenant(ACME)].into())), Some(GLOBEX), &[])
                .unwrap_err()
                .fault()
                .code,
        ];
        assert_eq!(codes, [Some(Code::TenantMissing), Some(Code::TenantMalformed), Some(Code::TenantForbidden)]);
    }

    #[test]
    fn what_differs_is_refused() {
        assert_eq!(resolve(&both(), Some(ACME), &[GLOBEX]), Err(TenantRefusal::Conflict));
        assert_eq!(resolve(&both(), None, &[ACME, GLOBEX]), Err(TenantRefusal::Conflict));
        assert_eq!(
            resolve(&named(&[Origin::Suffix], AllowedTenants::Any), Some(ACME), &[GLOBEX]),
            Err(TenantRefusal::Conflict)
        );
    }

    #[test]
    fn nothing_named_is_missing_and_nothing_given_is_malformed() {
        assert_eq!(resolve(&both(), None, &[]), Err(TenantRefusal::Missing));
        assert_eq!(
            resolve(&both(), Some(""), &[ACME]),
            Err(TenantRefusal::Malformed(Origin::Suffix, TenantFault::Empty))
        );
        assert_eq!(resolve(&both(), None, &[""]), Err(TenantRefusal::Malformed(Origin::Startup, TenantFault::Empty)));
    }

    #[test]
    fn an_origin_that_is_not_accepted_names_no_tenant() {
        let policy = named(&[Origin::Suffix], AllowedTenants::Any);
        assert_eq!(resolve(&policy, None, &[ACME]), Err(TenantRefusal::OriginNotAccepted));
    }

    #[test]
    fn a_fixed_tenant_cannot_be_talked_over() {
        let policy = TenantPolicy {
            source: TenantSource::Fixed(tenant(ACME)),
            allowed: AllowedTenants::Any,
            claiming: Claiming::None,
        };
        assert_eq!(resolve(&policy, None, &[]), Ok(tenant(ACME)));
        assert_eq!(resolve(&policy, None, &[ACME]), Ok(tenant(ACME)));
        assert_eq!(resolve(&policy, None, &[GLOBEX]), Err(TenantRefusal::NotFixed));
        assert!(policy.suffix_separator().is_none());
    }

    #[test]
    fn a_pattern_is_matched_against_the_canonical_text() {
        let policy = named(&[Origin::Suffix], AllowedTenants::Pattern(Glob::parse("*00a").unwrap()));
        assert_eq!(resolve(&policy, Some(&ACME.to_uppercase()), &[]), Ok(tenant(ACME)));
        assert_eq!(resolve(&policy, Some(GLOBEX), &[]), Err(TenantRefusal::NotAllowed));
    }
}
