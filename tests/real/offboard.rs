//! A tenant leaves: planned, exported, erased and proven through the proxy.

use super::support::cluster::{Cluster, every};
use super::support::proxy::{Proxy, Wish, binary, login_of_its_own};
use super::support::raw::{Client, Target};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

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
INSERT INTO customers VALUES (3, 'GLOBEX', 1, NULL, NULL);
INSERT INTO orders VALUES (3, 'GLOBEX', 3, 'x');
INSERT INTO items SELECT n, 'GLOBEX', 3 FROM generate_series(3, 9, 3) n;
GRANT ALL ON ALL TABLES IN SCHEMA public TO app_bypass, app_user;
DO $$ DECLARE t text; BEGIN FOREACH t IN ARRAY ARRAY['customers', 'orders', 'items'] LOOP
  EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
  EXECUTE format('CREATE POLICY tenants ON %I TO app_user USING (tenant_id = NULLIF(current_setting(''app.tenant_id'', true), '''')::uuid)', t);
  EXECUTE format('CREATE POLICY everything ON %I TO app_bypass USING (true) WITH CHECK (true)', t);
END LOOP; END $$;
";

/// The rows of who leaves.
const ROWS: &str = "
INSERT INTO customers VALUES (1, 'ACME', 1, NULL, NULL), (2, 'ACME', 1, NULL, 1);
INSERT INTO orders VALUES (1, 'ACME', 1, E'a \"note\",\\nin two lines'), (2, 'ACME', 2, NULL);
UPDATE customers SET best_order = id;
INSERT INTO items SELECT n, 'ACME', n % 3 FROM generate_series(1, 9) n WHERE n % 3 > 0;
";

/// What there is with them, and without.
const WITH: [&str; 3] = ["2 1", "2 1", "6 3"];
const WITHOUT: [&str; 3] = ["1", "1", "3"];

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
    cluster.admin(&database).run(&[SCHEMA, ROWS].concat().replace("ACME", ACME).replace("GLOBEX", GLOBEX));
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
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
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
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) {
        let output = self.offboard(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
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

fn recorded(proof: &Value) -> &[Value] {
    proof["transactions"].as_array().unwrap()
}

/// The proof is true: nothing is left, and the erasure that it names is committed in the ledger, with all rows, of this export.
fn is_proven(place: &Place, export: &Path) {
    let proof = json(&export.join("proof.json"));
    assert!(proof["tables"].as_array().unwrap().iter().all(|it| it["left"] == 0), "{proof}");
    let erasure = format!("erase 10 rows sha256:{}", proof["manifest_sha256"].as_str().unwrap());
    let committed = |it: &&Value| it["step"] == erasure.as_str() && it["result"] == "committed" && it["rows"] != 0;
    let erased: Vec<&Value> = recorded(&proof).iter().filter(committed).collect();
    assert_eq!(erased.len(), 1, "{proof}");
    let ledger = std::fs::read_to_string(&place.ledger).unwrap();
    let outcome = ledger
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .find(|record| record["kind"] == "outcome" && record["id"] == erased[0]["id"])
        .unwrap();
    assert_eq!((&outcome["result"], &outcome["rows_affected"]), (&"committed".into(), &6.into()), "{outcome}");
    assert_eq!((&outcome["xid"], &erased[0]["rows"]), (&erased[0]["xid"], &6.into()));
    assert_eq!(place.counts(), WITHOUT);
}

/// Where in the talk of the command with the proxy nothing more gets through.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// The message does not arrive.
    Before,
    /// It does; its answer does not.
    Behind,
}

/// What becomes of what is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    Held,
    LetThrough,
    Lost,
}

/// A link to the proxy that closes at the so manieth message with a word in it.
struct Gate {
    address: SocketAddr,
    is_reached: mpsc::Receiver<()>,
    is_open: Arc<(Mutex<Hold>, Condvar)>,
}

#[derive(Clone)]
struct Keeper {
    word: &'static str,
    left: Arc<AtomicUsize>,
    side: Side,
    reached: mpsc::Sender<()>,
    is_open: Arc<(Mutex<Hold>, Condvar)>,
}

impl Gate {
    fn start(proxy: SocketAddr, word: &'static str, nth: usize, side: Side) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (reached, is_reached) = mpsc::channel();
        let is_open = Arc::<(Mutex<Hold>, Condvar)>::default();
        let keeper =
            Keeper { word, left: Arc::new(AtomicUsize::new(nth)), side, reached, is_open: Arc::clone(&is_open) };
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                keeper.pass(client, TcpStream::connect(proxy).unwrap());
            }
        });
        Self { address, is_reached, is_open }
    }

    fn wait(&self) {
        self.is_reached.recv_timeout(Duration::from_secs(60)).expect("the command comes to this point");
    }

    fn open(&self, how: Hold) {
        *self.is_open.0.lock().unwrap() = how;
        self.is_open.1.notify_all();
    }
}

impl Keeper {
    fn pass(&self, client: TcpStream, proxy: TcpStream) {
        let is_mute = Arc::new(AtomicUsize::new(0));
        let (mut from, mut to) = (client.try_clone().unwrap(), proxy.try_clone().unwrap());
        let (keeper, mute) = (self.clone(), Arc::clone(&is_mute));
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                let is_it = String::from_utf8_lossy(&bytes[..count]).contains(keeper.word);
                if is_it && keeper.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    match keeper.side {
                        Side::Before if !keeper.hold() => break,
                        Side::Before => {}
                        Side::Behind => mute.store(1, Ordering::Release),
                    }
                }
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            drop(to.shutdown(std::net::Shutdown::Both));
        });
        let (keeper, mut from, mut to) = (self.clone(), proxy, client);
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if is_mute.swap(0, Ordering::AcqRel) == 1 && !keeper.hold() {
                    break;
                }
                if to.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            drop(to.shutdown(std::net::Shutdown::Both));
        });
    }

    /// Whether it goes on.
    fn hold(&self) -> bool {
        // Whoever waited for it may be gone.
        self.reached.send(()).unwrap_or(());
        let open = self.is_open.0.lock().unwrap();
        *self.is_open.1.wait_while(open, |open| *open == Hold::Held).unwrap() == Hold::LetThrough
    }
}

/// Killed at one point of a run, whatever was begun is brought to its end by the next run.
#[test]
fn whoever_is_killed_says_the_same_again() {
    let place = place(super::support::cluster::fifteen(), "killed");
    let export = place.folder.path().join("export");
    let at = export.to_str().unwrap();
    let killed = |arguments: &[&str], (word, nth, side): (&'static str, usize, Side)| {
        let gate = Gate::start(place.proxy.address, word, nth, side);
        let mut command = place.command(arguments);
        command.arg("--proxy").arg(gate.address.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        gate.wait();
        child.kill().unwrap();
        child.wait().unwrap();
        gate.open(Hold::Lost);
    };
    for point in [("FREEZE TENANT", 1, Side::Before), ("COPY (", 2, Side::Before), ("COMMIT", 2, Side::Behind)] {
        killed(&["--export", at], point);
        let ledger = std::fs::read_to_string(&place.ledger).unwrap();
        assert_eq!(ledger.contains("\"freeze\""), point.0 != "FREEZE TENANT", "{point:?}");
        assert!(!export.join("manifest.json").exists() && place.counts() == WITH, "{point:?}");
        assert!(!place.offboard(&["--erase", "--export", at]).status.success(), "an export without manifest is none");
    }
    for (point, is_erased) in [
        (("DELETE FROM", 2, Side::Before), false),
        (("COMMIT", 2, Side::Before), false),
        (("COMMIT", 2, Side::Behind), true),
        ((": verify", 1, Side::Before), true),
        (("proof sha256", 1, Side::Before), true),
    ] {
        place.run(&["--export", at]);
        killed(&["--erase", "--export", at], point);
        assert_eq!(place.counts(), if is_erased { WITHOUT } else { WITH }, "{point:?}");
        assert_eq!(export.join("proof.json").exists(), point.0 == "proof sha256", "{point:?}");
        place.run(&["--erase", "--export", at]);
        is_proven(&place, &export);
        std::fs::remove_file(export.join("proof.json")).unwrap();
        place.cluster.admin(&place.database).run(&ROWS.replace("ACME", ACME));
    }
    let verified = Command::new(binary()).args(["ledger", "verify", "--ledger"]).arg(&place.ledger).output().unwrap();
    assert!(verified.status.success(), "{}", told(&verified));
}

/// Rows that change between the comparison and the erasure are not erased.
#[test]
fn what_changes_in_the_middle_of_an_erasure_is_not_erased() {
    let place = place(super::support::cluster::fifteen(), "meanwhile");
    let export = place.folder.path().join("export");
    let at = export.to_str().unwrap();
    place.run(&["--export", at]);
    let gate = Gate::start(place.proxy.address, "DELETE FROM", 1, Side::Before);
    let mut command = place.command(&["--erase", "--export", at]);
    command.arg("--proxy").arg(gate.address.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    gate.wait();
    place.cluster.admin(&place.database).run("UPDATE orders SET note = 'late' WHERE id = 1");
    gate.open(Hold::LetThrough);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.code() == Some(1) && told(&output).contains("could not serialize"), "{}", told(&output));
    assert!(place.counts() == WITH && !export.join("proof.json").exists());
}

/// The proxy takes nothing but TLS, and its certificate is made out to a name.
#[test]
fn offboard_and_emergency_speak_tls_and_know_whom_they_speak_to() {
    let place = place(super::support::cluster::fifteen(), "tls");
    let folder = place.proxy.folder();
    super::upheaval::certificate(folder);
    let tls = format!(
        "[tls]\nmode = \"require\"\ncertificate = \"{0}/server.crt\"\nkey = \"{0}/server.key\"\n",
        folder.display()
    );
    place.proxy.edit("[tls]\nmode = \"disable\"\n", &tls);
    assert!(place.proxy.reload(), "{}", place.proxy.log_tail());
    let (config, ca) =
        (folder.join("tenantgate.toml").display().to_string(), folder.join("server.crt").display().to_string());
    let (named, by_address) = (format!("localhost:{}", place.proxy.address.port()), place.proxy.address.to_string());
    let emergency = |arguments: &[&str]| {
        let mut command = Command::new(binary());
        command.args([
            "emergency",
            "--login",
            "ops",
            "--for",
            "1m",
            "--reason",
            "the house is on fire",
            "--config",
            &config,
        ]);
        command.args(arguments).output().unwrap()
    };
    for (road, is_reached) in [
        (&[][..], true),
        (&["--ca", &ca, "--proxy", &named], true),
        (&["--ca", &ca, "--proxy", &by_address], false),
        (&["--ca", &ca], false),
    ] {
        let offboard = place.offboard(&[&["--plan"], road].concat());
        let opened = emergency(road);
        for output in [offboard, opened] {
            let wanted = if is_reached { Some(0) } else { Some(2) };
            assert_eq!(output.status.code(), wanted, "{road:?}: {}", told(&output));
            assert!(is_reached || told(&output).contains("certificate"), "{road:?}: {}", told(&output));
        }
    }
    // Roots demand TLS, also of a proxy that offers none.
    place.proxy.edit(&tls, "[tls]\nmode = \"disable\"\n");
    assert!(place.proxy.reload(), "{}", place.proxy.log_tail());
    let refused = emergency(&["--ca", &ca, "--proxy", &named]);
    assert!(refused.status.code() == Some(2) && told(&refused).contains("no TLS"), "{}", told(&refused));
}

#[test]
fn a_tenant_leaves_and_nothing_of_it_is_left() {
    for cluster in every() {
        let place = place(cluster, "leaves");
        let export = place.folder.path().join("export");
        let at = export.to_str().unwrap();
        let plan = place.offboard(&["--plan"]);
        assert!(plan.status.success() && told(&plan).contains("10 rows of tenant"), "{}", told(&plan));
        assert_eq!(place.counts(), WITH);
        // Nothing is erased without an export of what there is.
        for arguments in [&["--erase"][..], &["--erase", "--export", at]] {
            let refused = place.offboard(arguments);
            assert!(!refused.status.success(), "{}", told(&refused));
        }
        let exported = place.offboard(&["--export", at]);
        assert!(exported.status.success(), "{}", told(&exported));
        assert_eq!(place.counts(), WITH);
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
        // As many rows, and others.
        for (change, back) in [
            (
                "UPDATE orders SET note = 'a note' WHERE id = 1",
                "UPDATE orders SET note = E'a \"note\",\\nin two lines' WHERE id = 1",
            ),
            ("UPDATE orders SET note = '' WHERE id = 2", "UPDATE orders SET note = NULL WHERE id = 2"),
        ] {
            cluster.admin(&place.database).run(change);
            let changed = place.offboard(&["--erase", "--export", at]);
            assert!(
                changed.status.code() == Some(1) && told(&changed).contains("rows of public.orders"),
                "{}",
                told(&changed)
            );
            cluster.admin(&place.database).run(back);
        }
        std::fs::write(&file, text.replace("note", "Note")).unwrap();
        assert!(told(&place.offboard(&["--erase", "--export", at])).contains("not what was exported"));
        std::fs::write(&file, text).unwrap();
        assert_eq!(place.counts(), WITH);
        let erased = place.offboard(&["--erase", "--export", at]);
        assert!(erased.status.success(), "{}", told(&erased));
        assert_eq!(place.counts(), WITHOUT);
        let proof = json(&export.join("proof.json"));
        let sums =
            |name: &str| proof["tables"].as_array().unwrap().iter().map(|it| it[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sums("erased"), sums("left")), (10, 0), "{proof}");
        assert!(proof["xid"].is_string());
        let steps: Vec<&str> = recorded(&proof).iter().map(|it| it["step"].as_str().unwrap()).collect();
        assert_eq!(&steps[..3], ["plan", "freeze", "plan"], "{proof}");
        assert_eq!(recorded(&proof).iter().find(|it| it["step"] == "export").unwrap()["id"], manifest["transaction"]);
        is_proven(&place, &export);
        // In the ledger: each step, and the proof's digest.
        let ledger = std::fs::read_to_string(&place.ledger).unwrap();
        let output = std::process::Command::new("sha256sum").arg(export.join("proof.json")).output().unwrap();
        let digest = String::from_utf8(output.stdout).unwrap();
        assert!(ledger.contains(&format!("proof sha256:{}", digest.split(' ').next().unwrap())), "{ledger}");
        for step in ["plan", "export", "erase", "verify"] {
            assert!(ledger.contains(&format!("contract 4711 ended (offboard {ACME}: {step}")), "{step}");
        }
        // Again, as after a crash behind the COMMIT.
        let again = place.offboard(&["--erase", "--export", at]);
        assert!(again.status.success(), "{}", told(&again));
        is_proven(&place, &export);
        // Where somebody else has erased what was exported, nothing is proven.
        let other = place.folder.path().join("other");
        let there = other.to_str().unwrap();
        cluster.admin(&place.database).run(&ROWS.replace("ACME", ACME));
        place.run(&["--export", there]);
        cluster.admin(&place.database).run(&format!(
            "UPDATE customers SET best_order = NULL; DELETE FROM items WHERE tenant_id = '{ACME}';
             DELETE FROM orders WHERE tenant_id = '{ACME}'; DELETE FROM customers WHERE tenant_id = '{ACME}'"
        ));
        let unknown = place.offboard(&["--erase", "--export", there]);
        assert!(
            unknown.status.code() == Some(1) && told(&unknown).contains("knows of no committed"),
            "{}",
            told(&unknown)
        );
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
         CREATE TABLE logs (id int, tenant_id uuid, kind int) PARTITION BY LIST (kind);
         CREATE TABLE logs_one PARTITION OF logs FOR VALUES IN (1); ALTER TABLE logs_one ADD PRIMARY KEY (id);
         CREATE TABLE traces (id int, tenant_id uuid, log int REFERENCES logs_one ON DELETE CASCADE);
         INSERT INTO logs VALUES (1, '{ACME}', 1); INSERT INTO traces VALUES (1, '{GLOBEX}', 1);
         GRANT ALL ON notes, parts, hidden, logs, traces TO app_bypass;"
    ));
    let proof = place.folder.path().join("proof.json");
    let erased = place.offboard(&["--erase", "--without-export", "--proof", proof.to_str().unwrap()]);
    let words = told(&erased);
    for what in [
        "1 rows of other tenants in public.notes",
        "public.parts",
        "1 rows of other tenants in public.traces",
        "policies of public.hidden",
        "nothing was erased",
    ] {
        assert!(words.contains(what), "{what} in {words}");
    }
    assert!(erased.status.code() == Some(1) && !proof.exists());
    assert_eq!(place.counts(), ["2 1", "2 1", "6 3"]);
}
