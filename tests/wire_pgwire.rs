//! Our messages against an independent reading of the protocol: what we encode, the pgwire crate decodes to the
//! same values, and the other way round.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use bytes::{Bytes, BytesMut};
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::extendedquery::{
    Bind, Close, CloseComplete, Describe, Execute, Flush, Parse, ParseComplete, Sync,
};
use pgwire::messages::response::{CommandComplete, ErrorResponse, ReadyForQuery, TransactionStatus as TheirStatus};
use pgwire::messages::simplequery::Query;
use pgwire::messages::startup::{
    BackendKeyData, GssEncRequest, NegotiateProtocolVersion, ParameterStatus, SecretKey, SslRequest, Startup,
};
use pgwire::messages::terminate::Terminate;
use pgwire::messages::{DecodeContext, Message, ProtocolVersion};
use tenantgate::fault::{Code, Fault};
use tenantgate::startup::{Packet, cut_packet};
use tenantgate::wire::frame::{Head, cut};
use tenantgate::wire::frontend::{self, BindNames, PROTOCOL_3_0, PROTOCOL_3_2, Target};
use tenantgate::wire::{TransactionStatus, backend};

/// What they make of exactly one message of ours.
#[track_caller]
fn decoded<M: Message>(put: impl FnOnce(&mut BytesMut)) -> M {
    let mut bytes = BytesMut::new();
    put(&mut bytes);
    let message = M::decode(&mut bytes, &DecodeContext::new(ProtocolVersion::PROTOCOL3_2)).unwrap();
    assert!(bytes.is_empty(), "bytes are left: {bytes:?}");
    message.unwrap()
}

/// A message of theirs as we cut it.
#[track_caller]
fn encoded(message: &impl Message) -> (u8, Vec<u8>) {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    let (head, body) = cut(&bytes).unwrap().unwrap();
    assert_eq!(head.frame_bytes(), bytes.len());
    (head.tag, body.to_vec())
}

fn packet(message: &impl Message) -> Packet {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes).unwrap();
    let (body, packet_bytes) = cut_packet(&bytes).unwrap().unwrap();
    assert_eq!(packet_bytes, bytes.len());
    Packet::read(body).unwrap()
}

fn name(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn they_read_our_requests() {
    assert_eq!(decoded::<Query>(|out| frontend::put_query(out, b"SELECT 'h\xc3\xb6'")).query, "SELECT 'hö'");
    let types = [0, 2, 0, 0, 0, 23, 0, 0, 0, 25];
    let parse: Parse = decoded(|out| frontend::put_parse(out, b"s", b"SELECT $1, $2", &types));
    assert_eq!(parse, Parse::new(name("s"), "SELECT $1, $2".to_owned(), vec![23, 25]));
    let parse: Parse = decoded(|out| frontend::put_parse(out, b"", b"SELECT 1", &[]));
    assert_eq!(parse, Parse::new(None, "SELECT 1".to_owned(), vec![]));
    let bind: Bind = decoded(|out| frontend::put_bind_text(out, b"p", b"s", &[b"7", b""]));
    let parameters = vec![Some(Bytes::from_static(b"7")), Some(Bytes::new())];
    assert_eq!(bind, Bind::new(name("p"), name("s"), vec![], parameters, vec![]));
    let execute: Execute = decoded(|out| frontend::put_execute(out, b"p"));
    assert_eq!(execute, Execute::new(name("p"), 0));
    let describe: Describe = decoded(|out| frontend::put_describe(out, Target::Portal, b"p"));
    assert_eq!(describe, Describe::new(b'P', name("p")));
    let close: Close = decoded(|out| frontend::put_close(out, Target::Statement, b"s"));
    assert_eq!(close, Close::new(b'S', name("s")));
    assert_eq!(decoded::<Sync>(frontend::put_sync), Sync::new());
    assert_eq!(decoded::<Flush>(frontend::put_flush), Flush::new());
    assert_eq!(decoded::<Terminate>(frontend::put_terminate), Terminate::new());
}

#[test]
fn we_read_their_requests() {
    let (tag, body) = encoded(&Query::new("SELECT 1".to_owned()));
    assert_eq!((tag, frontend::read_query(&body)), (b'Q', Ok(&b"SELECT 1"[..])));
    let (tag, body) = encoded(&Parse::new(name("s"), "SELECT $1".to_owned(), vec![20]));
    let parse = frontend::Parse::read(&body).unwrap();
    assert_eq!(
        (tag, parse.name, parse.sql, parse.types),
        (b'P', &b"s"[..], &b"SELECT $1"[..], &[0, 1, 0, 0, 0, 20][..])
    );
    let (tag, body) = encoded(&Bind::new(name("p"), name("s"), vec![1], vec![Some(Bytes::from_static(b"x"))], vec![0]));
    let names = BindNames::read(&body).unwrap();
    assert_eq!((tag, names.portal, names.statement, names.prefix_bytes), (b'B', &b"p"[..], &b"s"[..], 4));
    let (tag, body) = encoded(&Execute::new(None, 17));
    assert_eq!((tag, frontend::read_execute(&body)), (b'E', Ok((&b""[..], 17))));
    let (tag, body) = encoded(&Describe::new(b'S', name("s")));
    assert_eq!((tag, frontend::read_target(&body)), (b'D', Ok((Target::Statement, &b"s"[..]))));
    let (tag, body) = encoded(&Close::new(b'P', None));
    assert_eq!((tag, frontend::read_target(&body)), (b'C', Ok((Target::Portal, &b""[..]))));
}

#[test]
fn they_read_our_replies() {
    let fault = Fault::of(Code::TenantMissing).with_detail("none").at(7);
    let error: ErrorResponse = decoded(|out| backend::put_error(out, &fault));
    let field = |kind| error.fields.iter().find(|(found, _)| *found == kind).map(|(_, text)| text.as_str());
    assert_eq!((field(b'S'), field(b'V'), field(b'C')), (Some("FATAL"), Some("FATAL"), Some("28000")));
    assert_eq!((field(b'M'), field(b'D'), field(b'P')), (Some(&*fault.message), Some("none"), Some("7")));
    for (ours, theirs) in [
        (TransactionStatus::Idle, TheirStatus::Idle),
        (TransactionStatus::InBlock, TheirStatus::Transaction),
        (TransactionStatus::Failed, TheirStatus::Error),
    ] {
        assert_eq!(decoded::<ReadyForQuery>(|out| backend::put_ready(out, ours)), ReadyForQuery::new(theirs));
        let (tag, body) = encoded(&ReadyForQuery::new(theirs));
        assert_eq!((tag, backend::read_ready(&body)), (b'Z', Ok(ours)));
    }
    let complete: CommandComplete = decoded(|out| backend::put_command_complete(out, b"INSERT 0 3"));
    assert_eq!(complete.tag, "INSERT 0 3");
    let status: ParameterStatus = decoded(|out| backend::put_parameter_status(out, b"TimeZone", b"UTC"));
    assert_eq!(status, ParameterStatus::new("TimeZone".to_owned(), "UTC".to_owned()));
    let secret = [9; 32];
    let key: BackendKeyData = decoded(|out| backend::put_backend_key(out, 12, &secret));
    assert_eq!(key, BackendKeyData::new(12, SecretKey::Bytes(Bytes::copy_from_slice(&secret))));
    assert_eq!(decoded::<ParseComplete>(backend::put_parse_complete), ParseComplete::new());
    assert_eq!(decoded::<CloseComplete>(backend::put_close_complete), CloseComplete::new());
    let options = ["_pq_.x".to_owned(), "_pq_.y".to_owned()];
    let negotiate: NegotiateProtocolVersion = decoded(|out| backend::put_negotiate(out, PROTOCOL_3_2, &options));
    assert_eq!(negotiate, NegotiateProtocolVersion::new(PROTOCOL_3_2, options.to_vec()));
}

#[test]
fn we_read_their_replies() {
    let (tag, body) = encoded(&ErrorResponse::new(vec![
        (b'S', "FATALE".to_owned()),
        (b'V', "FATAL".to_owned()),
        (b'C', "57P01".to_owned()),
        (b'M', "bye".to_owned()),
    ]));
    let fields = backend::Fields::new(&body);
    assert_eq!((tag, fields.sqlstate().map(|state| state.0), fields.is_fatal()), (b'E', Some(*b"57P01"), true));
    assert_eq!(fields.iter().count(), 4);
    let (tag, body) = encoded(&CommandComplete::new("SELECT 1".to_owned()));
    assert_eq!((tag, backend::read_command_tag(&body)), (b'C', Ok(&b"SELECT 1"[..])));
    let (tag, body) = encoded(&ParameterStatus::new("a".to_owned(), String::new()));
    assert_eq!((tag, backend::read_parameter_status(&body)), (b'S', Ok((&b"a"[..], &b""[..]))));
    for (key, secret) in
        [(SecretKey::I32(0x0102_0304), &[1, 2, 3, 4][..]), (SecretKey::Bytes(Bytes::from_static(&[5; 256])), &[5; 256])]
    {
        let (tag, body) = encoded(&BackendKeyData::new(7, key));
        assert_eq!((tag, backend::read_backend_key(&body)), (b'K', Ok((7, secret))));
    }
}

#[test]
fn startup_packets_mean_the_same() {
    let parameters = [("user", "app.acme"), ("database", "demo"), ("application_name", "x y")];
    let theirs: Startup = decoded(|out| frontend::put_startup(out, PROTOCOL_3_0, &parameters));
    assert_eq!((theirs.protocol_number_major, theirs.protocol_number_minor), (3, 0));
    let expected = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(theirs.parameters, expected);
    let Packet::Startup(ours) = packet(&theirs) else { panic!("no startup packet") };
    assert_eq!(
        (ours.protocol, ours.user.as_deref(), ours.database.as_deref()),
        (PROTOCOL_3_0, Some("app.acme"), Some("demo"))
    );
    assert_eq!(ours.settings, [("application_name".to_owned(), "x y".to_owned())]);
    assert_eq!(packet(&SslRequest::new()), Packet::Ssl);
    assert_eq!(packet(&GssEncRequest::new()), Packet::Gssenc);
    assert_eq!(decoded::<SslRequest>(frontend::put_ssl_request), SslRequest::new());
    for secret in [&[1, 2, 3, 4][..], &[8; 32], &[8; 256]] {
        let theirs: CancelRequest = decoded(|out| frontend::put_cancel_request(out, 5, secret));
        assert_eq!((theirs.pid, &*theirs.secret_key.to_bytes()), (5, secret));
        assert_eq!(packet(&theirs), Packet::Cancel { process_id: 5, secret: secret.to_vec() });
    }
}

#[test]
fn a_message_is_whole_for_both_at_the_same_byte() {
    let mut whole = BytesMut::new();
    frontend::put_parse(&mut whole, b"s", b"SELECT 1", &[]);
    for end in 0..whole.len() {
        let mut front = BytesMut::from(&whole[..end]);
        let context = DecodeContext::new(ProtocolVersion::PROTOCOL3_2);
        assert_eq!(Parse::decode(&mut front, &context).unwrap(), None);
        assert_eq!(cut(&whole[..end]), Ok(None));
    }
    assert_eq!(Head::read(&whole).unwrap().map(Head::frame_bytes), Some(whole.len()));
}
