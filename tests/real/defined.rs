//! Data definition through the proxy: whoever prepares a statement behind it gets what is there then, whatever a shared
//! server had prepared before, and over whichever role; whoever prepared before gets PostgreSQL's own error.

use super::support::cluster::every;
use super::support::message::Message;
use super::support::proxy::{self, Proxy, Wish, login_of_its_own};
use super::support::raw::{Client, Target};
use super::support::reply::Reply;

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const SQL: &str = "SELECT * FROM things";

fn error(replies: &[Reply]) -> Option<String> {
    replies.iter().find(|reply| reply.tag == b'E').map(|reply| reply.fields()[&'C'].clone())
}

fn tags(replies: &[Reply]) -> String {
    replies.iter().map(|reply| char::from(reply.tag)).collect()
}

fn talk(client: &mut Client, messages: &[Message]) -> Vec<Reply> {
    client.send_all(messages);
    client.flush().unwrap();
    client.replies_to(b'Z').0
}

fn prepare(client: &mut Client, name: &str) -> Vec<Reply> {
    talk(client, &[Message::parse(name, SQL), Message::DescribeStatement(name.to_owned()), Message::Sync])
}

fn execute(client: &mut Client, name: &str) -> Vec<Reply> {
    talk(client, &[Message::bind(name, &[]), Message::execute(), Message::Sync])
}

#[test]
fn what_is_prepared_behind_a_definition_is_prepared_anew() {
    for cluster in every() {
        let database = "defined";
        cluster.create_database(database);
        cluster
            .admin("postgres")
            .run("DO $$ BEGIN CREATE ROLE app_defining LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;");
        cluster.admin(database).run(
            "GRANT CREATE ON SCHEMA public TO app_defining; SET ROLE app_defining; CREATE TABLE things (a int, b int); \
             INSERT INTO things VALUES (1, 2); GRANT SELECT ON things TO app_user",
        );
        let folder = tempfile::tempdir().unwrap();
        let more = login_of_its_own("deploy", "migration", "app_defining")
            + &format!("[logins.deploy.tenant]\nfixed = \"{ACME}\"\n")
            + &proxy::ledger(&folder.path().join("ledger.jsonl"));
        let proxy = Proxy::start(&Wish { cluster, database, pool_size: 1, mutant: None, more: &more });
        let target = |login: &str| Target::new(proxy.address, login, database).password("demo");
        let tenants = || Client::connect(&target("app_user").with("app.tenant_id", ACME));
        let (mut before, mut deploy) = (tenants(), Client::connect(&target("deploy")));
        for client in [&mut before, &mut deploy] {
            assert_eq!(tags(&prepare(client, "old")), "1tTZ");
            assert_eq!(tags(&execute(client, "old")), "2DCZ");
        }
        // Its own transaction meets it before anybody else does.
        assert_eq!(tags(&deploy.query("BEGIN")), "CZ");
        assert_eq!(error(&deploy.query("ALTER TABLE things ALTER COLUMN b TYPE text")), None);
        assert_eq!(tags(&prepare(&mut deploy, "within")), "1tTZ");
        assert_eq!(tags(&execute(&mut deploy, "within")), "2DCZ");
        assert_eq!(tags(&deploy.query("COMMIT")), "CZ");
        // A client that comes behind it, and one that prepares again.
        let mut behind = tenants();
        for client in [&mut behind, &mut before, &mut deploy] {
            assert_eq!(tags(&prepare(client, "new")), "1tTZ", "PostgreSQL {}", cluster.version);
            assert_eq!(tags(&execute(client, "new")), "2DCZ");
        }
        for client in [&mut before, &mut deploy] {
            assert_eq!(error(&execute(client, "old")).as_deref(), Some("0A000"));
            assert_eq!(tags(&execute(client, "new")), "2DCZ");
        }
    }
}
