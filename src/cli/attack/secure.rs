//! The tool's connections: COPY data by every protocol.
//!
//! What COPY TO STDOUT sends is taken out of the stream and kept: tokio-postgres understands it for one statement of the
//! extended protocol alone.
//!
//! Owns: what is taken out. Does not own: connecting (`cli::secure`).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Config;

use crate::cli::secure::{Duplex, Secure};

/// Longest message that is taken: the probe table has two short rows.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Type and length.
const HEAD_BYTES: usize = 5;

/// A connection without the messages of COPY TO STDOUT, which are kept.
pub struct Stream {
    inner: Box<dyn Duplex>,
    /// What has come, from the front of a message on.
    input: BytesMut,
    /// Bytes at its front that are messages to be given on.
    whole: usize,
    copied: Arc<Mutex<String>>,
}

impl Stream {
    /// Connects, with TLS as the settings want it.
    ///
    /// # Errors
    /// There is no connection, or not one that is wanted.
    pub async fn connect(secure: &Secure, to: &Config) -> io::Result<Self> {
        let inner = secure.open(to).await?;
        Ok(Self { inner, input: BytesMut::new(), whole: 0, copied: Arc::default() })
    }

    /// What COPY has sent so far.
    pub fn copied(&self) -> Arc<Mutex<String>> {
        Arc::clone(&self.copied)
    }

    /// Takes COPY's messages out, up to one that is to be given on or is not there as a whole.
    fn look(&mut self) -> io::Result<()> {
        while self.whole == 0 {
            let Some((&tag, length)) = self.input.first().zip(self.input.get(1..HEAD_BYTES)) else { return Ok(()) };
            let length = length.iter().fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
            if length > MESSAGE_BYTES_MAX {
                return Err(io::Error::other("a message too long"));
            }
            let frame = length.max(HEAD_BYTES - 1) + 1;
            let Some(body) = self.input.get(HEAD_BYTES..frame) else { return Ok(()) };
            match tag {
                b'd' => self.copied.lock().push_str(&String::from_utf8_lossy(body)),
                b'H' | b'c' => {}
                _ => {
                    self.whole = frame;
                    return Ok(());
                }
            }
            self.input.advance(frame);
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            self.look()?;
            if self.whole > 0 {
                let count = self.whole.min(out.remaining());
                out.put_slice(&self.input.split_to(count));
                self.whole -= count;
                return Poll::Ready(Ok(()));
            }
            let mut piece = [0; 4096];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.input.extend_from_slice(read.filled());
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag][..], &length, body].concat()
    }

    #[tokio::test]
    async fn copied_data_is_kept_and_everything_else_goes_on() {
        let others = [frame(b'T', b"one"), frame(b'C', b"COPY 2\0"), frame(b'Z', b"I")];
        let all = [
            others[0].clone(),
            frame(b'H', &[0, 0, 0]),
            frame(b'd', b"a\n"),
            frame(b'd', b"secret\n"),
            frame(b'c', b""),
            others[1].clone(),
            others[2].clone(),
        ];
        for size in [1, 3, 1_000] {
            let (mut server, inner) = tokio::io::duplex(size);
            let copied = Arc::new(Mutex::new(String::new()));
            let mut stream =
                Stream { inner: Box::new(inner), input: BytesMut::new(), whole: 0, copied: Arc::clone(&copied) };
            let bytes = all.concat();
            let (written, mut heard) = (tokio::spawn(async move { server.write_all(&bytes).await }), Vec::new());
            stream.read_to_end(&mut heard).await.unwrap();
            written.await.unwrap().unwrap();
            assert_eq!((heard, &**copied.lock()), (others.concat(), "a\nsecret\n"), "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_message_without_end_is_not_waited_for() {
        let (mut server, inner) = tokio::io::duplex(64);
        let mut stream = Stream { inner: Box::new(inner), input: BytesMut::new(), whole: 0, copied: Arc::default() };
        server.write_all(&[b'd', 0xff, 0xff, 0xff, 0xff]).await.unwrap();
        assert!(stream.read_u8().await.is_err());
    }
}
