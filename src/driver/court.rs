//! A few questions of the proxy's own to a server that is logged in.
//!
//! Owns: one question at a time, its rows as texts. Does not own: what is asked, and how long that may take.

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stream::Stream;
use crate::fault::SqlState;
use crate::wire::backend::Fields;
use crate::wire::frame::{HEAD_BYTES, Head};
use crate::wire::frontend::put_query;
use crate::wire::limits::INSPECTED_BYTES_MAX;
use crate::wire::reader::Reader;

/// A server that is asked.
pub(super) struct Court<'s> {
    /// Its socket.
    pub stream: &'s mut Stream,
    /// What has come from it.
    pub input: &'s mut BytesMut,
}

/// Why there is no answer.
pub(super) enum Silence {
    /// The connection has failed, or said what is no answer.
    Lost,
    /// The question was refused.
    Refused(Option<SqlState>),
}

/// Its columns; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

impl Court<'_> {
    /// The only row of an answer.
    pub(super) async fn one(&mut self, sql: &str) -> Result<Row, Silence> {
        let mut only = None;
        self.each(sql, |row| only.replace(row).is_none()).await?;
        only.ok_or(Silence::Lost)
    }

    /// Gives each row of an answer, as texts, to `take`, which says whether there may be more.
    pub(super) async fn each(&mut self, sql: &str, mut take: impl FnMut(Row) -> bool) -> Result<(), Silence> {
        let mut query = BytesMut::new();
        put_query(&mut query, sql.as_bytes());
        self.stream.write_all(&query).await.map_err(|_| Silence::Lost)?;
        self.stream.flush().await.map_err(|_| Silence::Lost)?;
        let mut refused = None;
        loop {
            let head = Head::read(self.input).map_err(|_| Silence::Lost)?;
            if head.is_some_and(|head| head.body_bytes > INSPECTED_BYTES_MAX) {
                return Err(Silence::Lost);
            }
            let Some((head, body)) =
                head.and_then(|head| Some((head, self.input.get(HEAD_BYTES..head.frame_bytes())?)))
            else {
                if self.stream.read_buf(self.input).await.map_err(|_| Silence::Lost)? == 0 {
                    return Err(Silence::Lost);
                }
                continue;
            };
            match head.tag {
                b'D' if row(body).is_some_and(&mut take) => {}
                b'D' => return Err(Silence::Lost),
                b'E' => refused = Some(Silence::Refused(Fields::new(body).sqlstate())),
                _ => {}
            }
            self.input.advance(head.frame_bytes());
            if head.tag == b'Z' {
                return refused.map_or(Ok(()), Err);
            }
        }
    }
}

/// DataRow.
fn row(body: &[u8]) -> Option<Row> {
    let mut reader = Reader::new(body);
    let columns = reader.i16("columns").ok()?;
    let mut row = Row::new();
    for _ in 0..columns {
        row.push(match usize::try_from(reader.i32("length").ok()?) {
            Ok(bytes) => Some(String::from_utf8_lossy(reader.bytes(bytes, "value").ok()?).into_owned()),
            Err(_) => None,
        });
    }
    Some(row)
}

/// A column that is a number.
pub(super) fn number<N: std::str::FromStr>(row: &Row, column: usize) -> Option<N> {
    row.get(column)?.as_deref()?.parse().ok()
}
