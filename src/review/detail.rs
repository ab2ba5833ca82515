//! One transaction, or one act of another kind, with all its records.
//!
//! Owns: what is on that page. Does not own: the frame around it, which records there are (`audit`).

use serde_json::Value;

use super::form::Form;
use super::frame::{Sight, begin, end, put_checked, put_token};
use super::gate::Visit;
use super::html::Html;
use crate::audit::{Deed, Fit, Leaf};

/// One transaction, with all its records.
#[must_use]
pub fn detail_page(sight: Sight<'_>, act: &Deed, leaves: &[Leaf], form: &Form) -> String {
    let mut html = begin("One transaction", Some(sight.visit), "transaction");
    html.raw("<h1>").text(if act.kind == "transaction" { "Transaction" } else { &act.kind });
    html.raw(" <span class=\"code\">").text(&act.id).raw("</span></h1>");
    put_marked(&mut html, sight.visit, leaves, form.value("marked"));
    put_checked(&mut html, sight);
    put_facts(&mut html, act, leaves);
    put_statements(&mut html, act, leaves);
    put_marks(&mut html, sight.visit, act, leaves);
    html.raw("<h2>Its records, and their place in the chain</h2><ol class=\"records\">");
    leaves.iter().for_each(|leaf| put_leaf(&mut html, leaf));
    html.raw("</ol>");
    end(html)
}

fn put_facts(html: &mut Html, act: &Deed, leaves: &[Leaf]) {
    let is_transaction = act.kind == "transaction";
    let number = |number: u64| is_transaction.then(|| number.to_string());
    let told =
        |name: &str| leaves.iter().find_map(|leaf| leaf.fields.get(name).map(in_words)).filter(|it| !it.is_empty());
    html.raw("<dl class=\"facts\">");
    for (name, value) in [
        ("Outcome", Some(act.outcome())),
        ("Reason", Some(act.reason.clone().unwrap_or_else(|| "–".to_owned()))),
        ("Actor", Some(act.login.clone()).filter(|login| !login.is_empty())),
        ("Authenticated by", act.method.clone()),
        ("On behalf of", act.on_behalf_of.clone()),
        ("From", Some(act.address.clone()).filter(|address| !address.is_empty())),
        ("Application", act.application.clone()),
        ("Began", Some(act.at.clone())),
        ("Ended", act.ended_at.clone()),
        ("Took", act.duration_us.map(|us| format!("{}.{:03} ms", us / 1_000, us % 1_000))),
        ("Database", Some(act.database.clone()).filter(|database| !database.is_empty())),
        ("Role on the server", Some(act.role.clone()).filter(|role| !role.is_empty())),
        ("Preset", Some(act.preset.clone()).filter(|preset| !preset.is_empty())),
        ("Tenant", act.tenant.clone()),
        ("Ticket", act.ticket.clone()),
        ("Emergency", act.emergency.clone()),
        ("Transaction on the server (xid)", act.xid.clone()),
        ("Tables", Some(act.tables.join(", ")).filter(|tables| !tables.is_empty())),
        ("Rows delivered", number(act.rows_delivered)),
        ("Rows written", number(act.rows_affected)),
        ("Proxy", told("node")),
        ("Its configuration", told("config")),
        ("Process on the server", told("server_process")),
        ("Version of the server", told("server_version")),
        ("About", act.about.clone()),
    ] {
        if let Some(value) = value {
            html.raw("<dt>").text(name).raw("</dt><dd>").text(&value).raw("</dd>");
        }
    }
    html.raw("</dl>");
}

/// Of a transaction as its last record has them, of another act in words.
fn put_statements(html: &mut Html, act: &Deed, leaves: &[Leaf]) {
    let noted =
        leaves.iter().rev().find_map(|leaf| leaf.fields.get("statements")?.as_array().filter(|it| !it.is_empty()));
    if act.kind == "transaction" {
        html.raw("<h2>Statements (").number(act.statements_total).raw(")</h2>");
    } else {
        html.raw("<h2>What was done</h2>");
    }
    if act.statements.is_empty() {
        html.raw("<p>None.</p>");
        return;
    }
    html.raw("<ol class=\"statements\">");
    for (index, text) in act.statements.iter().enumerate() {
        html.raw("<li><code>").text(text).raw("</code>");
        if let Some(note) = noted.and_then(|notes| notes.get(index)) {
            put_note(html, note);
        }
        html.raw("</li>");
    }
    html.raw("</ol>");
    if act.truncated {
        html.raw("<p class=\"quiet\">There was no room for more: rows and statements are counted all the same.</p>");
    }
}

/// What is known of one statement beside its text.
fn put_note(html: &mut Html, note: &Value) {
    html.raw("<ul class=\"notes\">");
    for (name, words) in [
        ("verb", "verb"),
        ("tables", "tables"),
        ("rows", "rows"),
        ("sqlstate", "failed with"),
        ("fingerprint", "fingerprint"),
        ("parameters", "parameters as keyed digests"),
    ] {
        let value = note.get(name).map(in_words).unwrap_or_default();
        if !value.is_empty() {
            html.raw("<li>").raw(words).raw(" <span class=\"code\">").text(&value).raw("</span></li>");
        }
    }
    html.raw("</ul>");
}

/// A value of a record; empty where there is none.
fn in_words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|it| if it.is_null() { "NULL".to_owned() } else { in_words(it) })
            .collect::<Vec<_>>()
            .join(", "),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

fn put_marks(html: &mut Html, visit: &Visit, act: &Deed, leaves: &[Leaf]) {
    html.raw("<h2 id=\"reviews\">Reviews</h2>");
    let marks: Vec<&Leaf> =
        leaves.iter().filter(|leaf| leaf.text("kind") == Some("review") && leaf.text("id") != Some(&act.id)).collect();
    if marks.is_empty() {
        html.raw("<p>Nobody has reviewed it.</p>");
    } else {
        html.raw("<ul>");
        for mark in marks {
            html.raw("<li>").text(mark.text("at").unwrap_or_default()).raw(" <strong>");
            html.text(mark.text("reviewer").unwrap_or_default()).raw("</strong> (");
            html.text(mark.text("verdict").unwrap_or_default()).raw("): ").text(mark.text("note").unwrap_or_default());
            html.raw("</li>");
        }
        html.raw("</ul>");
    }
    // What somebody has said of another is not itself reviewed.
    if act.kind == "review" {
        return;
    }
    html.raw("<form class=\"mark\" method=\"post\" action=\"mark\">");
    put_token(html, visit);
    html.raw("<input type=\"hidden\" name=\"id\" value=\"").text(&act.id).raw(
        "\"><fieldset><legend>What did you find?</legend>\
         <label><input type=\"radio\" name=\"verdict\" value=\"ok\" required> Nothing to object to</label>\
         <label><input type=\"radio\" name=\"verdict\" value=\"question\"> It raises a question</label></fieldset>\
         <div><label for=\"note\">Note (stays in the ledger for good)</label>\
         <input id=\"note\" name=\"note\" required maxlength=\"500\" autocomplete=\"off\"></div>\
         <div><button class=\"main\">Mark as reviewed by ",
    );
    html.text(&visit.reviewer).raw("</button></div></form>");
}

/// What the visitor has just marked, if that is what the ledger says: the address alone proves nothing.
fn put_marked(html: &mut Html, visit: &Visit, leaves: &[Leaf], id: &str) {
    let is_own = |leaf: &&Leaf| {
        let is = |name, text| leaf.text(name) == Some(text);
        is("kind", "review") && is("id", id) && is("reviewer", &visit.reviewer)
    };
    if let Some(mark) = leaves.iter().find(is_own) {
        html.raw("<div class=\"state good\" role=\"status\"><p>Your mark is in the ledger, as record ");
        html.number(sequence(mark)).raw(".</p></div>");
    }
}

fn sequence(leaf: &Leaf) -> u64 {
    leaf.fields.get("seq").and_then(Value::as_u64).unwrap_or_default()
}

fn put_leaf(html: &mut Html, leaf: &Leaf) {
    let text = |name: &str| leaf.text(name).unwrap_or_default();
    let sequence = sequence(leaf);
    html.raw("<li><p><strong>")
        .text(text("kind"))
        .raw("</strong>, record ")
        .number(sequence)
        .raw(", ")
        .text(text("at"))
        .raw(" ");
    let is_wrong = leaf.before == Fit::Differs || leaf.behind == Fit::Differs;
    html.raw(match (is_wrong, leaf.behind) {
        (true, _) => "<span class=\"tag bad\">does not fit its neighbours: changed</span>",
        (false, Fit::Alone) => "<span class=\"tag plain\">fits, nothing stands behind it yet</span>",
        (false, _) => "<span class=\"tag good\">fits both its neighbours</span>",
    });
    html.raw("</p><p class=\"quiet\">SHA-256 <span class=\"code\">").text(&leaf.digest.to_string()).raw("</span></p>");
    html.raw("<details><summary>All fields of record ").number(sequence).raw("</summary><dl class=\"facts\">");
    for (name, value) in &leaf.fields {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        html.raw("<dt>").text(name).raw("</dt><dd class=\"code\">").text(&value).raw("</dd>");
    }
    html.raw("</dl></details></li>");
}
