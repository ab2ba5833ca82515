//! What all pages have: head, navigation, the state of the verification, the end.
//!
//! Owns: the frame, and what is said of the ledger as a whole. Does not own: what stands in it (`page`, `detail`).

use jiff::Timestamp;

use super::gate::Visit;
use super::html::Html;
use crate::audit::{Broken, Shelf, Verified};

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

pub(super) fn begin(title: &str, visit: Option<&Visit>, current: &str) -> Html {
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

pub(super) fn end(mut html: Html) -> String {
    html.raw("</main></body></html>\n");
    html.into_string()
}

pub(super) fn put_token(html: &mut Html, visit: &Visit) {
    html.raw("<input type=\"hidden\" name=\"csrf\" value=\"").text(&visit.token).raw("\">");
}

pub(super) fn put_checked(html: &mut Html, sight: Sight<'_>) {
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
    // What nobody has signed may have been written anew as a whole.
    html.raw(if verified.are_signatures_checked {
        "<section class=\"state good\""
    } else {
        "<section class=\"state odd\""
    });
    html.raw(" aria-label=\"Verification\"><p><strong>Nothing is wrong</strong> with the ledger up to record ")
        .number(last);
    html.raw(". Last looked at <span class=\"time\">").text(&time(at)).raw("</span>, as a whole <span class=\"time\">");
    html.text(&time(whole_at)).raw("</span>. <span class=\"quiet\">").number(verified.records).raw(" records, ");
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
