//! The pages: login, transactions, sums.
//!
//! Owns: what is on them, in which order, and how many rows. Does not own: the frame around them, one transaction (`detail`),
//! escaping (`html`), who may see them (`gate`).

use jiff::ToSpan as _;
use jiff::civil::Date;

use super::form::{Form, encode};
use super::frame::{Sight, begin, end, put_checked};
use super::gate::Visit;
use super::html::Html;
use crate::audit::{Deed, Filter, KINDS, Shelf, Sum, Totals, UNNAMED, ranked};

/// Rows of a page of the table.
const ROWS: usize = 50;

/// Days of the timeline.
const DAYS: usize = 14;

/// Rows of a sum.
const SUMS: usize = 50;

/// Pages back that can be asked for: the shelf is shorter.
const PAGES_MAX: usize = 10_000;

/// The form to log in with, after a try that failed with the reason.
#[must_use]
pub fn login_page(failure: Option<&str>) -> String {
    let mut html = begin("Log in", None, "");
    html.raw("<h1>Review of the ledger</h1>");
    if let Some(failure) = failure {
        html.raw("<div class=\"state bad\" role=\"alert\"><p>").text(failure).raw("</p></div>");
    }
    html.raw(
        "<form class=\"login\" method=\"post\" action=\"login\">\
         <div><label for=\"name\">Name</label>\
         <input id=\"name\" name=\"name\" autocomplete=\"username\" required maxlength=\"200\" autofocus></div>\
         <div><label for=\"password\">Password</label>\
         <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" required maxlength=\"1000\"></div>\
         <div><button class=\"main\">Log in</button></div></form>",
    );
    end(html)
}

/// Something could not be done.
#[must_use]
pub fn failure_page(visit: Option<&Visit>, title: &str, reason: &str) -> String {
    let mut html = begin(title, visit, "");
    html.raw("<h1>").text(title).raw("</h1><div class=\"state bad\" role=\"alert\"><p>").text(reason);
    html.raw("</p></div><p><a href=\"./\">To the transactions</a></p>");
    end(html)
}

/// A transaction was not marked.
#[must_use]
pub fn unmarked_page(visit: &Visit, reason: &str, id: &str) -> String {
    let mut html = begin("The mark is not written", Some(visit), "transaction");
    html.raw("<h1>The mark is not written</h1><div class=\"state bad\" role=\"alert\"><p>").text(reason);
    html.raw("</p></div><p><a href=\"transaction?id=").text(&encode(id)).raw("\">To the transaction</a></p>");
    end(html)
}

/// The timeline and the table.
#[must_use]
pub fn transactions_page(sight: Sight<'_>, form: &Form) -> String {
    let mut html = begin("Transactions", Some(sight.visit), "");
    html.raw("<h1>Transactions that crossed tenants</h1>");
    put_checked(&mut html, sight);
    if let Some(filter) = put_filters(&mut html, "./", form) {
        let mut totals = Totals::default();
        let fitting: Vec<&Deed> = sight.shelf.latest().filter(|act| filter.fits(act)).collect();
        fitting.iter().for_each(|act| totals.add(act));
        if fitting.is_empty() {
            html.raw("<p>Nothing fits.</p>");
            put_left_out(&mut html, sight.shelf);
        } else {
            put_days(&mut html, &totals, form);
            put_table(&mut html, sight, &fitting, form);
        }
    }
    end(html)
}

/// Sums by reason, actor and table.
#[must_use]
pub fn sums_page(sight: Sight<'_>, form: &Form) -> String {
    let mut html = begin("Sums", Some(sight.visit), "sums");
    html.raw("<h1>By reason, actor and table</h1>");
    put_checked(&mut html, sight);
    let Some(filter) = put_filters(&mut html, "sums", form) else { return end(html) };
    let mut totals = Totals::default();
    sight.shelf.latest().filter(|act| filter.fits(act)).for_each(|act| totals.add(act));
    for (group, sums) in totals.groups() {
        let (title, head) = match group {
            "reason" => ("By reason", "Reason"),
            "actor" => ("By actor", "Login"),
            "table" => ("By table", "Table"),
            _ => ("By day", "Day"),
        };
        html.raw("<h2>").raw(title).raw("</h2>");
        put_sums(&mut html, group, head, &ranked(group, sums), form);
    }
    put_left_out(&mut html, sight.shelf);
    end(html)
}

/// The form; gives the filter that it stands for. Of one that cannot be read it says so, and nothing is shown: everything would look
/// like what was asked for.
fn put_filters(html: &mut Html, action: &'static str, form: &Form) -> Option<Filter> {
    let mut filter = Filter::default();
    let set = |name: &'static str| filter.set(name, form.value(name)).err().map(|reason| (name, reason));
    let wrong: Vec<(&str, String)> = Filter::NAMES.into_iter().filter_map(set).collect();
    for (_, reason) in &wrong {
        html.raw("<div class=\"state bad\" role=\"alert\"><p>Nothing is shown: ").text(reason).raw("</p></div>");
    }
    let is_open = Filter::NAMES.iter().any(|name| !form.value(name).is_empty());
    html.raw("<details class=\"filters\"").raw(if is_open { " open>" } else { ">" });
    html.raw("<summary id=\"filters\">Filter</summary>");
    html.raw("<form class=\"filters\" method=\"get\" aria-labelledby=\"filters\" action=\"").raw(action).raw("\">");
    for (name, words, hint) in [
        ("since", "From (UTC)", "2026-11-23"),
        ("until", "To (UTC)", "2026-11-23"),
        ("actor", "Actor", "login, address …"),
        ("login", "Login, exactly", "ops"),
        ("reason", "Reason", "text in it"),
        ("table", "Table", "orders"),
        ("code", "Code", "TG179"),
        ("tenant", "Tenant", "of migrations, freezes"),
        ("rows_min", "Rows at least", "0"),
    ] {
        html.raw("<div><label for=\"f-").raw(name).raw("\">").raw(words).raw("</label><input id=\"f-").raw(name);
        html.raw("\" name=\"").raw(name).raw("\" placeholder=\"").raw(hint).raw("\" value=\"").text(form.value(name));
        html.raw(if wrong.iter().any(|(other, _)| *other == name) { "\" aria-invalid=\"true" } else { "" });
        html.raw("\" maxlength=\"200\"></div>");
    }
    put_choice(html, form, "outcome", "Outcome", &["committed", "rolled_back", "failed", "unknown", "refused", "none"]);
    put_choice(html, form, "preset", "Preset", &["bypass", "migration", "claimed_bypass"]);
    put_choice(html, form, "kind", "Kind", &KINDS);
    put_choice(html, form, "reviewed", "Reviewed", &["yes", "no"]);
    html.raw("<div class=\"buttons\"><button class=\"main\">Filter</button><a href=\"")
        .raw(action)
        .raw("\">Clear</a></div></form></details>");
    wrong.is_empty().then_some(filter)
}

fn put_choice(html: &mut Html, form: &Form, name: &str, words: &str, choices: &[&str]) {
    html.raw("<div><label for=\"f-").text(name).raw("\">").text(words).raw("</label><select id=\"f-").text(name);
    html.raw("\" name=\"").text(name).raw("\"><option value=\"\">any</option>");
    for choice in choices {
        html.raw("<option")
            .raw(if form.value(name) == *choice { " selected>" } else { ">" })
            .text(choice)
            .raw("</option>");
    }
    html.raw("</select></div>");
}

fn put_days(html: &mut Html, totals: &Totals, form: &Form) {
    html.raw("<h2>Timeline</h2>");
    let days = days(totals);
    let most = totals.by_day.values().map(|sum| sum.acts).max().unwrap_or(1).max(1);
    html.raw("<ol class=\"days\">");
    for (day, sum) in &days {
        let Some(sum) = sum else {
            html.raw("<li class=\"none\"><span>").text(day).raw("</span><span></span><span>none</span></li>");
            continue;
        };
        let query = Form::parse(&form.with("since", day)).with("until", day);
        html.raw("<li><a href=\"./?").text(&Form::parse(&query).with("page", "")).raw("\">").text(day);
        html.raw("</a><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect height=\"10\" width=\"");
        html.number((sum.acts * 100 / most).max(1)).raw("\"/></svg><span>").number(sum.acts);
        html.raw(if sum.acts == 1 { " act, " } else { " acts, " })
            .number(sum.unreviewed)
            .raw(" not reviewed</span></li>");
    }
    html.raw("</ol>");
    let shown = days.iter().filter(|(_, sum)| sum.is_some()).count();
    if totals.by_day.len() > shown {
        html.raw("<p class=\"quiet\">And ")
            .number((totals.by_day.len() - shown) as u64)
            .raw(" earlier days with something: give From and To.</p>");
    }
}

/// The latest days without a gap: one on which nothing was done is there, too.
fn days(totals: &Totals) -> Vec<(String, Option<&Sum>)> {
    let dates: Vec<Date> = totals.by_day.keys().filter_map(|day| day.parse().ok()).collect();
    let Some((first, last)) = dates.first().zip(dates.last()) else { return Vec::new() };
    let back = std::iter::successors(Some(*last), |day| day.checked_sub(1.day()).ok().filter(|day| day >= first));
    let named = back.take(DAYS).map(|day| day.to_string());
    named.map(|day| (day.clone(), totals.by_day.get(&day))).collect()
}

fn put_table(html: &mut Html, sight: Sight<'_>, fitting: &[&Deed], form: &Form) {
    let page = form.value("page").parse::<usize>().unwrap_or(0).min(PAGES_MAX);
    let rows = fitting.iter().skip(page * ROWS).take(ROWS);
    let first = (page * ROWS).min(fitting.len());
    let last = (first + ROWS).min(fitting.len());
    html.raw("<h2>All that fit</h2><table role=\"table\"><caption>");
    if last > first {
        html.number(first as u64 + 1).raw(" to ").number(last as u64).raw(" of ");
    }
    html.number(fitting.len() as u64).raw(", the latest first</caption><thead role=\"rowgroup\"><tr role=\"row\">");
    for (name, class) in COLUMNS {
        html.raw("<th scope=\"col\" role=\"columnheader\" class=\"").raw(class).raw("\">").raw(name).raw("</th>");
    }
    html.raw("</tr></thead><tbody role=\"rowgroup\">");
    rows.for_each(|act| put_row(html, act));
    html.raw("</tbody></table><nav class=\"pages\" aria-label=\"Rows\">");
    if page > 0 {
        html.raw("<a rel=\"prev\" href=\"./?").text(&form.with("page", &(page - 1).to_string())).raw("\">Later</a>");
    }
    if last < fitting.len() {
        html.raw("<a rel=\"next\" href=\"./?").text(&form.with("page", &(page + 1).to_string())).raw("\">Earlier</a>");
    }
    html.raw("</nav>");
    put_left_out(html, sight.shelf);
}

const COLUMNS: [(&str, &str); 8] = [
    ("Began", "time"),
    ("What", ""),
    ("Actor", ""),
    ("Reason", ""),
    ("Tables", ""),
    ("Rows", "number"),
    ("Outcome", ""),
    ("Reviewed", ""),
];

fn put_row(html: &mut Html, act: &Deed) {
    let began = act.at.get(..19).unwrap_or(&act.at).replace('T', " ");
    html.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\" class=\"time\" data-label=\"Began\"><a href=\"transaction?id=");
    html.text(&encode(&act.id))
        .raw("\">")
        .text(&began)
        .raw("</a></th><td role=\"cell\" class=\"word\" data-label=\"What\"><span>")
        .text(&act.kind.replace('_', " "))
        .raw("</span></td><td role=\"cell\" data-label=\"Actor\"><span class=\"short\">");
    html.text(&act.login);
    if let Some(other) = &act.on_behalf_of {
        html.raw(" for ").text(other);
    }
    html.raw("</span></td><td role=\"cell\" data-label=\"Reason\"><span class=\"short\">");
    html.text(act.reason.as_deref().unwrap_or("–"))
        .raw("</span></td><td role=\"cell\" data-label=\"Tables\"><span class=\"short\">");
    html.text(&some(&act.tables))
        .raw("</span></td><td role=\"cell\" class=\"number\" data-label=\"Rows\"><span>")
        .number(act.rows());
    html.raw("</span></td><td role=\"cell\" data-label=\"Outcome\">");
    put_outcome(html, act);
    html.raw("</td><td role=\"cell\" data-label=\"Reviewed\">");
    put_review(html, act);
    html.raw("</td></tr>");
}

/// The first few names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 4;
    if names.is_empty() {
        return "–".to_owned();
    }
    let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

fn put_outcome(html: &mut Html, act: &Deed) {
    html.raw(match act.result.as_deref() {
        Some("committed") => "<span class=\"tag good\">",
        Some("failed" | "refused") => "<span class=\"tag bad\">",
        Some("unknown") | None => "<span class=\"tag odd\">",
        Some(_) => "<span class=\"tag plain\">",
    });
    html.text(act.result.as_deref().unwrap_or("no outcome")).raw("</span>");
}

fn put_review(html: &mut Html, act: &Deed) {
    match act.verdict.as_deref() {
        Some("question") if act.kind != "review" => html.raw("<span class=\"tag bad\">question</span>"),
        Some(verdict) => html.raw("<span class=\"tag good\">").text(verdict).raw("</span>"),
        None => html.raw("<span class=\"tag plain\">no</span>"),
    };
}

fn put_left_out(html: &mut Html, shelf: &Shelf) {
    if shelf.taken_off() > 0 {
        html.raw("<p class=\"quiet\">").number(shelf.taken_off());
        html.raw(" older ones are not on this page: <code>tenantgate ledger list</code> reads all of them.</p>");
    }
    if shelf.broken > 0 {
        html.raw("<p class=\"quiet\">").number(shelf.broken as u64).raw(" lines of the ledger are no records.</p>");
    }
}

fn put_sums(html: &mut Html, group: &str, head: &'static str, rows: &[(&str, &Sum)], form: &Form) {
    html.raw(
        "<table role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\"><th scope=\"col\" role=\"columnheader\">",
    )
    .raw(head)
    .raw("</th>");
    for name in ["Acts", "Committed", "Failed", "Unknown", "Not reviewed", "Rows read", "Rows written"] {
        html.raw("<th scope=\"col\" role=\"columnheader\" class=\"number\">").raw(name).raw("</th>");
    }
    html.raw("</tr></thead><tbody role=\"rowgroup\">");
    for (value, sum) in rows.iter().take(SUMS) {
        html.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\" data-label=\"").raw(head).raw("\">");
        put_key(html, group, value, form);
        html.raw("</th>");
        for (name, number) in [
            ("Acts", sum.acts),
            ("Committed", sum.committed),
            ("Failed", sum.failed),
            ("Unknown", sum.unknown),
            ("Not reviewed", sum.unreviewed),
            ("Rows read", sum.rows_delivered),
            ("Rows written", sum.rows_affected),
        ] {
            html.raw("<td role=\"cell\" class=\"number\" data-label=\"")
                .raw(name)
                .raw("\">")
                .number(number)
                .raw("</td>");
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table>");
    if rows.is_empty() {
        html.raw("<p>Nothing fits.</p>");
    }
    if rows.len() > SUMS {
        html.raw("<p class=\"quiet\">And ").number((rows.len() - SUMS) as u64).raw(" more.</p>");
    }
}

/// With the filter that leads to what is summed, where there is one.
fn put_key(html: &mut Html, group: &str, value: &str, form: &Form) {
    if value.is_empty() || UNNAMED.contains(&value) {
        html.raw("<span>").text(if value.is_empty() { "(none)" } else { value }).raw("</span>");
        return;
    }
    let query = match group {
        "day" => Form::parse(&form.with("since", value)).with("until", value),
        "actor" => form.with("login", value),
        group => form.with(group, value),
    };
    html.raw("<a href=\"./?").text(&Form::parse(&query).with("page", "")).raw("\"><span class=\"short\">").text(value);
    html.raw("</span></a>");
}
