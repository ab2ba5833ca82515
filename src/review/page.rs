//! The pages: login, transactions, sums, one transaction.
//!
//! Owns: what is on them, in which order, and how many rows. Does not own: escaping (`html`), who may see them (`gate`).

use jiff::Timestamp;

use super::form::Form;
use super::gate::Visit;
use super::html::Html;
use crate::audit::{Broken, Deed, Filter, Fit, Leaf, Shelf, Sum, Totals, Verified, ranked};

/// Rows of a page of the table.
const ROWS: usize = 50;

/// Days of the timeline.
const DAYS: usize = 7;

/// Rows of a sum.
const SUMS: usize = 50;

/// Pages back that can be asked for: the shelf is shorter.
const PAGES_MAX: usize = 10_000;

/// Whether the ledger is what was written, as far as it was looked at.
#[derive(Clone, Debug, Default)]
pub enum Checked {
    /// It was not looked at yet.
    #[default]
    NotYet,
    /// Nothing is wrong with it.
    Good {
        /// What was found.
        verified: Verified,
        /// When it was last looked at for more.
        at: Timestamp,
        /// When all of it was read from its beginning on.
        whole_at: Timestamp,
    },
    /// Something is.
    Wrong {
        /// The first of it.
        broken: Broken,
        /// The file it is in.
        file: String,
        /// When that was found.
        at: Timestamp,
    },
    /// It cannot be read.
    Unreadable(String),
}

/// What pages are made of.
#[derive(Clone, Copy)]
pub struct Sight<'s> {
    /// Who looks.
    pub visit: &'s Visit,
    /// The last acts.
    pub shelf: &'s Shelf,
    /// Whether they are what was written.
    pub checked: &'s Checked,
}

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

/// The timeline and the table.
#[must_use]
pub fn transactions_page(sight: Sight<'_>, form: &Form) -> String {
    let mut html = begin("Transactions", Some(sight.visit), "");
    html.raw("<h1>Transactions that crossed tenants</h1>");
    put_checked(&mut html, sight);
    let filter = put_filters(&mut html, "./", form);
    let mut totals = Totals::default();
    let fitting: Vec<&Deed> = sight.shelf.latest().filter(|act| filter.fits(act)).collect();
    fitting.iter().for_each(|act| totals.add(act));
    put_days(&mut html, &totals, form);
    put_table(&mut html, sight, &fitting, form);
    end(html)
}

/// Sums by reason, actor and table.
#[must_use]
pub fn sums_page(sight: Sight<'_>, form: &Form) -> String {
    let mut html = begin("Sums", Some(sight.visit), "sums");
    html.raw("<h1>By reason, actor and table</h1>");
    let filter = put_filters(&mut html, "sums", form);
    let mut totals = Totals::default();
    sight.shelf.latest().filter(|act| filter.fits(act)).for_each(|act| totals.add(act));
    for (group, sums) in totals.groups() {
        let title = match group {
            "reason" => "By reason",
            "actor" => "By actor",
            "table" => "By table",
            _ => "By day",
        };
        html.raw("<h2>").text(title).raw("</h2>");
        put_sums(&mut html, group, &ranked(group, sums), form);
    }
    put_left_out(&mut html, sight.shelf);
    end(html)
}

/// One transaction, with all its records.
#[must_use]
pub fn detail_page(sight: Sight<'_>, act: &Deed, leaves: &[Leaf], form: &Form) -> String {
    let mut html = begin("One transaction", Some(sight.visit), "transaction");
    html.raw("<h1>").text(if act.kind == "transaction" { "Transaction" } else { &act.kind });
    html.raw(" <span class=\"code\">").text(&act.id).raw("</span></h1>");
    if form.value("marked") == "1" {
        html.raw("<div class=\"state good\" role=\"status\"><p>Your mark is in the ledger.</p></div>");
    }
    put_facts(&mut html, act);
    put_statements(&mut html, act);
    put_marks(&mut html, sight.visit, act, leaves);
    html.raw("<h2>Its records, and their place in the chain</h2><ol class=\"records\">");
    leaves.iter().for_each(|leaf| put_leaf(&mut html, leaf));
    html.raw("</ol>");
    end(html)
}

fn begin(title: &str, visit: Option<&Visit>, current: &str) -> Html {
    let mut html = Html::default();
    html.raw(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">\
         <link rel=\"stylesheet\" href=\"style.css\"><title>",
    );
    html.text(title).raw(" – TenantGate review</title></head><body>");
    html.raw("<a class=\"skip\" href=\"#main\">To the content</a><header class=\"top\"><div><strong>TenantGate review</strong>");
    if let Some(visit) = visit {
        html.raw("<nav aria-label=\"Pages\"><ul>");
        for (href, name, words) in [("./", "", "Transactions"), ("sums", "sums", "Sums")] {
            html.raw("<li><a href=\"").text(href);
            html.raw(if name == current { "\" aria-current=\"page\">" } else { "\">" }).text(words).raw("</a></li>");
        }
        html.raw("</ul></nav><form class=\"who\" method=\"post\" action=\"logout\"><span>").text(&visit.reviewer);
        html.raw("</span>");
        put_token(&mut html, visit);
        html.raw("<button>Log out</button></form>");
    }
    html.raw("</div></header><main id=\"main\" tabindex=\"-1\">");
    html
}

fn end(mut html: Html) -> String {
    html.raw("</main></body></html>\n");
    html.into_string()
}

fn put_token(html: &mut Html, visit: &Visit) {
    html.raw("<input type=\"hidden\" name=\"csrf\" value=\"").text(&visit.token).raw("\">");
}

fn put_checked(html: &mut Html, sight: Sight<'_>) {
    match sight.checked {
        Checked::NotYet => {
            html.raw(
                "<section class=\"state odd\" aria-label=\"Verification\"><p>The ledger was not verified yet.</p>",
            );
        }
        Checked::Unreadable(reason) => {
            html.raw("<section class=\"state bad\" aria-label=\"Verification\"><p>The ledger cannot be read: ");
            html.text(reason).raw("</p>");
        }
        Checked::Wrong { broken, file, at } => {
            let sequence = broken.spot.sequence.map_or("this line".to_owned(), |sequence| format!("record {sequence}"));
            let breach = format!("{file}, line {}: {sequence} {}", broken.spot.line, broken.breach);
            html.raw(
                "<section class=\"state bad\" role=\"alert\" aria-label=\"Verification\"><p>The ledger was changed. ",
            );
            html.text(&breach).raw(". Found at ").text(&time(*at)).raw(".</p>");
        }
        Checked::Good { verified, at, whole_at } => put_good(html, verified, *at, *whole_at),
    }
    html.raw("<form method=\"post\" action=\"verify\">");
    put_token(html, sight.visit);
    html.raw("<button>Verify all of it now</button></form></section>");
}

fn put_good(html: &mut Html, verified: &Verified, at: Timestamp, whole_at: Timestamp) {
    let last = verified.last.map_or(0, |head| head.sequence);
    html.raw("<section class=\"state good\" aria-label=\"Verification\"><p><strong>Nothing is wrong</strong> with the ledger up to record ");
    html.number(last).raw(", looked at ").text(&time(at)).raw("; from its beginning on ").text(&time(whole_at));
    html.raw(". <span class=\"quiet\">").number(verified.records).raw(" records, ");
    if verified.are_signatures_checked {
        html.number(verified.checkpoints).raw(" signed checkpoints, ").number(verified.unsigned);
        html.raw(" records behind the last one.");
    } else {
        html.raw("no signing key: whoever can write the file can chain it anew.");
    }
    if verified.unchained > 0 {
        html.raw(" The first ").number(verified.unchained).raw(" are older than the chain.");
    }
    html.raw(" Whether its end was cut off only a checkpoint that was kept elsewhere tells.</span></p>");
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The form; gives the filter that it stands for, and says what of it cannot be read.
fn put_filters(html: &mut Html, action: &'static str, form: &Form) -> Filter {
    let mut filter = Filter::default();
    for name in Filter::NAMES {
        if let Err(reason) = filter.set(name, form.value(name)) {
            html.raw("<div class=\"state bad\" role=\"alert\"><p>").text(&reason).raw("</p></div>");
        }
    }
    let is_open = Filter::NAMES.iter().any(|name| !form.value(name).is_empty());
    html.raw("<details class=\"filters\"").raw(if is_open { " open>" } else { ">" });
    html.raw("<summary id=\"filters\">Filter</summary>");
    html.raw("<form class=\"filters\" method=\"get\" aria-labelledby=\"filters\" action=\"").raw(action).raw("\">");
    for (name, words, hint) in [
        ("since", "From (UTC)", "2026-11-23"),
        ("until", "To (UTC)", "2026-11-23"),
        ("actor", "Actor", "login, address, application"),
        ("reason", "Reason", "text in it"),
        ("table", "Table", "orders"),
        ("code", "Code", "TG179"),
        ("rows_min", "Rows at least", "0"),
    ] {
        html.raw("<div><label for=\"f-").text(name).raw("\">").text(words).raw("</label><input id=\"f-").text(name);
        html.raw("\" name=\"").text(name).raw("\" placeholder=\"").text(hint).raw("\" value=\"").text(form.value(name));
        html.raw("\" maxlength=\"200\"></div>");
    }
    put_choice(html, form, "outcome", "Outcome", &["committed", "rolled_back", "failed", "unknown", "refused", "none"]);
    put_choice(html, form, "preset", "Preset", &["bypass", "migration"]);
    put_choice(
        html,
        form,
        "kind",
        "Kind",
        &["transaction", "refused", "freeze", "thaw", "emergency_open", "config", "review"],
    );
    put_choice(html, form, "reviewed", "Reviewed", &["yes", "no"]);
    html.raw("<div class=\"buttons\"><button class=\"main\">Filter</button><a href=\"")
        .raw(action)
        .raw("\">Clear</a></div></form></details>");
    filter
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
    let days = ranked("day", &totals.by_day);
    if days.is_empty() {
        html.raw("<p>Nothing fits.</p>");
        return;
    }
    let most = days.iter().map(|(_, sum)| sum.acts).max().unwrap_or(1).max(1);
    html.raw("<ol class=\"days\">");
    for (day, sum) in days.iter().take(DAYS) {
        let query = Form::parse(&form.with("since", day)).with("until", day);
        html.raw("<li><a href=\"./?").text(&Form::parse(&query).with("page", "")).raw("\">").text(day);
        html.raw("</a><svg viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect height=\"10\" width=\"");
        html.number((sum.acts * 100 / most).max(1)).raw("\"/></svg><span>").number(sum.acts).raw(", ");
        html.number(sum.unreviewed).raw(" not reviewed</span></li>");
    }
    html.raw("</ol>");
    if days.len() > DAYS {
        html.raw("<p class=\"quiet\">And ")
            .number((days.len() - DAYS) as u64)
            .raw(" earlier days: give From and To.</p>");
    }
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

const COLUMNS: [(&str, &str); 7] = [
    ("Began", "time"),
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
    html.text(&super::form::encode(&act.id))
        .raw("\">")
        .text(&began)
        .raw("</a></th><td role=\"cell\" data-label=\"Actor\"><span>");
    html.text(&act.login);
    if let Some(other) = &act.on_behalf_of {
        html.raw(" for ").text(other);
    }
    html.raw("</span></td><td role=\"cell\" data-label=\"Reason\"><span>");
    html.text(act.reason.as_deref().unwrap_or("–")).raw("</span></td><td role=\"cell\" data-label=\"Tables\"><span>");
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

fn put_sums(html: &mut Html, group: &'static str, rows: &[(&str, &Sum)], form: &Form) {
    html.raw(
        "<table role=\"table\"><thead role=\"rowgroup\"><tr role=\"row\"><th scope=\"col\" role=\"columnheader\">",
    )
    .text(group)
    .raw("</th>");
    for name in ["Acts", "Committed", "Failed", "Unknown", "Not reviewed", "Rows read", "Rows written"] {
        html.raw("<th scope=\"col\" role=\"columnheader\" class=\"number\">").raw(name).raw("</th>");
    }
    html.raw("</tr></thead><tbody role=\"rowgroup\">");
    for (value, sum) in rows.iter().take(SUMS) {
        html.raw("<tr role=\"row\"><th scope=\"row\" role=\"rowheader\" data-label=\"")
            .text(group)
            .raw("\"><a href=\"./?");
        let query = match group {
            "day" => Form::parse(&form.with("since", value)).with("until", value),
            group => form.with(group, value),
        };
        html.text(&query).raw("\">").text(value).raw("</a></th>");
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
    if rows.len() > SUMS {
        html.raw("<p class=\"quiet\">And ").number((rows.len() - SUMS) as u64).raw(" more.</p>");
    }
}

fn put_facts(html: &mut Html, act: &Deed) {
    let number = |number: u64| Some(number.to_string());
    html.raw("<dl class=\"facts\">");
    for (name, value) in [
        ("Outcome", Some(act.outcome())),
        ("Reason", Some(act.reason.clone().unwrap_or_else(|| "–".to_owned()))),
        ("Actor", Some(act.login.clone())),
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
        ("Tables", Some(if act.tables.is_empty() { "–".to_owned() } else { act.tables.join(", ") })),
        ("Rows delivered", number(act.rows_delivered)),
        ("Rows written", number(act.rows_affected)),
    ] {
        if let Some(value) = value {
            html.raw("<dt>").text(name).raw("</dt><dd>").text(&value).raw("</dd>");
        }
    }
    html.raw("</dl>");
}

fn put_statements(html: &mut Html, act: &Deed) {
    html.raw("<h2>Statements (").number(act.statements_total).raw(")</h2><ol class=\"statements\">");
    for statement in &act.statements {
        html.raw("<li><code>").text(statement).raw("</code></li>");
    }
    html.raw("</ol>");
    if act.truncated {
        html.raw("<p class=\"quiet\">There was no room for more: rows and statements are counted all the same.</p>");
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

fn put_leaf(html: &mut Html, leaf: &Leaf) {
    let text = |name: &str| leaf.text(name).unwrap_or_default();
    let sequence = leaf.fields.get("seq").and_then(serde_json::Value::as_u64).unwrap_or_default();
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
