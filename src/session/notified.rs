//! Who a notification is from.
//!
//! PostgreSQL names the process that has notified, and clients leave out what they have sent themselves: by the number that
//! they were told as their own. That one is the proxy's, so where a server names itself the client reads its own number. It
//! is the client's own message then: nobody else has had the server since the client listens there.
//!
//! Owns: that number. Does not own: whether the client hears the notification at all (`pin`). Of other clients'
//! notifications the number is their server's, which tells nobody anything.

use bytes::{BufMut, BytesMut};

use super::Session;
use super::replies::Delivery;
use crate::scope::PinnedServer;
use crate::wire::frame::HEAD_BYTES;

impl Session {
    /// A notification for the client, while its server is in a transaction.
    pub(super) fn on_notification(&mut self, frame: &[u8]) -> Delivery {
        self.put_notification(frame);
        Delivery::Swallow
    }

    /// Gives a whole NotificationResponse to the client.
    pub(super) fn put_notification(&mut self, frame: &[u8]) {
        let resting = self.pin.as_ref().and_then(|pin| pin.resting_server()).map(PinnedServer::process_id);
        let server = resting.or_else(|| self.lease.as_ref().map(|lease| lease.server().key.process_id));
        put(&mut self.client_out, frame, server, self.process_id);
    }
}

fn put(out: &mut BytesMut, frame: &[u8], server: Option<i32>, clients: i32) {
    let body = frame.get(HEAD_BYTES..).unwrap_or_default();
    match (body.split_first_chunk(), frame.get(..HEAD_BYTES)) {
        (Some((sender, rest)), Some(head)) if server == Some(i32::from_be_bytes(*sender)) => {
            out.put_slice(head);
            out.put_i32(clients);
            out.put_slice(rest);
        }
        (Some(_) | None, Some(_) | None) => out.put_slice(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(frame: &[u8], server: Option<i32>) -> Vec<u8> {
        let mut out = BytesMut::new();
        put(&mut out, frame, server, 7);
        out.to_vec()
    }

    #[test]
    fn only_the_server_s_own_number_is_the_client_s() {
        let frame = b"A\0\0\0\x0c\0\0\x01\x02a\0b\0";
        assert_eq!(given(frame, Some(258)), b"A\0\0\0\x0c\0\0\0\x07a\0b\0");
        assert_eq!(given(frame, Some(259)), frame);
        assert_eq!(given(frame, None), frame);
        assert_eq!(given(b"A\0\0\0\x06\0\x01", Some(1)), b"A\0\0\0\x06\0\x01");
    }
}
