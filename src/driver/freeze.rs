//! The frozen tenants, in memory for every login and in a file for the next start.
//!
//! The file is `frozen-tenants.json` in the folder of `[state]`. It is written before a freeze counts, so what
//! was confirmed survives any end: a temporary file, fsync, rename, fsync of the folder. A file that cannot be
//! understood keeps the proxy from starting: guessing "nobody" would let frozen tenants work. Each proxy
//! needs a folder of its own, and holds a lock on a file in it: two would overwrite each other's freezes.
//!
//! Owns: the file and who reads the set. Does not own: its form (`tenant`), ending sessions (`control`).

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::fault::{Code, Fault};
use crate::tenant::{FreezeFileFault, FrozenTenants, TenantId, TenantKind};

/// The file's name.
pub const FILE_NAME: &str = "frozen-tenants.json";

/// The file that the lock is on: the other one is replaced as a whole with each change.
const LOCK_NAME: &str = "frozen-tenants.lock";

/// Longer than any file the proxy writes: 10,000 entries with the longest reasons.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why the set cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FreezeFault {
    /// The folder is not there, cannot be written, or is another proxy's.
    #[error("state.folder: {folder} cannot be used: {reason}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What stands in the way.
        reason: io::Error,
    },
    /// The file cannot be used.
    #[error("state.folder: the frozen tenants cannot be kept in {path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// The file is not what the proxy writes.
    #[error("state.folder: {path} does not say which tenants are frozen: {fault}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FreezeFileFault,
    },
}

/// The frozen tenants.
#[derive(Debug)]
pub struct Freezer {
    set: Arc<ArcSwap<FrozenTenants>>,
    folder: Option<PathBuf>,
    /// Held as long as the set may change.
    _lock: Option<File>,
    /// Changes go one after the other.
    changing: Arc<tokio::sync::Mutex<()>>,
}

impl Freezer {
    /// Reads the file, and writes it back: a folder that cannot be written has to show now, not in an emergency.
    ///
    /// # Errors
    /// Whoever goes on without the set lets frozen tenants in.
    pub fn open(folder: Option<&Path>, kind: TenantKind) -> Result<Self, FreezeFault> {
        let mut set = FrozenTenants::default();
        let lock = folder.map(lock).transpose()?;
        if let Some(folder) = folder {
            set = read(&folder.join(FILE_NAME), kind)?;
            write(folder, &set)?;
        }
        Ok(Self {
            set: Arc::new(ArcSwap::from_pointee(set)),
            folder: folder.map(Path::to_path_buf),
            _lock: lock,
            changing: Arc::default(),
        })
    }

    /// The set as it is now.
    #[must_use]
    pub fn now(&self) -> Arc<FrozenTenants> {
        self.set.load_full()
    }

    /// Whether nobody may work for the tenant.
    #[must_use]
    pub fn has(&self, tenant: &TenantId) -> bool {
        self.set.load().has(tenant)
    }

    /// Whether the set can be read again when tenants are of this kind.
    #[must_use]
    pub fn fits(&self, kind: TenantKind) -> bool {
        self.set
            .load()
            .iter()
            .all(|(tenant, _)| TenantId::parse(kind, tenant.as_str()).is_ok_and(|same| same == *tenant))
    }

    /// If dropped: the change is made all the same, in the file, here and for those whom `then` tells, or not at all.
    ///
    /// Changes the set: first whatever `before` does, then the file, then what logins see, then whatever `then` does, which
    /// is told whether the change was made. Both may block.
    ///
    /// # Errors
    /// What `change` or `before` says, or that the file cannot be written; nothing is changed then.
    pub async fn change(
        &self,
        change: impl FnOnce(&FrozenTenants) -> Result<FrozenTenants, Fault>,
        before: impl FnOnce() -> Result<(), Fault> + Send + 'static,
        then: impl FnOnce(bool) + Send + 'static,
    ) -> Result<(), Fault> {
        let folder = self.folder.clone().ok_or_else(|| Fault::of(Code::StateMissing))?;
        let turn = Arc::clone(&self.changing).lock_owned().await;
        let next = Arc::new(change(&self.set.load())?);
        let set = Arc::clone(&self.set);
        // The turn goes along: whoever asked may be gone before the file is written, and the next one waits for it.
        let changed = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            before()?;
            let written = write(&folder, &next);
            if written.is_ok() {
                set.store(next);
            }
            then(written.is_ok());
            written.map_err(|fault| Fault::of(Code::StateUnwritten).with_detail(fault.to_string()))
        });
        match changed.await {
            Ok(changed) => changed,
            Err(_) => Err(Fault::of(Code::StateUnwritten).with_detail("The proxy is ending.")),
        }
    }
}

/// Makes the folder this process's own, for as long as the file is open.
fn lock(folder: &Path) -> Result<File, FreezeFault> {
    let unusable = |reason| FreezeFault::Folder { folder: folder.to_path_buf(), reason };
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK_NAME));
    let file = file.map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(unusable(io::Error::other("another proxy uses it"))),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn read(path: &Path, kind: TenantKind) -> Result<FrozenTenants, FreezeFault> {
    let unusable = |reason| FreezeFault::Io { path: path.to_path_buf(), reason };
    let length = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FrozenTenants::default()),
        found => found.map_err(unusable)?.len(),
    };
    if length > FILE_BYTES_MAX {
        return Err(unusable(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))));
    }
    let text = fs::read_to_string(path).map_err(unusable)?;
    FrozenTenants::parse(&text, kind).map_err(|fault| FreezeFault::Broken { path: path.to_path_buf(), fault })
}

fn write(folder: &Path, set: &FrozenTenants) -> Result<(), FreezeFault> {
    let path = folder.join(FILE_NAME);
    let text = set.to_text().map_err(|fault| FreezeFault::Broken { path: path.clone(), fault })?;
    replace(folder, FILE_NAME, &text).map_err(|reason| FreezeFault::Io { path: path.clone(), reason })
}

/// Writes a file of the folder anew: all of it or nothing, and on the disk when it returns.
pub(super) fn replace(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::Frozen;

    fn tenant() -> TenantId {
        TenantId::parse(TenantKind::Text, "acme").unwrap()
    }

    fn frozen() -> Frozen {
        Frozen { reason: "a leak".into(), by: "ops".into(), at: "2026-11-23T09:00:00Z".into() }
    }

    async fn freeze(freezer: &Freezer) -> Result<(), Fault> {
        freezer
            .change(
                |set| set.with(&tenant(), frozen()).ok_or_else(|| Fault::of(Code::CommandRefused)),
                || Ok(()),
                |_| (),
            )
            .await
    }

    #[tokio::test]
    async fn a_freeze_is_there_after_a_new_start() {
        let folder = tempfile::tempdir().unwrap();
        let freezer = Freezer::open(Some(folder.path()), TenantKind::Text).unwrap();
        freeze(&freezer).await.unwrap();
        assert!(freezer.has(&tenant()) && freezer.fits(TenantKind::Text) && !freezer.fits(TenantKind::Uuid));
        let before = freezer.now();
        drop(freezer);
        let again = Freezer::open(Some(folder.path()), TenantKind::Text).unwrap();
        assert_eq!(again.now(), before);
        let thaw = |set: &FrozenTenants| set.without(&tenant()).ok_or_else(|| Fault::of(Code::CommandRefused));
        again.change(thaw, || Ok(()), |_| ()).await.unwrap();
        assert_eq!(again.change(thaw, || Ok(()), |_| ()).await.unwrap_err().code, Some(Code::CommandRefused));
        drop(again);
        assert!(Freezer::open(Some(folder.path()), TenantKind::Text).unwrap().now().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_not_done() {
        let freezer = Freezer::open(None, TenantKind::Text).unwrap();
        assert_eq!(freeze(&freezer).await.unwrap_err().code, Some(Code::StateMissing));
        let folder = tempfile::tempdir().unwrap();
        let freezer = Freezer::open(Some(folder.path()), TenantKind::Text).unwrap();
        drop(folder);
        assert_eq!(freeze(&freezer).await.unwrap_err().code, Some(Code::StateUnwritten));
        assert!(!freezer.has(&tenant()));
    }

    #[test]
    fn a_broken_file_or_folder_is_no_empty_set() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "{\"version\":1,\"fro").unwrap();
        let broken = Freezer::open(Some(folder.path()), TenantKind::Text).unwrap_err();
        assert!(broken.to_string().contains("does not say which tenants are frozen"), "{broken}");
        let none = folder.path().join("none");
        let missing = Freezer::open(Some(&none), TenantKind::Text).unwrap_err().to_string();
        let wanted = format!("state.folder: {} cannot be used: No such file or directory", none.display());
        assert!(missing.starts_with(&wanted), "{missing}");
    }

    #[tokio::test]
    async fn a_folder_serves_one_proxy() {
        let folder = tempfile::tempdir().unwrap();
        let freezer = Freezer::open(Some(folder.path()), TenantKind::Text).unwrap();
        let second = Freezer::open(Some(folder.path()), TenantKind::Text).unwrap_err().to_string();
        assert!(second.starts_with("state.folder: ") && second.ends_with("another proxy uses it"), "{second}");
        freeze(&freezer).await.unwrap();
        let other = tempfile::tempdir().unwrap();
        Freezer::open(Some(other.path()), TenantKind::Text).unwrap();
        drop(freezer);
        assert!(Freezer::open(Some(folder.path()), TenantKind::Text).unwrap().has(&tenant()));
    }
}
