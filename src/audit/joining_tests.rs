//! Lines of a ledger, joined both ways, and one transaction with all its records.

use super::super::{Digest, Dossier, Filter, Fit, Wanted};
use super::*;

/// A chain of these records.
fn ledger(records: &[&str]) -> Vec<String> {
    let mut prev = Digest::NONE;
    let mut lines = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let (seq, minute) = (number + 1, number % 60);
        let line =
            format!("{{\"v\":3,\"seq\":{seq},\"at\":\"2026-11-23T09:{minute:02}:00Z\",\"prev\":\"{prev}\",{record}}}");
        prev = Digest::of(line.as_bytes());
        lines.push(line);
    }
    lines
}

const INTENT: &str = r#""kind":"intent","id":"a","login":"ops","address":"::1","database":"d","role":"r","preset":"bypass","reason":"ticket 1","client":4"#;
const PRECOMMIT: &str =
    r#""kind":"precommit","id":"a","login":"ops","address":"::1","xid":"77","tables":["t"],"rows_affected":2"#;
const OUTCOME: &str = r#""kind":"outcome","id":"a","login":"ops","address":"::1","result":"committed","xid":"77","statements":[{"class":"insert","text":"INSERT …"},{"class":"do"}],"statements_total":2,"tables":["t"],"rows_affected":2,"duration_us":5"#;
const BOOT: &str = r#""kind":"boot","id":"z""#;
const RECONCILED: &str = r#""kind":"reconciled","id":"a","result":"committed","evidence":"xact_status","xid":"77""#;
const REVIEW: &str = r#""kind":"review","id":"m","transaction":"a","reviewer":"rita","verdict":"ok","note":"as asked""#;
const FREEZE: &str = r#""kind":"freeze","id":"f","login":"admin","address":"::1","tenant":"acme","reason":"leak""#;

fn joined(lines: &[String]) -> (Vec<Deed>, usize) {
    let mut late = Late::default();
    lines.iter().for_each(|line| late.take(line.as_bytes()));
    let mut joiner = Joiner::new(late);
    let mut acts = Vec::new();
    lines.iter().for_each(|line| joiner.take(line.as_bytes(), &mut |act| acts.push(act)));
    let broken = joiner.end(&mut |act| acts.push(act));
    (acts, broken)
}

fn shelved(lines: &[String]) -> Vec<Deed> {
    let mut shelf = Shelf::new(100);
    lines.iter().for_each(|line| shelf.take(line.as_bytes()));
    let mut acts: Vec<Deed> = shelf.latest().cloned().collect();
    acts.reverse();
    acts
}

#[test]
fn both_ways_of_joining_tell_the_same() {
    let records: &[&[&str]] = &[
        &[BOOT, INTENT, OUTCOME],
        &[BOOT, INTENT, PRECOMMIT, OUTCOME, FREEZE, REVIEW],
        &[BOOT, INTENT, PRECOMMIT, BOOT, RECONCILED],
        &[BOOT, INTENT],
        &[PRECOMMIT, OUTCOME],
        &[OUTCOME],
        &[BOOT, FREEZE, REVIEW],
    ];
    for records in records {
        let lines = ledger(records);
        let (mut acts, broken) = joined(&lines);
        acts.sort_by_key(|act| act.seq);
        assert_eq!((&acts, broken), (&shelved(&lines), 0), "{records:?}");
    }
}

#[test]
fn an_act_has_all_that_its_records_say() {
    let (acts, _) = joined(&ledger(&[BOOT, INTENT, PRECOMMIT, OUTCOME, REVIEW]));
    let act = &acts[0];
    assert_eq!((act.kind.as_str(), act.seq, act.reason.as_deref()), ("transaction", 2, Some("ticket 1")));
    assert_eq!((act.result.as_deref(), act.xid.as_deref(), act.rows()), (Some("committed"), Some("77"), 2));
    assert_eq!(act.statements, ["INSERT …", "(do)"]);
    assert_eq!((act.reviews, act.reviewer.as_deref(), act.verdict.as_deref()), (1, Some("rita"), Some("ok")));
    assert_eq!((acts[1].kind.as_str(), acts[1].about.as_deref()), ("review", Some("a")));
    // Reviews are marks first of all.
    assert_eq!(acts.iter().filter(|act| Filter::default().fits(act)).count(), 1);
}

#[test]
fn what_a_crash_left_open_is_told_as_far_as_it_came() {
    let (acts, _) = joined(&ledger(&[BOOT, INTENT, PRECOMMIT, BOOT]));
    assert_eq!((acts[0].outcome().as_str(), acts[0].tables.as_slice()), ("no outcome", &["t".to_owned()][..]));
    let (acts, _) = joined(&ledger(&[BOOT, INTENT, PRECOMMIT, BOOT, RECONCILED]));
    assert_eq!(acts[0].outcome(), "committed (found out later: xact_status)");
}

#[test]
fn torn_lines_are_counted_and_later_versions_shown() {
    let mut lines = ledger(&[BOOT, r#""kind":"moon","id":"q","login":"ops""#]);
    lines.push("{\"v\":3,\"kind\":\"int".into());
    let (acts, broken) = joined(&lines);
    assert_eq!((acts.len(), acts[0].kind.as_str(), broken), (1, "moon", 1));
}

#[test]
fn a_shelf_holds_the_latest_and_no_more() {
    let mut shelf = Shelf::new(3);
    for number in 0..10 {
        shelf.take(INTENT.replace("\"a\"", &format!("\"i{number}\"")).as_bytes());
        shelf.take(format!("{{{}}}", INTENT.replace("\"a\"", &format!("\"i{number}\""))).as_bytes());
    }
    let ids: Vec<&str> = shelf.latest().map(|act| act.id.as_str()).collect();
    assert_eq!((ids.as_slice(), shelf.taken_off(), shelf.broken), (&["i9", "i8", "i7"][..], 7, 10));
    assert!(shelf.find("i6").is_none() && shelf.find("i8").is_some());
    // An outcome of one that was taken off is shown by itself.
    shelf.take(format!("{{{}}}", OUTCOME.replace("\"a\"", "\"i0\"")).as_bytes());
    assert_eq!(shelf.find("i0").and_then(|act| act.result.as_deref()), Some("committed"));
}

#[test]
fn memory_is_that_of_open_transactions() {
    let mut joiner = Joiner::new(Late::default());
    let mut count = 0;
    for number in 0..20_000 {
        let id = format!("\"i{number}\"");
        joiner.take(format!("{{{}}}", INTENT.replace("\"a\"", &id)).as_bytes(), &mut |_| count += 1);
        joiner.take(format!("{{{}}}", OUTCOME.replace("\"a\"", &id)).as_bytes(), &mut |_| count += 1);
        assert!(joiner.open.is_empty());
    }
    assert_eq!(count, 20_000);
}

fn dossier(lines: &[String], wanted: &Wanted) -> Option<(Deed, Vec<super::super::Leaf>)> {
    let mut dossier = Dossier::new(wanted);
    lines.iter().for_each(|line| dossier.take(line.as_bytes()));
    dossier.end()
}

#[test]
fn a_dossier_has_every_record_and_its_place() {
    let mut lines = ledger(&[BOOT, INTENT, FREEZE, PRECOMMIT, OUTCOME, BOOT, REVIEW]);
    let (act, leaves) = dossier(&lines, &Wanted::parse("a")).unwrap();
    let places: Vec<_> =
        leaves.iter().map(|leaf| (leaf.line, leaf.text("kind").unwrap(), leaf.before, leaf.behind)).collect();
    assert_eq!(
        places,
        [
            (2, "intent", Fit::Fits, Fit::Fits),
            (4, "precommit", Fit::Fits, Fit::Fits),
            (5, "outcome", Fit::Fits, Fit::Fits),
            (7, "review", Fit::Fits, Fit::Alone)
        ]
    );
    assert_eq!((act.result.as_deref(), act.reviews), (Some("committed"), 1));
    // Somebody has changed the outcome.
    lines[4] = lines[4].replace("committed", "rolled_back");
    let (_, leaves) = dossier(&lines, &Wanted::Id("a".into())).unwrap();
    assert_eq!((leaves[1].behind, leaves[2].before, leaves[2].behind), (Fit::Fits, Fit::Fits, Fit::Differs));
    assert!(dossier(&lines, &Wanted::parse("b")).is_none());
    assert!(dossier(&lines, &Wanted::parse("")).is_none());
}

#[test]
fn a_number_leads_to_its_transaction() {
    let lines = ledger(&[BOOT, INTENT, OUTCOME, REVIEW]);
    for number in [2, 3, 4] {
        let mut dossier = Dossier::new(&Wanted::Sequence(number));
        lines.iter().for_each(|line| dossier.take(line.as_bytes()));
        assert_eq!(dossier.id(), Some("a"), "{number}");
    }
}
