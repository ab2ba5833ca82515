//! Messages of a server: reading the parts that decide, and encoding the ones the proxy sends itself.

use bytes::{BufMut, BytesMut};

use super::TransactionStatus;
use super::frontend::{put_cstr, put_message};
use super::reader::{Malformed, Reader};
use crate::fault::{Fault, SqlState};

/// The fields of an ErrorResponse or NoticeResponse, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    body: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Over a body; malformed tails are simply not iterated.
    #[must_use]
    pub const fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// Field type and value, in order.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut reader = Reader::new(self.body);
        std::iter::from_fn(move || {
            let kind = reader.u8("field").ok().filter(|&kind| kind != 0)?;
            Some((kind, reader.cstr("field").ok()?))
        })
    }

    /// The value of one field.
    #[must_use]
    pub fn find(self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find_map(|(k, value)| (k == kind).then_some(value))
    }

    /// The SQLSTATE (`C`), if it has five bytes.
    #[must_use]
    pub fn sqlstate(self) -> Option<SqlState> {
        self.find(b'C').and_then(|value| <[u8; 5]>::try_from(value).ok()).map(SqlState)
    }

    /// Whether the untranslated severity (`V`) says that the server ends the connection.
    #[must_use]
    pub fn is_fatal(self) -> bool {
        matches!(self.find(b'V').or_else(|| self.find(b'S')), Some(b"FATAL" | b"PANIC"))
    }
}

/// Name and value of a ParameterStatus.
///
/// # Errors
/// The body is malformed.
pub fn read_parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut reader = Reader::new(body);
    let name = reader.cstr("the name of ParameterStatus")?;
    let value = reader.cstr("the value of ParameterStatus")?;
    Ok((name, value))
}

/// Process id and secret of a BackendKeyData (4 bytes in protocol 3.0, up to 256 in 3.2).
///
/// # Errors
/// The body is malformed.
pub fn read_backend_key(body: &[u8]) -> Result<(i32, &[u8]), Malformed> {
    let mut reader = Reader::new(body);
    let process_id = reader.i32("the process id of BackendKeyData")?;
    match reader.rest() {
        secret if (4..=256).contains(&secret.len()) => Ok((process_id, secret)),
        _ => Err(Malformed("a secret of 4 to 256 bytes in BackendKeyData")),
    }
}

/// The status of a ReadyForQuery.
///
/// # Errors
/// The body is malformed.
pub fn read_ready(body: &[u8]) -> Result<TransactionStatus, Malformed> {
    match body {
        [byte] => TransactionStatus::from_byte(*byte).ok_or(Malformed("a known transaction status")),
        _ => Err(Malformed("the status of ReadyForQuery")),
    }
}

/// The tag of a CommandComplete.
///
/// # Errors
/// The body is malformed.
pub fn read_command_tag(body: &[u8]) -> Result<&[u8], Malformed> {
    Reader::new(body).cstr("the tag of CommandComplete")
}

/// ErrorResponse of a fault.
pub fn put_error(out: &mut BytesMut, fault: &Fault) {
    put_message(out, b'E', |out| {
        put_field(out, b'S', fault.severity.word());
        put_field(out, b'V', fault.severity.word());
        put_field(out, b'C', fault.sqlstate.as_str());
        put_field(out, b'M', &fault.message);
        if let Some(detail) = &fault.detail {
            put_field(out, b'D', detail);
        }
        if let Some(hint) = &fault.hint {
            put_field(out, b'H', hint);
        }
        if let Some(position) = fault.position {
            put_field(out, b'P', &position.to_string());
        }
        out.put_u8(0);
    });
}

/// A warning in PostgreSQL's own words.
pub fn put_warning(out: &mut BytesMut, sqlstate: &[u8; 5], message: &str) {
    put_message(out, b'N', |out| {
        put_field(out, b'S', "WARNING");
        put_field(out, b'V', "WARNING");
        put_field(out, b'C', std::str::from_utf8(sqlstate).unwrap_or("01000"));
        put_field(out, b'M', message);
        out.put_u8(0);
    });
}

/// A field whose text may come from a peer: it ends at a NUL, as the protocol's strings do.
fn put_field(out: &mut BytesMut, kind: u8, value: &str) {
    out.put_u8(kind);
    put_cstr(out, value.split('\0').next().unwrap_or_default().as_bytes());
}

/// ReadyForQuery.
pub fn put_ready(out: &mut BytesMut, status: TransactionStatus) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status.byte()]);
}

/// CommandComplete.
pub fn put_command_complete(out: &mut BytesMut, tag: &[u8]) {
    put_message(out, b'C', |out| put_cstr(out, tag));
}

/// ParameterStatus.
pub fn put_parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    put_message(out, b'S', |out| {
        put_cstr(out, name);
        put_cstr(out, value);
    });
}

/// BackendKeyData.
pub fn put_backend_key(out: &mut BytesMut, process_id: i32, secret: &[u8]) {
    put_message(out, b'K', |out| {
        out.put_i32(process_id);
        out.put_slice(secret);
    });
}

/// ParseComplete.
pub fn put_parse_complete(out: &mut BytesMut) {
    out.put_slice(b"1\0\0\0\x04");
}

/// CloseComplete.
pub fn put_close_complete(out: &mut BytesMut) {
    out.put_slice(b"3\0\0\0\x04");
}

/// NegotiateProtocolVersion: the newest minor version spoken (as `3 << 16 | minor`), and every
/// `_pq_.` option not known.
pub fn put_negotiate(out: &mut BytesMut, protocol: i32, unknown_options: &[String]) {
    put_message(out, b'v', |out| {
        out.put_i32(protocol);
        out.put_i32(i32::try_from(unknown_options.len()).unwrap_or(i32::MAX));
        for option in unknown_options {
            put_cstr(out, option.as_bytes());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Code;
    use crate::wire::frame::cut;

    #[test]
    fn an_error_carries_its_fields() {
        let mut out = BytesMut::new();
        put_error(&mut out, &Fault::of(Code::TenantMissing).with_detail("x\0y"));
        let (head, body) = cut(&out).unwrap().unwrap();
        assert_eq!((head.tag, head.frame_bytes()), (b'E', out.len()));
        let fields = Fields::new(body);
        assert_eq!(fields.sqlstate(), Some(SqlState(*b"28000")));
        assert!(fields.is_fatal());
        assert!(fields.find(b'M').unwrap().starts_with(b"TG001: "));
        assert_eq!(fields.find(b'D'), Some(&b"x"[..]));
    }
}
