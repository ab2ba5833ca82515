//! Who is logged in to the review page.
//!
//! A session is 32 random bytes in a cookie; here only their digest is kept. Each has a token of its own that forms send
//! back (CSRF).
//!
//! Owns: reviewers, sessions, their ends. Does not own: how often a login may be tried (`attempts`), randomness and clocks
//! (arguments), the cookie's way.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use subtle::ConstantTimeEq as _;

use super::attempts::Attempts;
use crate::audit::Digest;
use crate::auth::scram::Verifier;
use crate::time::Moment;

/// Sessions at the same time; the oldest goes when one more comes.
const SESSIONS_MAX: usize = 200;

/// However busy: then the name and the password are asked for again.
const LIFETIME: Duration = Duration::from_secs(12 * 3_600);

const COOKIE: &str = "tenantgate_review";
const SECURE_COOKIE: &str = "__Host-tenantgate_review";

/// A reviewer.
#[derive(Clone, Debug)]
pub struct Reviewer {
    /// The name, as it stands in marks.
    pub name: Arc<str>,
    /// What the password is checked against.
    pub verifier: Verifier,
}

/// A session of somebody who is logged in.
struct Session {
    reviewer: Arc<str>,
    token: String,
    since: Moment,
    last: Moment,
}

/// Who visits. Not shown in logs: whoever has the token can send forms.
#[derive(Clone)]
pub struct Visit {
    /// Who.
    pub reviewer: Arc<str>,
    /// What their forms send back.
    pub token: String,
}

impl Visit {
    /// Whether a form came from a page of this session.
    #[must_use]
    pub fn has_sent(&self, token: &str) -> bool {
        self.token.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

/// A login that is being tried: slow, so nobody else waits for it.
#[derive(Debug)]
pub struct Attempt {
    name: String,
    verifier: Verifier,
    reviewer: Option<Arc<str>>,
    from: IpAddr,
}

impl Attempt {
    /// Whether the password is the reviewer's. Names that are nobody's take as long.
    #[must_use]
    pub fn check(&self, password: &SecretString) -> Option<Proven> {
        use secrecy::ExposeSecret as _;
        let tried = Verifier::derive(password.expose_secret(), self.verifier.salt(), self.verifier.iterations());
        let is_right = tried.is_same(&self.verifier);
        self.reviewer.clone().filter(|_| is_right).map(|reviewer| Proven { reviewer, from: self.from })
    }

    /// As it was typed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Somebody has shown a reviewer's password.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Proven {
    reviewer: Arc<str>,
    from: IpAddr,
}

impl Proven {
    /// Who.
    #[must_use]
    pub fn reviewer(&self) -> &str {
        &self.reviewer
    }
}

/// The gate.
pub struct Gate {
    reviewers: BTreeMap<Arc<str>, Verifier>,
    /// Of nobody: what unknown names are checked against.
    nobody: Option<Verifier>,
    sessions: HashMap<[u8; 32], Session>,
    attempts: Attempts,
    idle_max: Duration,
    is_secure: bool,
}

impl Gate {
    /// For these reviewers; a session without a request for `idle_max` ends.
    #[must_use]
    pub fn new(reviewers: Vec<Reviewer>, idle_max: Duration, is_secure: bool) -> Self {
        let nobody = reviewers.first().map(|it| it.verifier.clone());
        Self {
            reviewers: reviewers.into_iter().map(|it| (it.name, it.verifier)).collect(),
            nobody,
            sessions: HashMap::new(),
            attempts: Attempts::default(),
            idle_max,
            is_secure,
        }
    }

    /// The reviewers of another configuration: sessions of those who are no more, or whose password is another, end.
    pub fn renew(&mut self, reviewers: Vec<Reviewer>, idle_max: Duration) {
        let next: BTreeMap<Arc<str>, Verifier> = reviewers.into_iter().map(|it| (it.name, it.verifier)).collect();
        let before = std::mem::replace(&mut self.reviewers, next);
        let is_kept = |name: &Arc<str>| {
            let both = before.get(name).zip(self.reviewers.get(name));
            both.is_some_and(|(one, other)| one.is_same(other))
        };
        self.sessions.retain(|_, session| is_kept(&session.reviewer));
        self.attempts.retain(is_kept);
        self.nobody = self.reviewers.values().next().cloned();
        self.idle_max = idle_max;
    }

    /// Somebody tries to log in from somewhere; `None`: too often lately, of which nobody is told.
    pub fn attempt(&mut self, name: &str, from: IpAddr, now: Moment) -> Option<Attempt> {
        let known = self.reviewers.get_key_value(name).map(|(name, verifier)| (Arc::clone(name), verifier.clone()));
        if !self.attempts.take(name, known.as_ref().map(|(name, _)| name), from, now) {
            return None;
        }
        let (reviewer, verifier) = match known {
            Some((name, verifier)) => (Some(name), verifier),
            None => (None, self.nobody.clone()?),
        };
        Some(Attempt { name: name.to_owned(), verifier, reviewer, from })
    }

    /// The password was right: a session begins. Gives its cookie.
    pub fn open(&mut self, proven: Proven, random: &[u8; 64], now: Moment) -> String {
        self.drop_ended(now);
        let Proven { reviewer, from } = proven;
        if self.sessions.len() >= SESSIONS_MAX {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.since).map(|(key, _)| *key);
            oldest.map(|key| self.sessions.remove(&key));
        }
        self.attempts.succeed(&reviewer, from, now);
        let (secret, token) = random.split_at(32);
        let secret = hexadecimal(secret);
        let session = Session { reviewer, token: hexadecimal(token), since: now, last: now };
        self.sessions.insert(key(&secret), session);
        self.cookie(&secret, LIFETIME.as_secs())
    }

    /// Who sends this `Cookie`.
    pub fn visit(&mut self, cookie: Option<&str>, now: Moment) -> Option<Visit> {
        self.drop_ended(now);
        let session = self.sessions.get_mut(&key(self::secret(cookie?, self.is_secure)?))?;
        session.last = now;
        Some(Visit { reviewer: Arc::clone(&session.reviewer), token: session.token.clone() })
    }

    /// The end of a session. Gives the cookie that takes the cookie away.
    pub fn close(&mut self, cookie: Option<&str>) -> String {
        if let Some(secret) = cookie.and_then(|cookie| secret(cookie, self.is_secure)) {
            self.sessions.remove(&key(secret));
        }
        self.cookie("", 0)
    }

    fn drop_ended(&mut self, now: Moment) {
        let idle_max = self.idle_max;
        self.sessions.retain(|_, session| now.since(session.last) <= idle_max && now.since(session.since) <= LIFETIME);
    }

    fn cookie(&self, secret: &str, seconds: u64) -> String {
        let name = name(self.is_secure);
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }
}

const fn name(is_secure: bool) -> &'static str {
    if is_secure { SECURE_COOKIE } else { COOKIE }
}

fn secret(cookie: &str, is_secure: bool) -> Option<&str> {
    cookie.split(';').find_map(|part| part.trim().strip_prefix(name(is_secure))?.strip_prefix('='))
}

fn key(secret: &str) -> [u8; 32] {
    *Digest::of(secret.as_bytes()).as_bytes()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn gate(is_secure: bool) -> Gate {
        let reviewer = |name: &str, password| Reviewer {
            name: name.into(),
            verifier: Verifier::derive(password, b"0123456789abcdef", NonZeroU32::MIN),
        };
        Gate::new(vec![reviewer("rita", "pencil"), reviewer("otto", "pen")], Duration::from_secs(60), is_secure)
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn tries(gate: &mut Gate, name: &str, password: &str, now: Moment) -> Option<Option<Proven>> {
        gate.attempt(name, HERE, now).map(|attempt| attempt.check(&password.into()))
    }

    fn proven(name: &str) -> Proven {
        Proven { reviewer: name.into(), from: HERE }
    }

    /// As a browser sends it back.
    fn sent(set: &str) -> &str {
        set.split(';').next().unwrap()
    }

    #[test]
    fn only_the_right_password_of_the_right_name_counts() {
        let mut gate = gate(false);
        assert_eq!(tries(&mut gate, "rita", "pencil", at(0)), Some(Some(proven("rita"))));
        for (name, password) in [("rita", "pen"), ("otto", "pencil"), ("nobody", "pencil"), ("", ""), ("rita", "")] {
            assert_eq!(tries(&mut gate, name, password, at(0)), Some(None), "{name}");
        }
    }

    #[test]
    fn guesses_are_slowed_until_somebody_shows_the_password() {
        let mut gate = gate(false);
        for name in ["rita", "nobody"] {
            let guessed = (0..100).filter(|_| tries(&mut gate, name, "x", at(0)).is_some()).count();
            assert_eq!(guessed, 5, "{name}");
        }
        // Another reviewer is not kept out by that.
        assert_eq!(tries(&mut gate, "otto", "pen", at(0)), Some(Some(proven("otto"))));
        assert_eq!(tries(&mut gate, "rita", "pencil", at(9)), None);
        let shown = tries(&mut gate, "rita", "pencil", at(10)).flatten().unwrap();
        gate.open(shown, &[1; 64], at(10));
        assert_eq!((0..5).filter(|_| tries(&mut gate, "rita", "x", at(10)).is_some()).count(), 5);
    }

    #[test]
    fn a_session_lasts_until_it_is_idle_old_or_closed() {
        let mut gate = gate(false);
        let cookie = gate.open(proven("rita"), &[7; 64], at(0));
        assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
        let cookie = sent(&cookie).to_owned();
        let visit = gate.visit(Some(&format!("a=b; {cookie}")), at(60)).unwrap();
        assert_eq!(&*visit.reviewer, "rita");
        assert!(visit.has_sent(&visit.token) && !visit.has_sent("") && !visit.has_sent(&visit.token[1..]));
        assert!(gate.visit(Some(&cookie), at(121)).is_none());
        let again = gate.open(proven("rita"), &[8; 64], at(0));
        for second in (0..13 * 3_600).step_by(50) {
            assert_eq!(gate.visit(Some(sent(&again)), at(second)).is_some(), second <= LIFETIME.as_secs());
        }
        let last = gate.open(proven("rita"), &[9; 64], at(0));
        assert!(gate.close(Some(sent(&last))).contains("Max-Age=0"));
        assert!(gate.visit(Some(sent(&last)), at(0)).is_none());
    }

    #[test]
    fn a_reload_ends_the_sessions_of_whom_it_takes_away() {
        let mut gate = gate(false);
        let [rita, otto] = ["rita", "otto"].map(|name| gate.open(proven(name), &[name.as_bytes()[0]; 64], at(0)));
        let (same, other) = (gate.reviewers["rita"].clone(), Verifier::derive("new", b"s", NonZeroU32::MIN));
        let named = |name: &str, verifier| Reviewer { name: name.into(), verifier };
        gate.renew(vec![named("rita", same), named("otto", other)], Duration::from_secs(60));
        assert!(gate.visit(Some(sent(&rita)), at(1)).is_some());
        assert!(gate.visit(Some(sent(&otto)), at(1)).is_none());
        gate.renew(Vec::new(), Duration::from_secs(60));
        assert!(gate.visit(Some(sent(&rita)), at(1)).is_none() && gate.attempt("rita", HERE, at(1)).is_none());
    }

    #[test]
    fn what_is_no_session_is_nobody() {
        let mut gate = gate(true);
        let cookie = gate.open(proven("rita"), &[7; 64], at(0));
        assert!(cookie.starts_with("__Host-tenantgate_review=") && cookie.ends_with("; Secure"), "{cookie}");
        assert!(gate.visit(Some(sent(&cookie)), at(1)).is_some());
        let plain = sent(&cookie).replace("__Host-", "");
        for cookie in
            [None, Some(""), Some("__Host-tenantgate_review="), Some("__Host-tenantgate_review"), Some(plain.as_str())]
        {
            assert!(gate.visit(cookie, at(1)).is_none(), "{cookie:?}");
        }
    }

    #[test]
    fn sessions_are_so_many_at_most() {
        let mut gate = gate(false);
        let first = gate.open(proven("rita"), &[1; 64], at(0));
        for number in 0..SESSIONS_MAX as u64 {
            let mut random = [0; 64];
            random[..8].copy_from_slice(&(number + 99).to_be_bytes());
            gate.open(proven("otto"), &random, at(1));
        }
        assert_eq!(gate.sessions.len(), SESSIONS_MAX);
        assert!(gate.visit(Some(sent(&first)), at(1)).is_none());
    }
}
