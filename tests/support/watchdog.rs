//! A small shell that outlives this process and ends whatever the process leaves behind.
//!
//! A cluster is shared by the whole test process, and statics are never dropped. The shell reads a pipe
//! whose other end only this process holds: when the process ends, in whatever way, the shell sees the
//! end of file, stops the processes it was told of and removes their folders.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

const SHELL: &str = r#"
trap '' INT TERM HUP
pids= dirs=
while read -r word value; do
  case $word in
    pid) pids="$pids $value " ;;
    gone) pids=$(printf '%s' "$pids" | sed "s/ $value / /") ;;
    dir) dirs="$dirs $value" ;;
  esac
done
for p in $pids; do kill -QUIT "$p" 2>/dev/null; done
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  left=
  for p in $pids; do kill -0 "$p" 2>/dev/null && left="$left $p"; done
  [ -z "$left" ] && break
  sleep 0.1
done
for p in $left; do kill -KILL "$p" 2>/dev/null; done
for d in $dirs; do rm -rf -- "$d"; done
"#;

fn tell(line: &str) {
    static WATCHDOG: OnceLock<Mutex<Child>> = OnceLock::new();
    let shell = WATCHDOG.get_or_init(|| {
        let mut command = Command::new("sh");
        command.args(["-c", SHELL]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Mutex::new(command.spawn().expect("the watchdog shell starts"))
    });
    let mut shell = shell.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(shell.stdin.as_mut().expect("its input is a pipe"), "{line}").expect("the watchdog listens");
}

/// End this process when the tests are over.
pub fn end_later(pid: u32) {
    tell(&format!("pid {pid}"));
}

/// This process has ended: its number may be somebody else's by now.
pub fn has_ended(pid: u32) {
    tell(&format!("gone {pid}"));
}

/// Remove this folder when the tests are over.
pub fn remove_later(folder: &Path) {
    tell(&format!("dir {}", folder.display()));
}
