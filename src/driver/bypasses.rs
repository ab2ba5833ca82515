//! How bypasses stand: whether they are frozen, and which emergencies are open.
//!
//! A freeze is kept in `frozen-bypass.json` in the folder of `[state]`, so that it survives a restart; without such a folder it
//! lasts as long as the proxy, and the log says so. It is in force before it is written. A file that cannot be understood
//! means frozen. Emergencies live in memory: a restart ends them.
//!
//! Owns: the state, its file, and who changes it. Does not own: records (`control`), running transactions (each session's own).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::freeze::{FreezeFault, replace};
use crate::bypass::{Emergencies, Emergency, EmergencyFault, Standing};
use crate::fault::{Code, Fault};
use crate::time::TimeOfDay;

/// The file's name; it is there while bypasses are frozen.
const FILE_NAME: &str = "frozen-bypass.json";

/// That all bypasses are frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BypassFreeze {
    /// Why.
    pub reason: String,
    /// Whose login did it.
    pub by: String,
    /// When, RFC 3339 in UTC.
    pub at: String,
}

#[derive(Clone, Debug, Default)]
struct State {
    freeze: Option<Arc<BypassFreeze>>,
    emergencies: Emergencies,
}

/// How bypasses stand.
#[derive(Debug)]
pub struct Bypasses {
    state: ArcSwap<State>,
    folder: Option<PathBuf>,
    /// Changes go one after the other.
    changing: parking_lot::Mutex<()>,
}

impl Bypasses {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read: whoever goes on as if there were none lets frozen bypasses run.
    pub fn open(folder: Option<&Path>) -> Result<Self, FreezeFault> {
        let freeze = match folder.map(|folder| folder.join(FILE_NAME)) {
            Some(path) => read(&path).map_err(|reason| FreezeFault::Io { path, reason })?,
            None => None,
        };
        let state = State { freeze: freeze.map(Arc::new), emergencies: Emergencies::default() };
        Ok(Self {
            state: ArcSwap::from_pointee(state),
            folder: folder.map(Path::to_path_buf),
            changing: parking_lot::Mutex::default(),
        })
    }

    /// How they stand for a login.
    #[must_use]
    pub fn standing(&self, login: &str, now: TimeOfDay) -> Standing {
        let state = self.state.load();
        Standing {
            now,
            frozen: state.freeze.as_ref().map(|freeze| freeze.reason.as_str().into()),
            emergency: state.emergencies.of(login).cloned(),
        }
    }

    /// That they are frozen, if they are.
    #[must_use]
    pub fn freeze(&self) -> Option<Arc<BypassFreeze>> {
        self.state.load().freeze.clone()
    }

    /// Those emergencies that are open, the oldest first.
    #[must_use]
    pub fn emergencies(&self) -> Vec<Arc<Emergency>> {
        self.state.load().emergencies.iter().cloned().collect()
    }

    /// Whether one could be opened now.
    ///
    /// # Errors
    /// As [`Bypasses::open_emergency`].
    pub fn could_open(&self, emergency: &Emergency, longest: Duration) -> Result<(), Fault> {
        opened(&self.state.load(), emergency.clone(), longest).map(drop)
    }

    /// Opens one. What it takes the place of comes back.
    ///
    /// # Errors
    /// Bypasses are frozen, it would last too long, or there are too many.
    pub fn open_emergency(&self, emergency: Emergency, longest: Duration) -> Result<Option<Arc<Emergency>>, Fault> {
        let _turn = self.changing.lock();
        let (emergencies, replaced) = opened(&self.state.load(), emergency, longest)?;
        self.state.store(Arc::new(State { freeze: None, emergencies }));
        Ok(replaced)
    }

    /// Closes the one of this name, or of this login.
    #[must_use]
    pub fn close_emergency(&self, name: &str) -> Option<Arc<Emergency>> {
        let _turn = self.changing.lock();
        let state = self.state.load_full();
        let (emergencies, closed) = state.emergencies.without(name)?;
        self.state.store(Arc::new(State { freeze: state.freeze.clone(), emergencies }));
        Some(closed)
    }

    /// Closes those whose time is over.
    #[must_use]
    pub fn expire(&self, now: TimeOfDay) -> Vec<Arc<Emergency>> {
        if self.state.load().emergencies.is_empty() {
            return Vec::new();
        }
        let _turn = self.changing.lock();
        let state = self.state.load_full();
        let Some((emergencies, over)) = state.emergencies.expired(now) else { return Vec::new() };
        self.state.store(Arc::new(State { freeze: state.freeze.clone(), emergencies }));
        over
    }

    /// No bypass runs any more, and no emergency is open; those that were come back, and whether it will survive a restart.
    /// Blocks on the disk, behind the moment from which on it counts.
    pub fn freeze_all(&self, freeze: BypassFreeze) -> (Vec<Arc<Emergency>>, Result<(), Fault>) {
        let _turn = self.changing.lock();
        let closed = self.emergencies();
        let text = serde_json::to_string(&freeze);
        self.state.store(Arc::new(State { freeze: Some(Arc::new(freeze)), emergencies: Emergencies::default() }));
        let unwritten = |detail: String| Fault::of(Code::StateUnwritten).with_detail(detail);
        let kept = match (&self.folder, text) {
            (None, _) => Err(Fault::of(Code::StateMissing)),
            (Some(_), Err(fault)) => Err(unwritten(fault.to_string())),
            (Some(folder), Ok(text)) => replace(folder, FILE_NAME, &text).map_err(|fault| unwritten(fault.to_string())),
        };
        (closed, kept)
    }

    /// They run again, if they are still frozen by the one that was looked at. Blocks on the disk.
    ///
    /// # Errors
    /// They are not frozen, were frozen anew meanwhile, or the file cannot be removed; they stay as they are then.
    pub fn thaw(&self, frozen: &Arc<BypassFreeze>) -> Result<(), Fault> {
        let _turn = self.changing.lock();
        let state = self.state.load_full();
        match &state.freeze {
            None => return Err(not_frozen()),
            Some(now) if !Arc::ptr_eq(now, frozen) => {
                let detail = format!("Bypasses were frozen anew meanwhile. The reason given is: {}", now.reason);
                return Err(Fault::of(Code::CommandRefused).with_detail(detail));
            }
            Some(_) => {}
        }
        if let Some(folder) = &self.folder {
            remove(folder).map_err(|fault| Fault::of(Code::StateUnwritten).with_detail(fault.to_string()))?;
        }
        self.state.store(Arc::new(State { freeze: None, emergencies: state.emergencies.clone() }));
        Ok(())
    }
}

/// Of a thaw that has nothing to end.
pub(super) fn not_frozen() -> Fault {
    Fault::of(Code::CommandRefused).with_detail("Bypasses are not frozen.")
}

fn opened(
    state: &State,
    emergency: Emergency,
    longest: Duration,
) -> Result<(Emergencies, Option<Arc<Emergency>>), Fault> {
    if let Some(freeze) = &state.freeze {
        let detail = format!("The reason given is: {}", freeze.reason);
        return Err(Fault::of(Code::BypassFrozen).with_detail(detail));
    }
    let refused = |fault: EmergencyFault| Fault::of(Code::CommandRefused).with_detail(format!("{fault}."));
    state.emergencies.with(emergency, longest).map_err(refused)
}

fn read(path: &Path) -> io::Result<Option<BypassFreeze>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    // What it says does not matter for whether they are.
    let unread =
        || BypassFreeze { reason: "unknown: the file cannot be understood".into(), by: "".into(), at: "".into() };
    Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| unread())))
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(FILE_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bypass::EmergencyId;

    const NOW: TimeOfDay = TimeOfDay::from_unix_micros(1_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn frozen() -> BypassFreeze {
        BypassFreeze { reason: "a leak".into(), by: "root".into(), at: "2026-11-23T09:00:00Z".into() }
    }

    fn emergency() -> Emergency {
        let until = TimeOfDay::from_unix_micros(61_000_000);
        let word = || Arc::<str>::from("x");
        let id = EmergencyId(uuid::Uuid::nil());
        Emergency { id, login: "ops".into(), until, reason: word(), by: word(), address: word(), at: NOW }
    }

    #[test]
    fn a_freeze_closes_emergencies_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let bypasses = Bypasses::open(Some(folder.path())).unwrap();
        bypasses.open_emergency(emergency(), HOUR).unwrap();
        assert!(bypasses.standing("ops", NOW).emergency.is_some());
        let (closed, kept) = bypasses.freeze_all(frozen());
        assert_eq!((closed.len(), kept), (1, Ok(())));
        let refused = bypasses.open_emergency(emergency(), HOUR).unwrap_err();
        assert_eq!(refused.code, Some(Code::BypassFrozen));
        let again = Bypasses::open(Some(folder.path())).unwrap();
        assert_eq!(again.freeze().as_deref(), Some(&frozen()));
        assert_eq!(again.standing("ops", NOW).frozen.as_deref(), Some("a leak"));
        let before = again.freeze().unwrap();
        again.thaw(&before).unwrap();
        assert_eq!(again.thaw(&before).unwrap_err().code, Some(Code::CommandRefused));
        assert_eq!(Bypasses::open(Some(folder.path())).unwrap().freeze(), None);
    }

    #[test]
    fn a_freeze_is_in_force_wherever_it_is_kept() {
        let bypasses = Bypasses::open(None).unwrap();
        let (_, kept) = bypasses.freeze_all(frozen());
        assert_eq!(kept.unwrap_err().code, Some(Code::StateMissing));
        assert!(bypasses.standing("ops", NOW).frozen.is_some());
        // One that was given meanwhile, for the same reason at the same second, is another one.
        let before = bypasses.freeze().unwrap();
        drop(bypasses.freeze_all(frozen()));
        assert_eq!(bypasses.thaw(&before).unwrap_err().code, Some(Code::CommandRefused));
        bypasses.thaw(&bypasses.freeze().unwrap()).unwrap();
        assert!(bypasses.freeze().is_none());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "{").unwrap();
        assert!(Bypasses::open(Some(folder.path())).unwrap().freeze().is_some(), "a broken file means frozen");
    }

    #[test]
    fn an_emergency_ends_in_time_or_by_name() {
        let bypasses = Bypasses::open(None).unwrap();
        bypasses.open_emergency(emergency(), HOUR).unwrap();
        assert!(bypasses.expire(TimeOfDay::from_unix_micros(60_999_999)).is_empty());
        assert_eq!(bypasses.expire(TimeOfDay::from_unix_micros(61_000_000)).len(), 1);
        bypasses.open_emergency(emergency(), HOUR).unwrap();
        assert!(bypasses.close_emergency("other").is_none() && bypasses.close_emergency("ops").is_some());
        assert!(bypasses.emergencies().is_empty());
    }
}
