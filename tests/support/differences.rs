//! Where TenantGate may answer otherwise than PostgreSQL, each with its reason. This is the whole list: whatever else
//! differs fails the comparison.
//!
//! What no comparison sees because it is different by nature: cancel keys and process ids (written nowhere), numbers of
//! tables (numbered in order of appearance), the order of several ParameterStatus in a row (by name), file, line and
//! routine of errors, and a refusal that a script names (`refused TG011 …`), for which PostgreSQL is sent a statement
//! that fails in the same place.

use std::collections::BTreeMap;

/// One difference.
pub struct Difference {
    /// What scripts call it: `differs name`.
    pub name: &'static str,
    pub reason: &'static str,
    pub fits: Fits,
}

/// What shows a difference; PostgreSQL's on the left.
pub enum Fits {
    /// A pair of lines.
    Line(fn(&str, &str) -> bool),
    /// All that one side said and the other did not, between two lines that both said. Sessions are generated so that it
    /// does not come up; a script shows it.
    Lines(fn(&[&str], &[&str]) -> bool),
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "syntax-error",
        reason: "A text that cannot be parsed is refused by whoever parses first (TG021), at the same position.",
        fits: Fits::Line(|left, right| {
            left.contains("E C=\"42601\"") && right.ends_with(&format!("E syntax error at {:?}", position(left)))
        }),
    },
    Difference {
        name: "set-transaction-behind-savepoint",
        reason: "SET TRANSACTION behind SAVEPOINT fails with 25001 either way; SAVEPOINT is scoped, which takes the \
                 snapshot, and PostgreSQL complains of that first.",
        fits: Fits::Line(|left, right| {
            left.contains("C=\"25001\"")
                && left.contains("must not be called in a subtransaction")
                && right.contains("C=\"25001\"")
                && right.contains("must be called before any query")
        }),
    },
    Difference {
        name: "portal-in-failed-block",
        reason: "In a failed block Execute of a portal is 34000 in place of 25P02 where it is not certain what the portal is: \
                 the unnamed one of a simple Query that failed (18.6 has crashed over it), or a named one whose name was \
                 bound twice.",
        fits: Fits::Line(|left, right| left.contains("E C=\"25P02\"") && right.contains("E C=\"34000\" M=\"portal ")),
    },
    Difference {
        name: "declare-outside-block",
        reason: "DECLARE outside a block fails either way; PostgreSQL looks its tables up before it says that there is no \
                 block.",
        fits: Fits::Line(|left, right| {
            left.contains(" E C=\"") && right.contains("E C=\"25P01\" M=\"DECLARE CURSOR can only be used")
        }),
    },
    Difference {
        name: "bind-of-too-few",
        reason: "Where a server has to prepare the statement again and cannot (in a failed block, or without the table in \
                 search_path), that error comes, and not PostgreSQL's about the number of values: it counts them first.",
        fits: Fits::Line(|left, right| left.contains("E C=\"08P01\" M=\"bind message") && right.contains(" E C=\"")),
    },
    Difference {
        name: "setting-without-value",
        reason: "A Bind of set_config() without the value is refused (TG014) before PostgreSQL counts the values.",
        fits: Fits::Line(|left, right| {
            left.contains("E C=\"08P01\" M=\"bind message") && right.contains("E refused TG014")
        }),
    },
    Difference {
        name: "generic-plan",
        reason: "Whether an error that planning finds comes at Bind or at Execute depends on how often the statement ran on \
                 its server: from the sixth time on PostgreSQL may keep a plan for all values.",
        fits: Fits::Lines(|left, right| left.is_empty() && right.len() == 1 && right[0].ends_with(" 2 BindComplete")),
    },
    Difference {
        name: "describe-in-failed-block",
        reason: "In a failed block PostgreSQL describes statements that return no rows; where the server does not have the \
                 statement, it cannot be prepared there, and Describe fails with 25P02 as for the others.",
        fits: Fits::Lines(|left, right| {
            let [parameters, nothing] = left else { return false };
            let [error] = right else { return false };
            parameters.ends_with(" t []") && nothing.ends_with(" n NoData") && error.contains(" E C=\"25P02\"")
        }),
    },
    Difference {
        name: "prepared-under-other-settings",
        reason: "A literal such as '02/03/2004'::date is read when its statement is prepared. Where the client has changed \
                 datestyle since and another server prepares it again, it is read anew, as PostgreSQL itself does when a \
                 plan is no longer valid.",
        fits: Fits::Lines(|left, right| is_a_line_each(left, right, " D 2004-02-03", " D 2004-03-02")),
    },
    Difference {
        name: "temporary-schema",
        reason: "A server's temporary schema is made for its first temporary table and stays, empty, when that is gone. What \
                 is not there is then missing as a table and not as a schema; and whether a statement prepared between two \
                 temporary tables is looked up anew for the second depends on whether its server had one before.",
        fits: Fits::Line(|left, right| {
            left.contains("schema \\\"pg_temp\\\" does not exist")
                && right.contains("table \\\"")
                && right.contains("\\\" does not exist")
        }),
    },
    Difference {
        name: "query-without-sync",
        reason: "Behind Parse and Bind without a Sync a Query is refused (TG118) on 18: with the tenant in front of the Bind \
                 that release would answer it and never commit it.",
        fits: Fits::Lines(|left, right| {
            // What was not run was not answered and is not there; nothing else differs.
            is_a_line_each(left, right, " C INSERT 0 1", " E refused TG118 WITHOUT DETAIL")
                || is_a_line_each(left, right, " D 1", " D 0")
                || (right.is_empty() && left.len() == 1 && left[0].starts_with("plain (4711,kept,"))
        }),
    },
    Difference {
        name: "search-path-spelling",
        reason: "RESET search_path goes back to the startup parameter in the spelling of SET, with blanks behind commas: \
                 where a client spelled it otherwise, 18 reports that it changed.",
        fits: Fits::Lines(|left, right| {
            let [left @ .., last] = left else { return left.is_empty() && is_path_told(right) };
            left.is_empty()
                && matches!(right, [other] if *last != *other && last.replace(", ", ",") == other.replace(", ", ","))
        }),
    },
];

/// In a failed block a refusal may come as PostgreSQL's 25P02 or as the refusal: both fail, neither runs. (Only where a
/// script names refusals.)
fn is_refused_in_failed_block(left: &str, right: &str) -> bool {
    left.contains("E C=\"25P02\"") && right.contains("E refused TG")
}

fn is_a_line_each(left: &[&str], right: &[&str], said: &str, instead: &str) -> bool {
    matches!((left, right), ([left], [right]) if left.ends_with(said) && right.ends_with(instead))
}

/// 18 reports that search_path has changed, where only its spelling has.
fn is_path_told(lines: &[&str]) -> bool {
    matches!(lines, [line] if line.contains(" S search_path="))
}

fn position(line: &str) -> Option<String> {
    line.split("P=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
}

/// How often each difference was let pass.
pub type Uses = BTreeMap<&'static str, u64>;

/// What [`is_refused_in_failed_block`] is called where uses are counted.
const REFUSED_IN_FAILED_BLOCK: &str = "refused-in-failed-block";
/// Warnings that there is no block, where the proxy has one.
const NO_BLOCK: &str = "no-block-warning-in-recorded";

/// Which differences a comparison lets pass.
#[derive(Clone, Copy)]
pub struct Allowed<'a> {
    /// The script names refusals.
    pub refusals: bool,
    /// Those of the list by name; if it is `None`, all of one line.
    pub names: Option<&'a [String]>,
    /// Everything runs in the proxy's block, where PostgreSQL does not warn that there is none; and what warns behind it
    /// does so again under the session's own client_min_messages.
    pub is_recorded: bool,
}

impl Allowed<'_> {
    /// Whether two lines say the same; `left` is PostgreSQL's, `right` TenantGate's.
    pub fn is_same(&self, left: &str, right: &str) -> bool {
        left == right || self.excuse(left, right).is_some()
    }

    /// By which difference two lines that are not equal pass.
    pub fn excuse(&self, left: &str, right: &str) -> Option<&'static str> {
        if self.refusals && is_refused_in_failed_block(left, right) {
            return Some(REFUSED_IN_FAILED_BLOCK);
        }
        let is_named = |name: &str| self.names.is_none_or(|names| names.iter().any(|known| known == name));
        let fits = |known: &&Difference| matches!(known.fits, Fits::Line(fits) if fits(left, right));
        DIFFERENCES.iter().filter(|known| is_named(known.name)).find(fits).map(|known| known.name)
    }

    /// By which difference lines of one side pass that the other does not have.
    pub fn excuse_lines(&self, left: &[&str], right: &[&str]) -> Option<&'static str> {
        let warns = |line: &&str| line.contains(" N C=\"25P01\"");
        if self.is_recorded && left.iter().chain(right).all(warns) {
            return Some(NO_BLOCK);
        }
        let is_named = |name: &str| self.names.is_some_and(|names| names.iter().any(|known| known == name));
        let fits = |known: &&Difference| matches!(known.fits, Fits::Lines(fits) if fits(left, right));
        DIFFERENCES.iter().filter(|known| is_named(known.name)).find(fits).map(|known| known.name)
    }
}
