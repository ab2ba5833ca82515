//! Messages of a client: reading the parts that decide, and encoding the ones the proxy sends itself.

use bytes::{BufMut, BytesMut};

use super::reader::{Malformed, Reader};

/// Protocol version 3.0, as in a StartupMessage.
pub const PROTOCOL_3_0: i32 = 196_608;
/// Protocol version 3.2.
pub const PROTOCOL_3_2: i32 = 196_610;
/// The code of SSLRequest.
pub const SSL_REQUEST: i32 = 80_877_103;
/// The code of GSSENCRequest.
pub const GSSENC_REQUEST: i32 = 80_877_104;
/// The code of CancelRequest.
pub const CANCEL_REQUEST: i32 = 80_877_102;

/// Whether a Describe or Close is about a statement or a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `S`
    Statement,
    /// `P`
    Portal,
}

/// The body of a Parse message.
#[derive(Clone, Copy, Debug)]
pub struct Parse<'a> {
    /// Statement name, empty for the unnamed one.
    pub name: &'a [u8],
    /// SQL text.
    pub sql: &'a [u8],
    /// The parameter type count and oids, as sent.
    pub types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// # Errors
    /// The body is not a Parse message's.
    pub fn read(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(body);
        let name = reader.cstr("the statement name of Parse")?;
        let sql = reader.cstr("the text of Parse")?;
        let types = reader.rest();
        let count = reader.i16("the parameter count of Parse")?;
        let count = usize::try_from(count).map_err(|_| Malformed("a sane parameter count of Parse"))?;
        reader.bytes(count.saturating_mul(4), "the parameter types of Parse")?;
        if !reader.is_empty() {
            return Err(Malformed("the next message: Parse is too long"));
        }
        Ok(Self { name, sql, types })
    }
}

/// The names in front of a Bind message; the rest is bulk.
#[derive(Clone, Copy, Debug)]
pub struct BindNames<'a> {
    /// Portal name.
    pub portal: &'a [u8],
    /// Statement name.
    pub statement: &'a [u8],
    /// Bytes of both names with their NULs.
    pub prefix_bytes: usize,
}

impl<'a> BindNames<'a> {
    /// Reads the names from the first bytes of a Bind's body.
    ///
    /// # Errors
    /// The bytes end before both names do.
    pub fn read(front: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(front);
        let portal = reader.cstr("the portal name of Bind")?;
        let statement = reader.cstr("the statement name of Bind")?;
        Ok(Self { portal, statement, prefix_bytes: portal.len() + statement.len() + 2 })
    }
}

/// The declared type of parameter `number` (from 1) in [`Parse::types`]; 0 where none is declared.
///
/// # Errors
/// The bytes are no list of types.
pub fn parameter_type(types: &[u8], number: u16) -> Result<u32, Malformed> {
    let mut reader = Reader::new(types);
    if reader.is_empty() {
        return Ok(0);
    }
    let count = reader.i16("the parameter count of Parse")?;
    if i32::from(number) > i32::from(count) || number == 0 {
        return Ok(0);
    }
    reader.bytes(usize::from(number - 1).saturating_mul(4), "the parameter types of Parse")?;
    Ok(reader.i32("a parameter type of Parse")?.cast_unsigned())
}

/// The value of parameter `number` (from 1) in a Bind's body behind its names; `None` is NULL.
///
/// # Errors
/// The body is malformed, or has fewer parameters.
pub fn bound_value(values: &[u8], number: u16) -> Result<Option<&[u8]>, Malformed> {
    let mut reader = Reader::new(values);
    let formats = reader.i16("the format count of Bind")?;
    let formats = usize::try_from(formats).map_err(|_| Malformed("a sane format count of Bind"))?;
    reader.bytes(formats.saturating_mul(2), "the formats of Bind")?;
    let count = reader.i16("the parameter count of Bind")?;
    // PostgreSQL reads it as unsigned.
    if number == 0 || number > count.cast_unsigned() {
        return Err(Malformed("the value of that parameter"));
    }
    let mut value = None;
    for _ in 0..number {
        value = match reader.i32("the length of a value of Bind")? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed("a sane length of a value of Bind"))?;
                Some(reader.bytes(length, "a value of Bind")?)
            }
        };
    }
    Ok(value)
}

/// A value as it is bound: whether it is in binary, and its bytes; `None` is NULL.
pub type BoundValue<'a> = (bool, Option<&'a [u8]>);

/// All values in a Bind's body behind its names; no more than a quarter of its bytes.
///
/// # Errors
/// The body is malformed: PostgreSQL refuses it, too.
pub fn bound_values(values: &[u8]) -> Result<Vec<BoundValue<'_>>, Malformed> {
    let mut reader = Reader::new(values);
    // PostgreSQL reads both counts as unsigned.
    let formats = usize::from(reader.i16("the format count of Bind")?.cast_unsigned());
    let formats = reader.bytes(formats.saturating_mul(2), "the formats of Bind")?;
    let count = usize::from(reader.i16("the parameter count of Bind")?.cast_unsigned());
    let mut bound = Vec::with_capacity(count.min(values.len() / 4));
    for index in 0..count {
        // None is text for all, one is that one for all.
        let at = if formats.len() == 2 { 0 } else { index };
        let is_binary = match formats.chunks_exact(2).nth(at) {
            None if formats.is_empty() => false,
            None => return Err(Malformed("a format for each parameter of Bind")),
            Some(format) => format == [0, 1],
        };
        let value = match reader.i32("the length of a value of Bind")? {
            -1 => None,
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed("a sane length of a value of Bind"))?;
                Some(reader.bytes(length, "a value of Bind")?)
            }
        };
        bound.push((is_binary, value));
    }
    Ok(bound)
}

/// Reads the body of Describe or Close: what, and its name.
///
/// # Errors
/// The body is malformed.
pub fn read_target(body: &[u8]) -> Result<(Target, &[u8]), Malformed> {
    let mut reader = Reader::new(body);
    let target = match reader.u8("the kind of Describe or Close")? {
        b'S' => Target::Statement,
        b'P' => Target::Portal,
        _ => return Err(Malformed("a known kind of Describe or Close")),
    };
    let name = reader.cstr("the name of Describe or Close")?;
    if reader.is_empty() { Ok((target, name)) } else { Err(Malformed("the next message")) }
}

/// Reads the body of Execute: portal name and row limit (0 = none).
///
/// # Errors
/// The body is malformed.
pub fn read_execute(body: &[u8]) -> Result<(&[u8], i32), Malformed> {
    let mut reader = Reader::new(body);
    let portal = reader.cstr("the portal name of Execute")?;
    let rows = reader.i32("the row limit of Execute")?;
    if reader.is_empty() { Ok((portal, rows)) } else { Err(Malformed("the next message")) }
}

/// Reads the body of Query: the text without its NUL.
///
/// # Errors
/// The body is malformed.
pub fn read_query(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(body);
    let sql = reader.cstr("the text of Query")?;
    if reader.is_empty() { Ok(sql) } else { Err(Malformed("the next message")) }
}

/// Appends a message whose body `write` appends; the length is filled in.
pub fn put_message(out: &mut BytesMut, tag: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    put_counted(out, write);
}

/// Appends a length-prefixed packet without a type byte (startup packets).
pub fn put_counted(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_i32(0);
    write(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a NUL-terminated string. The caller has proven that `text` holds no NUL.
pub fn put_cstr(out: &mut BytesMut, text: &[u8]) {
    debug_assert!(!text.contains(&0));
    out.put_slice(text);
    out.put_u8(0);
}

/// Query.
pub fn put_query(out: &mut BytesMut, sql: &[u8]) {
    put_message(out, b'Q', |out| put_cstr(out, sql));
}

/// Parse; `types` as in [`Parse::types`] (count and oids), empty meaning none.
pub fn put_parse(out: &mut BytesMut, name: &[u8], sql: &[u8], types: &[u8]) {
    put_message(out, b'P', |out| {
        put_cstr(out, name);
        put_cstr(out, sql);
        if types.is_empty() { out.put_i16(0) } else { out.put_slice(types) }
    });
}

/// Bind with text parameters and text results.
pub fn put_bind_text(out: &mut BytesMut, portal: &[u8], statement: &[u8], parameters: &[&[u8]]) {
    put_message(out, b'B', |out| {
        put_cstr(out, portal);
        put_cstr(out, statement);
        out.put_i16(0);
        out.put_i16(i16::try_from(parameters.len()).unwrap_or(i16::MAX));
        for parameter in parameters {
            out.put_i32(i32::try_from(parameter.len()).unwrap_or(i32::MAX));
            out.put_slice(parameter);
        }
        out.put_i16(0);
    });
}

/// Bind with binary parameters and text results. Text is the same in both formats.
pub fn put_bind_binary(out: &mut BytesMut, portal: &[u8], statement: &[u8], parameters: &[&[u8]]) {
    put_message(out, b'B', |out| {
        put_cstr(out, portal);
        put_cstr(out, statement);
        // One format for all.
        out.put_i16(1);
        out.put_i16(1);
        out.put_i16(i16::try_from(parameters.len()).unwrap_or(i16::MAX));
        for parameter in parameters {
            out.put_i32(i32::try_from(parameter.len()).unwrap_or(i32::MAX));
            out.put_slice(parameter);
        }
        out.put_i16(0);
    });
}

/// Execute without a row limit.
pub fn put_execute(out: &mut BytesMut, portal: &[u8]) {
    put_message(out, b'E', |out| {
        put_cstr(out, portal);
        out.put_i32(0);
    });
}

/// Describe.
pub fn put_describe(out: &mut BytesMut, target: Target, name: &[u8]) {
    put_message(out, b'D', |out| put_target(out, target, name));
}

/// Close.
pub fn put_close(out: &mut BytesMut, target: Target, name: &[u8]) {
    put_message(out, b'C', |out| put_target(out, target, name));
}

fn put_target(out: &mut BytesMut, target: Target, name: &[u8]) {
    out.put_u8(match target {
        Target::Statement => b'S',
        Target::Portal => b'P',
    });
    put_cstr(out, name);
}

/// Sync.
pub fn put_sync(out: &mut BytesMut) {
    put_message(out, b'S', |_| {});
}

/// Flush.
pub fn put_flush(out: &mut BytesMut) {
    put_message(out, b'H', |_| {});
}

/// Terminate.
pub fn put_terminate(out: &mut BytesMut) {
    put_message(out, b'X', |_| {});
}

/// StartupMessage.
pub fn put_startup(out: &mut BytesMut, protocol: i32, parameters: &[(&str, &str)]) {
    put_counted(out, |out| {
        out.put_i32(protocol);
        for (name, value) in parameters {
            put_cstr(out, name.as_bytes());
            put_cstr(out, value.as_bytes());
        }
        out.put_u8(0);
    });
}

/// SSLRequest.
pub fn put_ssl_request(out: &mut BytesMut) {
    put_counted(out, |out| out.put_i32(SSL_REQUEST));
}

/// CancelRequest with a secret of 4 (protocol 3.0) to 256 bytes (3.2).
pub fn put_cancel_request(out: &mut BytesMut, process_id: i32, secret: &[u8]) {
    put_counted(out, |out| {
        out.put_i32(CANCEL_REQUEST);
        out.put_i32(process_id);
        out.put_slice(secret);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::cut;

    #[test]
    fn what_is_put_can_be_read() {
        let mut out = BytesMut::new();
        put_parse(&mut out, b"s", b"SELECT $1", &[0, 1, 0, 0, 0, 23]);
        put_bind_text(&mut out, b"", b"s", &[b"7"]);
        put_close(&mut out, Target::Statement, b"s");
        let (head, body) = cut(&out).unwrap().unwrap();
        let parse = Parse::read(body).unwrap();
        assert_eq!((parse.name, parse.sql, parse.types), (&b"s"[..], &b"SELECT $1"[..], &[0, 1, 0, 0, 0, 23][..]));
        let rest = &out[head.frame_bytes()..];
        let (head, body) = cut(rest).unwrap().unwrap();
        let names = BindNames::read(body).unwrap();
        assert_eq!((names.portal, names.statement, names.prefix_bytes), (&b""[..], &b"s"[..], 3));
        let (_, body) = cut(&rest[head.frame_bytes()..]).unwrap().unwrap();
        assert_eq!(read_target(body), Ok((Target::Statement, &b"s"[..])));
    }

    #[test]
    fn bound_values_and_their_types_are_found_by_number() {
        let types = [0, 2, 0, 0, 0, 23, 0, 0, 0, 25];
        assert_eq!(parameter_type(&types, 1), Ok(23));
        assert_eq!(parameter_type(&types, 2), Ok(25));
        assert_eq!(parameter_type(&types, 3), Ok(0));
        assert_eq!(parameter_type(&[], 1), Ok(0));
        assert!(parameter_type(&types[..8], 2).is_err());
        let values = [0, 1, 0, 0, 0, 3, 0, 0, 0, 1, b'a', 255, 255, 255, 255, 0, 0, 0, 0, 0, 0];
        assert_eq!(bound_value(&values, 1), Ok(Some(&b"a"[..])));
        assert_eq!(bound_value(&values, 2), Ok(None));
        assert_eq!(bound_value(&values, 3), Ok(Some(&b""[..])));
        assert!(bound_value(&values, 4).is_err());
        assert!(bound_value(&values, 0).is_err());
        for end in 0..11 {
            assert!(bound_value(&values[..end], 1).is_err(), "{end}");
        }
        assert!(bound_value(&[0, 0, 0, 1, 255, 255, 255, 254], 1).is_err());
    }

    #[test]
    fn all_bound_values_are_read_with_their_formats() {
        let ends = |values: &[u8]| bound_values(values).is_err();
        let values = [0, 2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, b'a', 255, 255, 255, 255, 0, 0];
        assert_eq!(bound_values(&values), Ok(vec![(false, Some(&b"a"[..])), (true, None)]));
        for end in 0..17 {
            assert!(ends(&values[..end]), "{end}");
        }
        assert_eq!(bound_values(&[0, 0, 0, 0, 0, 0]), Ok(vec![]));
        let one_for_all = [0, 1, 0, 1, 0, 2, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0];
        assert_eq!(bound_values(&one_for_all), Ok(vec![(true, None), (true, Some(&b""[..]))]));
        assert!(ends(&[0, 2, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "a format too few");
        assert!(ends(&[0, 0, 0, 1, 255, 255, 255, 254]), "a negative length");
        assert!(ends(&[255, 255, 255, 255]), "counts that are not there");
    }

    #[test]
    fn a_parse_with_a_negative_count_is_malformed() {
        assert!(Parse::read(b"\0select 1\0\xff\xff").is_err());
        assert!(Parse::read(b"\0select 1\0\0\x01\0\0").is_err());
        assert!(Parse::read(b"\0select 1\0\0\0x").is_err());
    }
}
