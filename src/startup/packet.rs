//! Startup packets: what comes before a client's messages have a type byte.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use crate::wire::frontend::{CANCEL_REQUEST, GSSENC_REQUEST, PROTOCOL_3_0, SSL_REQUEST};
use crate::wire::limits::STARTUP_PACKET_BYTES_MAX;
use crate::wire::reader::{Malformed, Reader};

/// Bytes of the length and code that every packet has.
const PACKET_BYTES_MIN: usize = 8;

/// Secrets of a CancelRequest: 4 bytes in protocol 3.0, at most 256 in 3.2.
const CANCEL_SECRET_BYTES: std::ops::RangeInclusive<usize> = 4..=256;

/// Prefix of protocol options; the unknown ones are listed to the client and otherwise ignored.
const PROTOCOL_OPTION_PREFIX: &str = "_pq_.";

/// How a packet deviates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketFault {
    /// The length is impossible: probably no PostgreSQL client at all.
    #[error("invalid length of startup packet: {0}")]
    Length(u32),
    /// A CancelRequest whose secret cannot be one.
    #[error("malformed cancel request")]
    Cancel,
    /// An SSLRequest or GSSENCRequest that holds more than its code.
    #[error("malformed encryption request")]
    EncryptionRequest,
    /// A protocol that is not 3.x.
    #[error("unsupported frontend protocol {}.{}: the proxy supports 3.0 to 3.2", .0 >> 16, .0 & 0xffff)]
    Protocol(i32),
    /// A StartupMessage that does not hold what it promises.
    #[error("invalid startup packet layout: {0}")]
    Layout(#[from] Malformed),
    /// Text that is not UTF-8.
    #[error("a startup parameter is not valid UTF-8")]
    NotUtf8,
    /// A parameter that decides who the client is, twice.
    #[error("the startup parameter \"{0}\" is given twice")]
    Twice(&'static str),
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    Gssenc,
    /// CancelRequest.
    Cancel {
        /// Process id of the session to be cancelled.
        process_id: i32,
        /// Its secret.
        secret: Vec<u8>,
    },
    /// StartupMessage.
    Startup(StartupPacket),
}

/// A StartupMessage of protocol 3.x.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartupPacket {
    /// The version asked for.
    pub protocol: i32,
    /// `user`.
    pub user: Option<String>,
    /// `database`.
    pub database: Option<String>,
    /// `options`.
    pub options: Option<String>,
    /// `replication`.
    pub replication: Option<String>,
    /// Everything else: settings, in order.
    pub settings: Vec<(String, String)>,
    /// `_pq_.` options; we know none.
    pub protocol_options: Vec<String>,
}

/// Cuts the first packet off `bytes`: its body (behind the length), and its bytes in all; `None` while
/// it is not whole.
///
/// # Errors
/// The length is impossible.
pub fn cut(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, PacketFault> {
    let Some((length, _)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length);
    let packet_bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if !(PACKET_BYTES_MIN..=STARTUP_PACKET_BYTES_MAX).contains(&packet_bytes) {
        return Err(PacketFault::Length(length));
    }
    Ok(bytes.get(4..packet_bytes).map(|body| (body, packet_bytes)))
}

impl Packet {
    /// Reads a packet's body.
    ///
    /// # Errors
    /// It is none of the four packets.
    pub fn read(body: &[u8]) -> Result<Self, PacketFault> {
        let mut reader = Reader::new(body);
        match reader.i32("the code of the startup packet")? {
            SSL_REQUEST if reader.is_empty() => Ok(Packet::Ssl),
            GSSENC_REQUEST if reader.is_empty() => Ok(Packet::Gssenc),
            SSL_REQUEST | GSSENC_REQUEST => Err(PacketFault::EncryptionRequest),
            CANCEL_REQUEST => read_cancel(reader),
            protocol if protocol >> 16 == PROTOCOL_3_0 >> 16 => {
                StartupPacket::read(protocol, reader).map(Packet::Startup)
            }
            protocol => Err(PacketFault::Protocol(protocol)),
        }
    }
}

fn read_cancel(mut reader: Reader<'_>) -> Result<Packet, PacketFault> {
    let process_id = reader.i32("the process id").map_err(|_| PacketFault::Cancel)?;
    match reader.rest() {
        secret if CANCEL_SECRET_BYTES.contains(&secret.len()) => {
            Ok(Packet::Cancel { process_id, secret: secret.to_vec() })
        }
        _ => Err(PacketFault::Cancel),
    }
}

impl StartupPacket {
    fn read(protocol: i32, mut reader: Reader<'_>) -> Result<Self, PacketFault> {
        let mut packet = Self { protocol, ..Self::default() };
        loop {
            let name = text(reader.cstr("a parameter's name")?)?;
            if name.is_empty() {
                break;
            }
            let value = text(reader.cstr("a parameter's value")?)?;
            packet.take(name, value)?;
        }
        if reader.is_empty() { Ok(packet) } else { Err(Malformed("its terminator as last byte").into()) }
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), PacketFault> {
        match name {
            "user" => once(&mut self.user, "user", value),
            "database" => once(&mut self.database, "database", value),
            "options" => once(&mut self.options, "options", value),
            "replication" => once(&mut self.replication, "replication", value),
            option if option.starts_with(PROTOCOL_OPTION_PREFIX) => {
                self.protocol_options.push(option.to_owned());
                Ok(())
            }
            setting => {
                self.settings.push((setting.to_owned(), value.to_owned()));
                Ok(())
            }
        }
    }

    /// Whether this asks for a replication connection: any value but PostgreSQL's words for no.
    #[must_use]
    pub fn wants_replication(&self) -> bool {
        const NO: [&str; 4] = ["false", "off", "no", "0"];
        self.replication.as_ref().is_some_and(|value| !NO.iter().any(|no| no.eq_ignore_ascii_case(value)))
    }
}

fn text(bytes: &[u8]) -> Result<&str, PacketFault> {
    std::str::from_utf8(bytes).map_err(|_| PacketFault::NotUtf8)
}

/// PostgreSQL lets the last one win; whoever logs the first has then seen another user than we have.
fn once(slot: &mut Option<String>, name: &'static str, value: &str) -> Result<(), PacketFault> {
    match slot.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(PacketFault::Twice(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frontend::{PROTOCOL_3_2, put_cancel_request, put_ssl_request, put_startup};
    use bytes::{BufMut as _, BytesMut};

    fn read(bytes: &[u8]) -> Result<Packet, PacketFault> {
        let (body, packet_bytes) = cut(bytes)?.expect("a whole packet");
        assert_eq!(packet_bytes, bytes.len());
        Packet::read(body)
    }

    fn startup(parameters: &[(&str, &str)]) -> Result<Packet, PacketFault> {
        let mut bytes = BytesMut::new();
        put_startup(&mut bytes, PROTOCOL_3_2, parameters);
        read(&bytes)
    }

    #[test]
    fn the_four_packets_are_read() {
        let mut bytes = BytesMut::new();
        put_ssl_request(&mut bytes);
        assert_eq!(read(&bytes), Ok(Packet::Ssl));
        bytes.clear();
        put_cancel_request(&mut bytes, -7, &[1; 32]);
        assert_eq!(read(&bytes), Ok(Packet::Cancel { process_id: -7, secret: vec![1; 32] }));
        let Ok(Packet::Startup(packet)) =
            startup(&[("user", "u"), ("database", ""), ("_pq_.x", "1"), ("a", "b"), ("a", "c")])
        else {
            panic!("no startup packet")
        };
        assert_eq!((packet.user.as_deref(), packet.database.as_deref()), (Some("u"), Some("")));
        assert_eq!(packet.settings, [("a".into(), "b".into()), ("a".into(), "c".into())]);
        assert_eq!(packet.protocol_options, ["_pq_.x"]);
    }

    #[test]
    fn impossible_lengths_are_seen_before_the_bytes_are_there() {
        assert_eq!(cut(b"\0\0\0"), Ok(None));
        assert_eq!(cut(b"\0\0\0\x07"), Err(PacketFault::Length(7)));
        assert_eq!(cut(b"\0\0\x27\x11"), Err(PacketFault::Length(10_001)));
        assert_eq!(cut(b"GET / HTTP/1.1"), Err(PacketFault::Length(0x4745_5420)));
        assert_eq!(cut(b"\0\0\x27\x10"), Ok(None));
    }

    #[test]
    fn deviations_have_their_faults() {
        assert_eq!(startup(&[("user", "a"), ("user", "a")]), Err(PacketFault::Twice("user")));
        assert_eq!(startup(&[("options", "a"), ("options", "")]), Err(PacketFault::Twice("options")));
        assert_eq!(read(b"\0\0\0\x08\0\x02\0\0"), Err(PacketFault::Protocol(2 << 16)));
        assert_eq!(read(b"\0\0\0\x09\x04\xd2\x16\x2f!"), Err(PacketFault::EncryptionRequest));
        assert!(matches!(read(b"\0\0\0\x08\0\x03\0\0"), Err(PacketFault::Layout(_))));
        assert!(matches!(read(b"\0\0\0\x0a\0\x03\0\0\0x"), Err(PacketFault::Layout(_))));
        assert!(matches!(read(b"\0\0\0\x0b\0\x03\0\0u\0u"), Err(PacketFault::Layout(_))));
        assert_eq!(read(b"\0\0\0\x0d\0\x03\0\0\xff\0u\0\0"), Err(PacketFault::NotUtf8));
        let mut short = BytesMut::new();
        put_cancel_request(&mut short, 1, &[1; 3]);
        assert_eq!(read(&short), Err(PacketFault::Cancel));
        short.clear();
        short.put_slice(b"\0\0\0\x08\x04\xd2\x16\x2e");
        assert_eq!(read(&short), Err(PacketFault::Cancel));
    }

    #[test]
    fn replication_may_be_declined() {
        for (value, wanted) in [("true", true), ("database", true), ("", true), ("off", false), ("FALSE", false)] {
            let Ok(Packet::Startup(packet)) = startup(&[("replication", value)]) else { panic!("no startup packet") };
            assert_eq!(packet.wants_replication(), wanted, "{value}");
        }
    }
}
