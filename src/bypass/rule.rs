//! A login's rules, and which of them counts for a reason.
//!
//! Owns: the choice, and the circumstances that a rule asks for. Does not own: what a running transaction may do (`permit`),
//! where rules are written (`config`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};

use super::hours::Hours;
use super::permit::{Permit, Standing};
use super::tables::Tables;
use crate::auth::{AddressPattern, PeerAddress};
use crate::fault::{Code, Fault};
use crate::time::TimeOfDay;

/// Most memory of one compiled pattern: patterns are an operator's, and no document.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Why a text is none, in the words of its compiler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternFault(String);

impl Pattern {
    /// One that has to fit a text as a whole.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn whole(text: &str) -> Result<Self, PatternFault> {
        // Alone it has to be one, too: `a)|(b` would be none in parentheses of its own.
        Self::part(text)?;
        Self::part(&format!("^(?:{text})$"))
    }

    /// One that has to be found in a text.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn part(text: &str) -> Result<Self, PatternFault> {
        let compiled = RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build();
        compiled.map(Self).map_err(|fault| PatternFault(one_line(&fault.to_string())))
    }

    /// The first part of the text that fits.
    #[must_use]
    pub fn find<'t>(&self, text: &'t str) -> Option<&'t str> {
        self.0.find(text).map(|found| found.as_str())
    }

    fn fits(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The compiler draws an arrow under the place: its last line says what is wrong.
fn one_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").trim().to_owned()
}

/// What a login may do for reasons of one kind. What is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which reasons it is about; without it all.
    pub reason: Option<Pattern>,
    /// Where.
    pub databases: Option<BTreeSet<Arc<str>>>,
    /// What may be named.
    pub tables: Option<Tables>,
    /// Nothing may be written.
    pub read_only: bool,
    /// How long a transaction may take.
    pub duration: Option<Duration>,
    /// How many rows it may read and write together.
    pub rows: Option<u64>,
    /// How many statements it may have.
    pub statements: Option<u64>,
    /// Until when.
    pub expires: Option<TimeOfDay>,
    /// What the reason has to hold.
    pub ticket: Option<Pattern>,
    /// Where from.
    pub addresses: Option<Vec<AddressPattern>>,
    /// At what times.
    pub hours: Option<Hours>,
}

/// What counts for the bypasses of one session.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The rules of its login, the first that fits counts; without any nothing is limited.
    pub rules: Arc<[Rule]>,
    /// Nothing is let through but in an emergency.
    pub only_in_emergency: bool,
    /// Least visible characters of a reason.
    pub reason_chars_min: usize,
    /// The database it asked for.
    pub database: Arc<str>,
    /// Where it comes from.
    pub address: PeerAddress,
}

impl Terms {
    /// Whether a transaction may begin for this reason, and what it may do.
    ///
    /// # Errors
    /// The fault that the client is to see.
    pub fn admit(&self, reason: &str, standing: &Standing) -> Result<Permit, Fault> {
        if let Some(why) = &standing.frozen {
            return Err(Fault::of(Code::BypassFrozen).with_detail(format!("The reason given is: {why}")));
        }
        check_quality(reason, self.reason_chars_min)?;
        if let Some(emergency) = standing.emergency.as_ref().filter(|emergency| emergency.until > standing.now) {
            return Ok(Permit::emergency(emergency.clone()));
        }
        let Some(at) = fitting(&self.rules, reason, self.only_in_emergency)? else {
            return Ok(Permit::unlimited());
        };
        if let Some(what) = self.rules.get(at).and_then(|rule| self.obstacle(rule, reason, standing.now)) {
            let detail = format!("{what} (Rule {} of the login.)", at + 1);
            return Err(Fault::of(Code::BypassOutside).with_detail(detail));
        }
        Ok(Permit::of_rule(Arc::clone(&self.rules), at))
    }

    /// What stands in the way of a rule that fits.
    fn obstacle(&self, rule: &Rule, reason: &str, now: TimeOfDay) -> Option<String> {
        if rule.databases.as_ref().is_some_and(|databases| !databases.contains(&self.database)) {
            return Some(format!("The limit is databases: {:?} is none of them.", self.database));
        }
        if rule.addresses.as_ref().is_some_and(|list| !list.iter().any(|pattern| pattern.holds(self.address))) {
            return Some(format!("The limit is addresses: {} is none of them.", self.address));
        }
        if rule.expires.is_some_and(|until| until <= now) {
            return Some("The limit is expires: it has passed.".to_owned());
        }
        if rule.hours.as_ref().is_some_and(|hours| hours.remaining_micros(now).is_none()) {
            return Some("The limit is hours: it is outside of them now.".to_owned());
        }
        if rule.ticket.as_ref().is_some_and(|pattern| pattern.find(reason).is_none()) {
            return Some("The limit is ticket: the reason names none.".to_owned());
        }
        None
    }
}

/// What a transaction for this reason may do outside of emergencies, if the circumstances of its rule are given: place, time, ticket.
///
/// # Errors
/// No circumstances would help.
pub fn permit_for(
    rules: &Arc<[Rule]>,
    reason: &str,
    chars_min: usize,
    only_in_emergency: bool,
) -> Result<Permit, Fault> {
    check_quality(reason, chars_min)?;
    let at = fitting(rules, reason, only_in_emergency)?;
    Ok(at.map_or_else(Permit::unlimited, |at| Permit::of_rule(Arc::clone(rules), at)))
}

/// Which rule counts for a reason; `None` where there are no rules.
fn fitting(rules: &[Rule], reason: &str, only_in_emergency: bool) -> Result<Option<usize>, Fault> {
    let uncovered = |detail: &'static str| Err(Fault::of(Code::BypassNotCovered).with_detail(detail));
    if only_in_emergency {
        return uncovered("The login may bypass in an emergency only, and none is open for it.");
    }
    if rules.is_empty() {
        return Ok(None);
    }
    match rules.iter().position(|rule| rule.reason.as_ref().is_none_or(|pattern| pattern.fits(reason))) {
        None => uncovered("No rule of the login fits the reason."),
        found => Ok(found),
    }
}

/// A reason that says nothing is none, whatever its length.
///
/// # Errors
/// It has fewer visible characters than `chars_min`, or repeats one.
pub fn check_quality(reason: &str, chars_min: usize) -> Result<(), Fault> {
    let visible = reason.chars().filter(is_visible).count();
    if visible < chars_min {
        let detail = format!("It has {visible} visible characters; {chars_min} are needed.");
        return Err(Fault::of(Code::ReasonRefused).with_detail(detail));
    }
    let mut letters = reason.chars().filter(is_visible).flat_map(char::to_lowercase);
    let first = letters.next();
    if chars_min > 1 && letters.all(|letter| Some(letter) == first) {
        return Err(Fault::of(Code::ReasonRefused).with_detail("It repeats one character."));
    }
    Ok(())
}

/// Whether a reader sees it: neither spaces nor what only joins, turns or fills (Unicode's Default_Ignorable_Code_Point and the
/// empty Braille cell).
#[expect(clippy::trivially_copy_pass_by_ref, reason = "a filter of characters")]
fn is_visible(c: &char) -> bool {
    let is_ignorable = matches!(
        *c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    );
    !c.is_whitespace() && !c.is_control() && !is_ignorable
}

#[cfg(test)]
mod tests {
    use super::super::emergency::{Emergency, EmergencyId};
    use super::*;

    const NOW: TimeOfDay = TimeOfDay::from_unix_micros(1_795_392_000_000_000);

    fn terms(rules: Vec<Rule>) -> Terms {
        Terms {
            rules: rules.into(),
            only_in_emergency: false,
            reason_chars_min: 8,
            database: "shop".into(),
            address: PeerAddress::Tcp(([10, 0, 0, 7], 5).into()),
        }
    }

    fn standing() -> Standing {
        Standing { now: NOW, frozen: None, emergency: None }
    }

    fn code(terms: &Terms, reason: &str, standing: &Standing) -> Option<Code> {
        terms.admit(reason, standing).err().and_then(|fault| fault.code)
    }

    fn detail(terms: &Terms, reason: &str) -> String {
        terms.admit(reason, &standing()).unwrap_err().detail.unwrap().into_owned()
    }

    #[test]
    fn a_reason_has_to_say_something() {
        let terms = terms(vec![]);
        for bad in [
            "short",
            "a b c d",
            "xxxxxxxxxxxx",
            "XxXxXxXxXx",
            "........  ....",
            "-",
            &"\u{200b}\u{200c}".repeat(9),
            "\u{2060}a\u{feff}b\u{ad}c\u{3164}d\u{e0041}",
        ] {
            assert_eq!(code(&terms, bad, &standing()), Some(Code::ReasonRefused), "{bad:?}");
        }
        for good in ["ticket 4711", "abababab", "Überprüfung"] {
            assert_eq!(code(&terms, good, &standing()), None, "{good:?}");
        }
        let short = Terms { reason_chars_min: 1, ..terms };
        assert_eq!(code(&short, "x", &standing()), None);
    }

    #[test]
    fn the_first_rule_that_fits_the_whole_reason_counts() {
        let of = |pattern: &str, rows| Rule {
            reason: Some(Pattern::whole(pattern).unwrap()),
            rows: Some(rows),
            ..Rule::default()
        };
        let terms = terms(vec![of("incident .*", 1), of("in.*", 2), of("a|b", 3)]);
        let rows = |reason: &str| terms.admit(reason, &standing()).unwrap().rule().unwrap().rows;
        assert_eq!((rows("incident 42"), rows("inventory")), (Some(1), Some(2)));
        for reason in ["an incident 42", "aaaab or b", "a and more"] {
            assert_eq!(code(&terms, reason, &standing()), Some(Code::BypassNotCovered), "{reason}");
        }
    }

    #[test]
    fn each_circumstance_can_stand_in_the_way() {
        let good = || Rule {
            databases: Some(["shop".into()].into()),
            addresses: Some(vec![AddressPattern::Block(crate::auth::Cidr::parse("10.0.0.0/8").unwrap())]),
            expires: Some(TimeOfDay::from_unix_micros(NOW.unix_micros() + 1)),
            hours: Some(Hours::parse(["Mon 00:00-01:00"]).unwrap()),
            ticket: Some(Pattern::part("OPS-[0-9]+").unwrap()),
            ..Rule::default()
        };
        assert_eq!(code(&terms(vec![good()]), "see OPS-12 please", &standing()), None);
        let bad: [(&str, Rule); 5] = [
            ("databases", Rule { databases: Some(["other".into()].into()), ..good() }),
            ("addresses", Rule { addresses: Some(vec![AddressPattern::Local]), ..good() }),
            ("expires", Rule { expires: Some(NOW), ..good() }),
            ("hours", Rule { hours: Some(Hours::parse(["Tue 00:00-01:00"]).unwrap()), ..good() }),
            ("ticket", Rule { ticket: Some(Pattern::part("INC-[0-9]+").unwrap()), ..good() }),
        ];
        for (what, rule) in bad {
            let told = detail(
                &terms(vec![Rule { reason: Some(Pattern::whole("other").unwrap()), ..good() }, rule]),
                "see OPS-12 please",
            );
            assert!(told.contains(&format!("limit is {what}")) && told.contains("Rule 2"), "{what}: {told}");
        }
    }

    #[test]
    fn an_open_emergency_goes_beyond_the_rules_and_a_freeze_ends_all() {
        let until = TimeOfDay::from_unix_micros(NOW.unix_micros() + 60_000_000);
        let emergency = Emergency {
            id: EmergencyId(uuid::Uuid::nil()),
            login: "ops".into(),
            until,
            reason: "fire".into(),
            by: "root".into(),
            address: "here".into(),
            at: NOW,
        };
        let open = Standing { emergency: Some(Arc::new(emergency)), ..standing() };
        let closed = Terms { only_in_emergency: true, ..terms(vec![]) };
        assert_eq!(code(&closed, "the house burns", &standing()), Some(Code::BypassNotCovered));
        let permit = closed.admit("the house burns", &open).unwrap();
        assert_eq!(permit.remaining(NOW).map(|(left, _)| left), Some(Duration::from_secs(60)));
        // It needs a reason all the same, and ends in time.
        assert_eq!(code(&closed, "fire", &open), Some(Code::ReasonRefused));
        assert_eq!(
            code(&closed, "the house burns", &Standing { now: until, ..open.clone() }),
            Some(Code::BypassNotCovered)
        );
        let frozen = Standing { frozen: Some("a leak".into()), ..open };
        assert_eq!(code(&closed, "the house burns", &frozen), Some(Code::BypassFrozen));
    }

    #[test]
    fn a_pattern_is_one_by_itself() {
        for bad in ["(", "a)|(b", "[z-a]", "x{1000000}{1000}"] {
            assert!(Pattern::whole(bad).is_err(), "{bad}");
        }
    }
}
