//! A tenant leaves: planned, exported, erased and proven through the proxy.

use super::support::cluster::{Cluster, every};
use super::support::proxy::{Proxy, Wish, binary, login_of_its_own};
use super::support::raw::{Client, Target};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;

const ACME: &str = "00000000-0000-0000-0000-00000000000a";
const GLOBEX: &str = "00000000-0000-0000-0000-00000000000b";

/// Parents, children, a cycle, a reference to itself, and a table that is nobody's.
const SCHEMA: &str = "
CREATE TABLE countries (id int PRIMARY KEY);
INSERT INTO countries VALUES (1);
CREATE TABLE customers (id int PRIMARY KEY, tenant_id uuid, country int REFERENCES countries, best_order int, boss int REFERENCES customers);
CREATE TABLE orders (id int PRIMARY KEY, tenant_id uuid, customer int REFERENCES customers, note text);
ALTER TABLE customers ADD FOREIGN KEY (best_order) REFERENCES orders;
CREATE TABLE items (id int PRIMARY KEY, tenant_id uuid, \"the order\" int REFERENCES orders);
INSERT INTO customers VALUES (1, 'ACME', 1, NULL, NULL), (2, 'ACME', 1, NULL, 1), (3, 'GLOBEX', 1, NULL, NULL);
INSERT INTO orders VALUES (1, 'ACME', 1, E'a \"note\",\\nin two lines'), (2, 'ACME', 2, NULL), (3, 'GLOBEX', 3, 'x');
UPDATE customers SET best_order = id;
INSERT INTO items SELECT n, CASE WHEN n % 3 = 0 THEN 'GLOBEX' ELSE 'ACME' END::uuid, CASE WHEN n % 3 = 0 THEN 3 ELSE n % 3 END FROM generate_series(1, 9) n;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app_bypass, app_user;
DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['customers', 'orders', 'items'] LOOP
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
  EXECUTE format('CREATE POLICY tenants ON %I TO app_user USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
  EXECUTE format('CREATE POLICY everything ON %I TO app_bypass USING (true) WITH CHECK (true)', t);
END LOOP; END $$;
";

struct Place {
    proxy: Proxy,
    cluster: &'static Cluster,
    database: String,
    ledger: PathBuf,
    folder: tempfile::TempDir,
}

fn place(cluster: &'static Cluster, name: &str) -> Place {
    cluster.admin("postgres").run(
        "DO $$ BEGIN CREATE ROLE app_bypass LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;",
    );
    let database = format!("offboard_{name}");
    cluster.create_database(&database);
    cluster.admin(&database).run(&SCHEMA.replace("ACME", ACME).replace("GLOBEX", GLOBEX));
    let folder = tempfile::tempdir().unwrap();
    let ledger = folder.path().join("ledger.jsonl");
    let logins = login_of_its_own("ops", "bypass", "app_bypass");
    let more = format!(
        "{logins}[logins.root]\npassword = \"demo\"\npreset = \"console\"\n[console]\nadmins = [\"root\"]\n\
         [ledger]\npath = {ledger:?}\n[state]\nfolder = {:?}\n",
        folder.path()
    );
    let proxy = Proxy::start(&Wish { cluster, database: &database, pool_size: 4, mutant: None, more: &more });
    Place { proxy, cluster, database, ledger, folder }
}

impl Place {
    fn offboard(&self, arguments: &[&str]) -> Output {
        let mut command = std::process::Command::new(binary());
        command.arg("offboard").arg("--config").arg(self.proxy.folder().join("tenantgate.toml"));
        command.args([
            "--tenant",
            ACME,
            "--database",
            &self.database,
            "--login",
            "ops",
            "--reason",
            "contract 4711 ended",
        ]);
        command.args(arguments).output().unwrap()
    }

    fn counts(&self) -> Vec<String> {
        let mut admin = self.cluster.admin(&self.database);
        let count = |table: &str| {
            admin.value(&format!("SELECT string_agg(c::text, ' ' ORDER BY t) FROM (SELECT tenant_id t, count(*) c FROM {table} GROUP BY 1) s"))
        };
        ["customers", "orders", "items"].map(count).to_vec()
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_tenant_leaves_and_nothing_of_it_is_left() {
    for cluster in every() {
        let place = place(cluster, "leaves");
        let before = ["2 1", "2 1", "6 3"];
        let export = place.folder.path().join("export");
        let at = export.to_str().unwrap();
        let plan = place.offboard(&["--plan"]);
        assert!(plan.status.success() && told(&plan).contains("10 rows of tenant"), "{}", told(&plan));
        assert_eq!(place.counts(), before);
        // Nothing is erased without an export of what there is.
        for arguments in [&["--erase"][..], &["--erase", "--export", at]] {
            let refused = place.offboard(arguments);
            assert!(!refused.status.success(), "{}", told(&refused));
        }
        let exported = place.offboard(&["--export", at]);
        assert!(exported.status.success(), "{}", told(&exported));
        assert_eq!(place.counts(), before);
        let manifest = json(&export.join("manifest.json"));
        assert_eq!(manifest["tables"].as_array().unwrap().len(), 3, "{manifest}");
        let orders = manifest["tables"].as_array().unwrap().iter().find(|it| it["table"]["name"] == "orders").unwrap();
        let file = export.join(orders["file"].as_str().unwrap());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("a \"\"note\"\",\nin two lines") && !text.contains(GLOBEX), "{text}");
        // Frozen since then.
        let target = Target::new(place.proxy.address, &format!("app_user.{ACME}"), &place.database);
        assert!(Client::try_connect(&target).is_ok_and(|client| client.startup.iter().any(|it| it.tag == b'E')));
        // An export of another state, and one that was changed, are none.
        cluster.admin(&place.database).run(&format!("INSERT INTO orders VALUES (4, '{ACME}', 1, 'late')"));
        let stale = place.offboard(&["--erase", "--export", at]);
        assert!(told(&stale).contains("export again") && !stale.status.success(), "{}", told(&stale));
        cluster.admin(&place.database).run("DELETE FROM orders WHERE id = 4");
        std::fs::write(&file, text.replace("note", "Note")).unwrap();
        assert!(told(&place.offboard(&["--erase", "--export", at])).contains("not what was exported"));
        std::fs::write(&file, text).unwrap();
        assert_eq!(place.counts(), before);
        let erased = place.offboard(&["--erase", "--export", at]);
        assert!(erased.status.success(), "{}", told(&erased));
        assert_eq!(place.counts(), ["1", "1", "3"]);
        let proof = json(&export.join("proof.json"));
        let sums =
            |name: &str| proof["tables"].as_array().unwrap().iter().map(|it| it[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sums("erased"), sums("left")), (10, 0), "{proof}");
        assert!(proof["xid"].is_string());
        // In the ledger: each step, and the proof's digest.
        let ledger = std::fs::read_to_string(&place.ledger).unwrap();
        let output = std::process::Command::new("sha256sum").arg(export.join("proof.json")).output().unwrap();
        let digest = String::from_utf8(output.stdout).unwrap();
        assert!(ledger.contains(&format!("proof sha256:{}", digest.split(' ').next().unwrap())), "{ledger}");
        for step in ["plan", "export", "erase", "verify"] {
            assert!(ledger.contains(&format!("contract 4711 ended (offboard {ACME}: {step})")), "{step}");
        }
        // Again, as after a crash behind the COMMIT.
        let again = place.offboard(&["--erase", "--export", at]);
        assert!(again.status.success(), "{}", told(&again));
    }
}

#[test]
fn what_stands_in_the_way_is_told_and_nothing_erased() {
    let place = place(super::support::cluster::fifteen(), "obstacles");
    place.cluster.admin(&place.database).run(&format!(
        "CREATE TABLE notes (id int, tenant_id uuid, customer int REFERENCES customers);
         INSERT INTO notes VALUES (1, '{GLOBEX}', 1);
         CREATE TABLE parts (id int, item int REFERENCES items ON DELETE CASCADE);
         CREATE TABLE hidden (id int, tenant_id uuid); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
         GRANT ALL ON notes, parts, hidden TO app_bypass;"
    ));
    let proof = place.folder.path().join("proof.json");
    let erased = place.offboard(&["--erase", "--without-export", "--proof", proof.to_str().unwrap()]);
    let words = told(&erased);
    for what in
        ["1 rows of other tenants in public.notes", "public.parts", "policies of public.hidden", "nothing was erased"]
    {
        assert!(words.contains(what), "{what} in {words}");
    }
    assert!(erased.status.code() == Some(1) && !proof.exists());
    assert_eq!(place.counts(), ["2 1", "2 1", "6 3"]);
}
