//! Frames and message bodies: any bytes, cut and read by every reader there is.
//!
//! Must hold: a frame is the same however much of what follows is there; what is read and put again is what was
//! there; nothing panics.

use bytes::BytesMut;
use tenantgate::wire::backend::{self, Fields};
use tenantgate::wire::frame::{HEAD_BYTES, Head, cut};
use tenantgate::wire::frontend::{self, BindNames, Parse, Target};

/// See the module.
pub fn run(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((head, body))) = cut(rest) {
        let whole = &rest[..head.frame_bytes()];
        assert_eq!(body.len(), head.body_bytes);
        assert_eq!(cut(whole), Ok(Some((head, body))));
        assert_eq!(cut(&whole[..whole.len() - 1]), Ok(None));
        read_all(body);
        rest = &rest[head.frame_bytes()..];
    }
    if let Err(fault) = Head::read(rest) {
        assert!(rest.len() >= HEAD_BYTES && (fault.length < 4 || fault.length > 0x3fff_ffff));
    }
    read_all(data);
}

fn read_all(body: &[u8]) {
    read_client(body);
    read_server(body);
}

/// The body that `put` writes.
fn put(put: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    let mut out = BytesMut::new();
    put(&mut out);
    out[HEAD_BYTES..].to_vec()
}

fn read_client(body: &[u8]) {
    if let Ok(parse) = Parse::read(body) {
        assert_eq!(put(|out| frontend::put_parse(out, parse.name, parse.sql, parse.types)), body);
        for number in [0, 1, 2, 7, u16::MAX] {
            // The types have been checked to be as many as are said.
            assert!(frontend::parameter_type(parse.types, number).is_ok());
        }
    }
    if let Ok(names) = BindNames::read(body) {
        assert_eq!(body[names.prefix_bytes - 1], 0);
        let values = &body[names.prefix_bytes..];
        for number in [0, 1, 3, u16::MAX] {
            if let Ok(Some(value)) = frontend::bound_value(values, number) {
                assert!(number > 0 && value.len() <= values.len());
            }
        }
    }
    if let Ok((target, name)) = frontend::read_target(body) {
        assert_eq!(put(|out| frontend::put_describe(out, target, name)), body);
        assert_eq!(body[0], if target == Target::Statement { b'S' } else { b'P' });
    }
    if let Ok((portal, rows)) = frontend::read_execute(body) {
        let same = put(|out| frontend::put_execute(out, portal)) == body;
        assert_eq!(same, rows == 0);
    }
    if let Ok(sql) = frontend::read_query(body) {
        assert_eq!(put(|out| frontend::put_query(out, sql)), body);
    }
    // What they say is not known here; that they come back is what counts.
    std::hint::black_box((frontend::parameter_type(body, 1).is_ok(), frontend::bound_value(body, 1).is_ok()));
}

fn read_server(body: &[u8]) {
    let fields = Fields::new(body);
    let bytes: usize = fields.iter().map(|(_, value)| value.len() + 2).sum();
    assert!(bytes <= body.len());
    let _ = (fields.sqlstate(), fields.is_fatal(), fields.find(b'M'));
    if let Ok((name, value)) = backend::read_parameter_status(body) {
        let again = put(|out| backend::put_parameter_status(out, name, value));
        assert!(body.starts_with(&again));
    }
    if let Ok((process_id, secret)) = backend::read_backend_key(body) {
        assert_eq!(put(|out| backend::put_backend_key(out, process_id, secret)), body);
    }
    if let Ok(status) = backend::read_ready(body) {
        assert_eq!(put(|out| backend::put_ready(out, status)), body);
    }
    if let Ok(tag) = backend::read_command_tag(body) {
        assert!(body.starts_with(&put(|out| backend::put_command_complete(out, tag))));
    }
}
