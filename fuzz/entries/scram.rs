//! SCRAM, both sides: an honest exchange whose messages are replaced or changed on their way, and verifiers.
//!
//! Must hold: a proof is accepted only where no message was touched and the password is right, in both directions;
//! nothing panics.

use std::num::NonZeroU32;

use tenantgate::auth::scram::client::{ClientBinding, ClientExchange};
use tenantgate::auth::scram::server::{BindingOffer, Outcome, ServerExchange};
use tenantgate::auth::scram::{MECHANISM, NONCE_BYTES, Verifier};

use super::draw::Draw;

const PASSWORD: &str = "pencil";

/// See the module.
pub fn run(data: &[u8]) {
    let mut draw = Draw::new(data);
    if draw.byte() % 8 == 7 {
        // A text that is taken for a verifier must work as one.
        let text = String::from_utf8_lossy(draw.rest());
        if let Ok(verifier) = Verifier::parse(&text) {
            exchange(verifier, &mut Draw::new(&[]));
        }
        return;
    }
    let verifier = Verifier::derive(PASSWORD, b"0123456789abcdef", NonZeroU32::MIN);
    exchange(verifier, &mut draw);
}

/// A wire on which somebody sits.
struct Wire<'d, 'a> {
    draw: &'d mut Draw<'a>,
    is_touched: bool,
}

impl Wire<'_, '_> {
    fn carry(&mut self, message: &[u8]) -> Vec<u8> {
        let mut bytes = message.to_vec();
        match self.draw.below(5) {
            0 | 1 => {}
            2 => bytes = self.draw.chunk(400).to_vec(),
            3 => {
                let (at, mask) = (usize::from(self.draw.byte()), self.draw.byte());
                let length = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at % length) {
                    *byte ^= mask;
                }
            }
            _ => {
                let at = usize::from(self.draw.byte()) % (bytes.len() + 1);
                let inserted = self.draw.chunk(40);
                bytes.splice(at..at, inserted.iter().copied());
            }
        }
        self.is_touched |= bytes != message;
        bytes
    }
}

/// A hostile server may ask for a million iterations, which is allowed and slow.
fn is_slow(server_first: &[u8]) -> bool {
    let text = String::from_utf8_lossy(server_first).into_owned();
    text.split(',').filter_map(|part| part.strip_prefix("i=")).any(|count| count.len() > 3)
}

fn exchange(verifier: Verifier, draw: &mut Draw<'_>) {
    let is_right = draw.byte() % 4 != 3;
    let password = if is_right { PASSWORD } else { "pencils" };
    let is_ours = verifier.is_same(&Verifier::derive(PASSWORD, b"0123456789abcdef", NonZeroU32::MIN));
    let binding = if draw.flag() { ClientBinding::NotOffered } else { ClientBinding::NotPossible };
    let mut wire = Wire { draw, is_touched: false };

    let client = ClientExchange::new([1; NONCE_BYTES], binding);
    let server = ServerExchange::new(verifier, [2; NONCE_BYTES], BindingOffer::None);
    let Ok(server) = server.select(&wire.carry(MECHANISM.as_bytes())) else { return };
    let Ok((server, server_first)) = server.handle_client_first(&wire.carry(client.client_first().as_bytes())) else {
        return;
    };
    let server_first = wire.carry(server_first.as_bytes());
    if is_slow(&server_first) {
        return;
    }
    let (client, client_final) = match client.handle_server_first(&server_first, password) {
        Ok((client, client_final)) => (Some(client), wire.carry(client_final.as_bytes())),
        // The server does not wait for a client that is honest.
        Err(_) => {
            wire.is_touched = true;
            (None, wire.draw.chunk(400).to_vec())
        }
    };
    let server_final = match server.handle_client_final(&client_final) {
        Ok(Outcome::Proven(proven)) => {
            assert!(!wire.is_touched && is_right && is_ours, "a proof was accepted that is none");
            proven.server_final
        }
        Ok(Outcome::Refused) | Err(_) => {
            assert!(wire.is_touched || !is_right || !is_ours, "an honest proof was refused");
            "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned()
        }
    };
    let is_honest = !wire.is_touched && is_right && is_ours;
    if let Some(client) = client {
        let server_final = wire.carry(server_final.as_bytes());
        let is_proven = client.handle_server_final(&server_final).is_ok();
        // What follows the signature is not signed, and ignored.
        assert!(!is_proven || is_honest, "a server was believed that does not know the password");
        assert!(is_proven || wire.is_touched || !is_honest, "an honest server was not believed");
    }
}
