//! Tickets: what tells a server, so that it can check it, which tenant its transaction acts for.
//!
//! A ticket is HMAC-SHA256 over a tag, the server's process id, when it expires, flags and the tenant; `tenantgate.enter`
//! (sql/install.sql) computes the same. It is good on one server process for a short time, and goes there as a bound
//! parameter, never as text: what is in a statement's text is shown to others.
//!
//! Owns: keys and the bytes that are signed. Does not own: when a ticket is made, or the clock.

use aws_lc_rs::{digest, hmac};
use secrecy::{ExposeSecret as _, SecretBox};

use crate::time::TimeOfDay;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// How long a ticket is good. It is used at once; the rest is for clocks that differ and servers that are slow.
const GOOD_FOR_MICROS: i64 = 30_000_000;

/// From 1970 to 2000, where PostgreSQL's time begins.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// What a key with tickets signs, beside its bytes: how the database knows it.
const KEY_ID_TAG: &[u8] = b"tenantgate key";

/// Tag of a tenant's ticket.
const TENANT_TAG: &[u8] = b"tg1t";

/// Tag of a bypass's ticket.
const BYPASS_TAG: &[u8] = b"tg1b";

/// Tag of what is no ticket.
const AUDIT_TAG: &[u8] = b"tg1a";

/// The server stays with its client: what temporary objects it has are the client's own.
const PINNED: i32 = 1;

/// A key that tickets are signed with; the database has it, too.
pub struct SealKey {
    id: i32,
    bytes: SecretBox<[u8; KEY_BYTES]>,
    signing: hmac::Key,
}

/// The key is what holds tenants apart: it is never printed.
impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl PartialEq for SealKey {
    fn eq(&self, other: &Self) -> bool {
        subtle::ConstantTimeEq::ct_eq(&self.bytes.expose_secret()[..], &other.bytes.expose_secret()[..]).into()
    }
}

impl Eq for SealKey {}

impl SealKey {
    /// From its bytes.
    #[must_use]
    pub fn new(bytes: SecretBox<[u8; KEY_BYTES]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(KEY_ID_TAG);
        context.update(bytes.expose_secret());
        let mut id = [0; 4];
        id.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        let signing = hmac::Key::new(hmac::HMAC_SHA256, bytes.expose_secret());
        Self { id: i32::from_be_bytes(id), bytes, signing }
    }

    /// From 64 hexadecimal digits; `None` if the text is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        let mut bytes = SecretBox::new(Box::new([0; KEY_BYTES]));
        let out: &mut [u8; KEY_BYTES] = secrecy::ExposeSecretMut::expose_secret_mut(&mut bytes);
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            let value = char::from(*high).to_digit(16)? * 16 + char::from(*low).to_digit(16)?;
            *byte = u8::try_from(value).ok()?;
        }
        Some(Self::new(bytes))
    }

    /// What the database knows it by; it tells nothing about the key.
    #[must_use]
    pub const fn id(&self) -> i32 {
        self.id
    }

    /// The key itself, to be made known to the database.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; KEY_BYTES] {
        self.bytes.expose_secret()
    }

    /// A ticket for one transaction of one server process.
    #[must_use]
    pub fn ticket(&self, holder: Holder<'_>, process_id: i32, is_pinned: bool, now: TimeOfDay) -> Ticket {
        let flags = if is_pinned { PINNED } else { 0 };
        let expires = now.unix_micros().saturating_add(GOOD_FOR_MICROS).saturating_sub(POSTGRES_EPOCH_MICROS);
        self.sign(holder, process_id, flags, expires)
    }

    /// What a bypass on this server process is known by in the database, at this moment.
    pub(super) fn audit_id(&self, process_id: i32, now: TimeOfDay) -> [u8; 16] {
        let mut context = hmac::Context::with_key(&self.signing);
        context.update(AUDIT_TAG);
        context.update(&process_id.to_be_bytes());
        context.update(&now.unix_micros().to_be_bytes());
        let mut id = [0; 16];
        id.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        id
    }

    fn sign(&self, holder: Holder<'_>, process_id: i32, flags: i32, expires: i64) -> Ticket {
        let tag = match holder {
            Holder::Tenant(_) => TENANT_TAG,
            Holder::Bypass(_) => BYPASS_TAG,
        };
        let mut context = hmac::Context::with_key(&self.signing);
        context.update(tag);
        context.update(&process_id.to_be_bytes());
        context.update(&expires.to_be_bytes());
        context.update(&flags.to_be_bytes());
        context.update(holder.bytes());
        let mut mac = [0; 32];
        mac.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Ticket { flags: flags.to_be_bytes(), expires: expires.to_be_bytes(), key: self.id.to_be_bytes(), mac }
    }
}

/// Whom a ticket is for.
#[derive(Clone, Copy, Debug)]
pub enum Holder<'h> {
    /// A tenant.
    Tenant(&'h str),
    /// Nobody: past the tenants, under the id of the record.
    Bypass(&'h [u8; 16]),
}

impl<'h> Holder<'h> {
    /// As a binary parameter: `text`, or `uuid`.
    #[must_use]
    pub const fn bytes(self) -> &'h [u8] {
        match self {
            Holder::Tenant(tenant) => tenant.as_bytes(),
            Holder::Bypass(audit) => audit,
        }
    }
}

/// What `tenantgate.enter` takes behind its holder, as PostgreSQL reads parameters in binary.
pub struct Ticket {
    /// `int4`
    pub flags: [u8; 4],
    /// `timestamptz`
    pub expires: [u8; 8],
    /// `int4`
    pub key: [u8; 4],
    /// `bytea`
    pub mac: [u8; 32],
}

/// A ticket opens a tenant's door while it is good: it is never printed.
impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// tests/real/sealed.rs has the database compute the same.
    #[test]
    fn a_ticket_is_what_the_database_computes() {
        let key = SealKey::parse(KEY).unwrap();
        assert_eq!(key.id(), 1_159_946_256);
        let now = TimeOfDay::from_unix_micros(POSTGRES_EPOCH_MICROS);
        let ticket = key.ticket(Holder::Tenant("acme"), 4711, true, now);
        assert_eq!(i64::from_be_bytes(ticket.expires), 30_000_000);
        assert_eq!(hex(&ticket.mac), "bb65194bfd8beb1a936da577e139ceb15adbaa1c04da55cf4b9032b2ca1ed9c0");
        let ticket = key.ticket(Holder::Bypass(&[7; 16]), 4711, false, now);
        assert_eq!(hex(&ticket.mac), "e522f542bd7e0db4eae8ef8afdefb7b20130d0f7cd1e81bc9a879343b71cb4f7");
    }

    #[test]
    fn a_key_is_64_hexadecimal_digits_and_never_printed() {
        for bad in ["", "00", &KEY[1..], &format!("{KEY}0"), &KEY.replace('0', "g"), &format!("+{}", &KEY[1..])] {
            assert!(SealKey::parse(bad).is_none(), "{bad}");
        }
        let key = SealKey::parse(&KEY.to_uppercase()).unwrap();
        assert_eq!(key, SealKey::parse(KEY).unwrap());
        assert!(!format!("{key:?}").contains("1e1f"));
        let ticket = key.ticket(Holder::Tenant("acme"), 1, false, TimeOfDay::default());
        assert_eq!(format!("{ticket:?}"), "Ticket { .. }");
    }
}
