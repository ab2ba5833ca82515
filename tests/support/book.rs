//! A ledger as the proxy writes it, made for a test: numbers and chain are its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tenantgate::audit::Digest;

/// What is being written.
pub struct Book {
    pub path: PathBuf,
    pub seq: u64,
    prev: Digest,
    text: String,
}

impl Book {
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join("ledger.jsonl"), seq: 0, prev: Digest::NONE, text: String::new() }
    }

    /// A record with these fields behind those that all have.
    pub fn put(&mut self, day: u64, fields: &str) {
        self.seq += 1;
        let (seq, prev, second) = (self.seq, self.prev, self.seq % 60);
        let line = format!(
            r#"{{"v":3,"seq":{seq},"at":"2026-11-{day:02}T09:00:{second:02}.000000Z","prev":"{prev}",{fields}}}"#
        );
        self.prev = Digest::of(line.as_bytes());
        writeln!(self.text, "{line}").unwrap();
    }

    pub fn transaction(&mut self, day: u64, id: &str, login: &str, reason: &str, table: &str, rows: u64) {
        let actor = format!(
            r#""login":"{login}","address":"10.0.0.7:5","database":"shop","role":"app_bypass","preset":"bypass""#
        );
        self.put(day, &format!(r#""kind":"intent","id":"{id}",{actor},"reason":"{reason}","server_version":"15.3""#));
        self.put(day, &format!(r#""kind":"outcome","id":"{id}",{actor},"result":"committed","statements":[{{"class":"select","text":"SELECT …"}}],"statements_total":1,"tables":["{table}"],"rows_delivered":{rows},"rows_affected":0"#));
    }

    pub fn save(&mut self) {
        let mut file = std::fs::File::options().create(true).append(true).open(&self.path).unwrap();
        file.write_all(std::mem::take(&mut self.text).as_bytes()).unwrap();
    }
}
