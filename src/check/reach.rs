//! What a role can become, and whose privileges it has.
//!
//! Before 16 every membership allowed SET ROLE, and INHERIT was the member's own; from 16 on each membership says so
//! itself, and one with ADMIN OPTION can be granted again with SET (`queries` gives both in the same form).
//!
//! Owns: the closure over memberships, and findings about roles. Does not own: what a role does with tables (`judge`).

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Catalogue, Membership, Oid, Role, quoted};
use super::finding::Finding;
use super::rule::{Rule, Severity};

/// `pg_database_owner` and memberships without a right to them are no way to anything.
const PREDEFINED: [(&str, Severity, &str); 13] = [
    ("pg_execute_server_program", Severity::Critical, "runs programs on the server"),
    ("pg_read_server_files", Severity::Critical, "reads the server's files"),
    ("pg_write_server_files", Severity::Critical, "writes the server's files"),
    ("pg_read_all_data", Severity::High, "reads every table, those without policies too"),
    ("pg_write_all_data", Severity::High, "writes every table, those without policies too"),
    ("pg_maintain", Severity::High, "locks and rewrites every table"),
    ("pg_signal_backend", Severity::High, "ends other sessions"),
    ("pg_create_subscription", Severity::High, "connects to other servers"),
    ("pg_monitor", Severity::High, "sees other tenants' statements and statistics"),
    ("pg_read_all_stats", Severity::High, "sees other tenants' statements and statistics"),
    ("pg_stat_scan_tables", Severity::Medium, "locks tables while it looks at them"),
    ("pg_read_all_settings", Severity::Low, "sees every setting"),
    ("pg_checkpoint", Severity::Low, "makes the server write everything out"),
];

/// What a role can become.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Itself, and roles whose privileges it has without further ado.
    pub has: BTreeSet<Oid>,
    /// Roles it can become by SET ROLE, itself not among them, with the first step of the way.
    pub becomes: BTreeMap<Oid, Oid>,
}

impl Reach {
    /// Follows memberships from `role`.
    #[must_use]
    pub fn of(catalogue: &Catalogue, role: Oid) -> Self {
        let mut reach = Self { has: BTreeSet::from([role]), becomes: BTreeMap::new() };
        let mut next = vec![(role, Standing::Is, None)];
        let mut seen = BTreeSet::from([(role, Standing::Is)]);
        while let Some((one, standing, first)) = next.pop() {
            for membership in catalogue.memberships.iter().filter(|it| it.member == one) {
                let step = first.unwrap_or(membership.role);
                if membership.inherit && first.is_none() {
                    reach.has.insert(membership.role);
                }
                let Some(there) = standing.through(membership) else { continue };
                if there == Standing::Is && membership.role != role {
                    reach.becomes.entry(membership.role).or_insert(step);
                }
                // What is only had is still oneself: the way begins behind it.
                let first = if there == Standing::Is { Some(step) } else { first };
                if seen.insert((membership.role, there)) {
                    next.push((membership.role, there, first));
                }
            }
        }
        reach
    }
}

/// How somebody stands to a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Has its privileges, and so its right to grant.
    Has,
    /// Can be it by SET ROLE.
    Is,
}

impl Standing {
    /// How one stands to a role through a membership of a role to which one stands so. ADMIN lets it be granted to
    /// oneself with SET; SET counts only along a way of SET.
    const fn through(self, membership: &Membership) -> Option<Standing> {
        match self {
            _ if membership.admin => Some(Standing::Is),
            Standing::Is if membership.set => Some(Standing::Is),
            Standing::Is | Standing::Has if membership.inherit => Some(Standing::Has),
            Standing::Is | Standing::Has => None,
        }
    }
}

/// Findings about a role itself and about what it can become.
pub fn judge(catalogue: &Catalogue, role: &Role, reach: &Reach, owners: &BTreeSet<Oid>, found: &mut Vec<Finding>) {
    let object = format!("role {}", role.name);
    let name = quoted(&role.name);
    if role.superuser {
        found.push(Finding::of(Rule::RoleSuperuser, &object).mended_by(format!("ALTER ROLE {name} NOSUPERUSER;")));
        // Whatever else there is follows from this.
        return;
    }
    if role.bypassrls {
        found.push(Finding::of(Rule::RoleBypassesRls, &object).mended_by(format!("ALTER ROLE {name} NOBYPASSRLS;")));
    }
    if role.createrole {
        let severity = if catalogue.server.major() < 16 { Severity::Critical } else { Severity::High };
        let finding = Finding::of(Rule::RoleAttributes, &object).saying(format!("{} has CREATEROLE", role.name));
        found.push(finding.at(severity).mended_by(format!("ALTER ROLE {name} NOCREATEROLE;")));
    }
    if role.replication {
        let finding = Finding::of(Rule::RoleAttributes, &object).saying(format!("{} has REPLICATION", role.name));
        found.push(finding.mended_by(format!("ALTER ROLE {name} NOREPLICATION;")));
    }
    for other in catalogue.roles.iter().filter(|other| other.oid != role.oid) {
        judge_other(catalogue, role, reach, owners, other, found);
    }
}

fn judge_other(
    catalogue: &Catalogue,
    role: &Role,
    reach: &Reach,
    owners: &BTreeSet<Oid>,
    other: &Role,
    found: &mut Vec<Finding>,
) {
    let (has, step) = (reach.has.contains(&other.oid), reach.becomes.get(&other.oid));
    if !has && step.is_none() {
        return;
    }
    let object = format!("role {}", role.name);
    let revoked = |first: Oid| format!("REVOKE {} FROM {};", quoted(&catalogue.role_name(first)), quoted(&role.name));
    let mend = revoked(step.copied().unwrap_or(other.oid));
    if let Some((_, severity, does)) = PREDEFINED.iter().find(|(name, ..)| *name == other.name) {
        let message = format!("{} is a member of {}, which {does}", role.name, other.name);
        found.push(Finding::of(Rule::RolePredefined, &object).saying(message).at(*severity).mended_by(mend));
        return;
    }
    let Some(step) = step else { return };
    let way = if *step == other.oid { String::new() } else { format!(", by way of {}", catalogue.role_name(*step)) };
    let what = match (other.superuser, other.bypassrls, owners.contains(&other.oid)) {
        (true, ..) => "is a superuser",
        (_, true, _) => "has BYPASSRLS",
        (_, _, true) => "owns tenant tables",
        (false, false, false) => return,
    };
    let message = format!("{} can become {}, which {what}", role.name, other.name);
    let detail = format!("SET ROLE {}{way}.", other.name);
    found.push(Finding::of(Rule::RoleReaches, &object).saying(message).with_detail(detail).mended_by(mend));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(oid: Oid, name: &str) -> Role {
        Role { oid, name: name.into(), ..Role::default() }
    }

    fn member(member: Oid, role: Oid, inherit: bool, set: bool, admin: bool) -> Membership {
        Membership { role, member, admin, inherit, set }
    }

    fn findings(memberships: Vec<Membership>) -> Vec<(Rule, String)> {
        let mut boss = role(3, "boss");
        boss.superuser = true;
        let roles = vec![role(1, "app"), role(2, "team"), boss, role(4, "pg_read_all_data"), role(5, "owner")];
        let catalogue = Catalogue { roles, memberships, ..Catalogue::default() };
        let mut found = Vec::new();
        let app = catalogue.roles[0].clone();
        judge(&catalogue, &app, &Reach::of(&catalogue, 1), &BTreeSet::from([5]), &mut found);
        found.into_iter().map(|finding| (finding.rule, finding.mend)).collect()
    }

    #[test]
    fn a_superuser_is_reached_through_others() {
        let mend = || (Rule::RoleReaches, "REVOKE team FROM app;".to_owned());
        assert_eq!(findings(vec![member(1, 2, true, true, false), member(2, 3, false, true, false)]), [mend()]);
        // ADMIN OPTION lets it grant itself SET.
        assert_eq!(findings(vec![member(1, 2, false, false, true), member(2, 3, false, true, false)]), [mend()]);
        // Inherited privileges are not inherited attributes: without SET nothing is reached.
        assert_eq!(findings(vec![member(1, 3, true, false, false)]), []);
        // Neither INHERIT nor SET nor ADMIN: a membership of 16 that gives nothing.
        assert_eq!(findings(vec![member(1, 2, false, false, false), member(2, 3, false, true, false)]), []);
        assert_eq!(findings(vec![member(2, 3, true, true, true)]), [], "somebody else's");
    }

    #[test]
    fn predefined_roles_and_owners_count_however_they_are_reached() {
        let read_all = (Rule::RolePredefined, "REVOKE pg_read_all_data FROM app;".to_owned());
        assert_eq!(findings(vec![member(1, 4, true, false, false)]), [(read_all.0, read_all.1.clone())]);
        assert_eq!(findings(vec![member(1, 4, false, true, false)]), [read_all]);
        let owner = (Rule::RoleReaches, "REVOKE owner FROM app;".to_owned());
        assert_eq!(findings(vec![member(1, 5, false, true, false)]), [owner]);
    }

    #[test]
    fn memberships_that_go_in_circles_end() {
        assert_eq!(findings(vec![member(1, 2, true, true, true), member(2, 1, true, true, true)]), []);
    }
}
