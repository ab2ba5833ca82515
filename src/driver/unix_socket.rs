//! The unix socket that clients on this machine connect to.
//!
//! Owns: its file: made with the right permissions from the first moment, never taken from a process that listens,
//! replaced if that process is dead, removed in the end. Does not own: accepting.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::config::UnixSocketSettings;

/// A listening socket; its file goes when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file, as long as it is ours.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and number: whether the file of this name is still this one.
    identity: (u64, u64),
    /// Held for as long as we listen. The file itself stays: removing it would let two processes hold a lock each.
    _lock: File,
}

impl UnixSocket {
    /// Listens. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Another process listens there, something else is there, or the system says no.
    pub fn bind(settings: &UnixSocketSettings, backlog: u32) -> io::Result<Self> {
        let path = &settings.path;
        let lock = lock(path)?;
        refuse_unless_dead(path)?;
        // Made under another name and moved when it is ready: nobody meets it without its permissions, and a dead
        // socket is replaced at once.
        let new = with_suffix(path, ".new");
        remove_socket(&new)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(&new)?)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(settings.mode))?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let listener = UnixListener::from_std(socket.into())?;
        let metadata = fs::symlink_metadata(&new)?;
        fs::rename(&new, path)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { listener, file: SocketFile { path: path.clone(), identity, _lock: lock } })
    }

    /// Accepts one client. If dropped: nobody is lost.
    ///
    /// # Errors
    /// As the system says.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

impl Drop for SocketFile {
    /// The one place where a file is touched while something is dropped: the listener's task is ended from outside,
    /// and there is no later moment. A file that another process has put there meanwhile is left alone.
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

/// One of ours at a time, even while it starts. Nothing is ever written to this file, whatever its name may lead to.
fn lock(path: &Path) -> io::Result<File> {
    let path = with_suffix(path, ".tenantgate-lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(in_use()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether nobody listens at the path: a socket that refuses connections belonged to a process that is dead.
fn refuse_unless_dead(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener whose queue is full would keep us waiting; it is alive.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Ok(()) | Err(_) => Err(in_use()),
    }
}

/// What an earlier start left behind before it was done.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn in_use() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(folder: &Path, mode: u32) -> UnixSocketSettings {
        UnixSocketSettings { path: folder.join(".s.PGSQL.6432"), mode }
    }

    fn kind(result: io::Result<UnixSocket>) -> io::ErrorKind {
        result.expect_err("it is listened on").kind()
    }

    #[tokio::test]
    async fn the_file_has_its_permissions_and_goes_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 0o750);
        let socket = UnixSocket::bind(&settings, 8).unwrap();
        assert_eq!(fs::symlink_metadata(&settings.path).unwrap().permissions().mode() & 0o777, 0o750);
        let (client, accepted) = tokio::join!(UnixStream::connect(&settings.path), socket.accept());
        assert!(client.is_ok() && accepted.is_ok());
        drop(socket);
        assert!(!settings.path.exists());
    }

    #[tokio::test]
    async fn a_living_listener_keeps_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 0o777);
        let ours = UnixSocket::bind(&settings, 8).unwrap();
        assert_eq!(kind(UnixSocket::bind(&settings, 8)), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(&settings.path).await.is_ok());
        drop(ours);
        // Somebody who knows nothing of our lock.
        let strangers = std::os::unix::net::UnixListener::bind(&settings.path).unwrap();
        assert_eq!(kind(UnixSocket::bind(&settings, 8)), io::ErrorKind::AddrInUse);
        drop(strangers);
        assert!(settings.path.exists());
        assert!(UnixSocket::bind(&settings, 8).is_ok(), "a dead socket is replaced");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 0o777);
        for name in [".s.PGSQL.6432", ".s.PGSQL.6432.new"] {
            let path = folder.path().join(name);
            fs::write(&path, "dear").unwrap();
            assert_eq!(kind(UnixSocket::bind(&settings, 8)), io::ErrorKind::AlreadyExists, "{name}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "dear");
            fs::remove_file(&path).unwrap();
        }
        let nowhere = UnixSocketSettings { path: folder.path().join("none/.s.PGSQL.6432"), mode: 0o777 };
        assert_eq!(kind(UnixSocket::bind(&nowhere, 8)), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_successors_file_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), 0o777);
        let ours = UnixSocket::bind(&settings, 8).unwrap();
        fs::remove_file(&settings.path).unwrap();
        let successor = std::os::unix::net::UnixListener::bind(&settings.path).unwrap();
        drop(ours);
        assert!(settings.path.exists());
        drop(successor);
    }
}
