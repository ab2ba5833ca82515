//! Names and values as browsers send them: `a=b&c=d+e%21`.
//!
//! Owns: the decoding and its bounds. <https://url.spec.whatwg.org/#urlencoded-parsing>

/// Most fields; forms here have a dozen.
const FIELDS_MAX: usize = 32;

/// The fields of a form or a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads one; what is no UTF-8 becomes replacement characters, and what comes behind too many fields is left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let fields = text.split('&').filter(|part| !part.is_empty()).take(FIELDS_MAX);
        Self(
            fields
                .map(|part| {
                    let (name, value) = part.split_once('=').unwrap_or((part, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a name; empty where there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// The same with another value, as it stands behind a `?`; names without a value are left out.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> String {
        let others =
            self.0.iter().filter(|(other, _)| other != name).map(|(name, value)| (name.as_str(), value.as_str()));
        let all = others.chain([(name, value)]).filter(|(_, value)| !value.is_empty());
        all.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect::<Vec<_>>().join("&")
    }
}

/// A value as it stands in an address.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => match behind.get(..2).and_then(hexadecimal) {
                Some(byte) => {
                    bytes.push(byte);
                    rest = behind.get(2..).unwrap_or_default();
                }
                None => bytes.push(b'%'),
            },
            other => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hexadecimal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let form = Form::parse("a=b+c&n%C3%A4=%3Cx%3E&empty=&flag&a=second&bad=%zz%4&end=%");
        for (name, value) in
            [("a", "b c"), ("nä", "<x>"), ("empty", ""), ("flag", ""), ("none", ""), ("bad", "%zz%4"), ("end", "%")]
        {
            assert_eq!(form.value(name), value, "{name}");
        }
        assert_eq!(Form::parse("a=1&b=x%26y").with("a", "2"), "b=x%26y&a=2");
        assert_eq!(Form::parse(&"a=1&".repeat(1_000)).0.len(), FIELDS_MAX);
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["", "a b", "ä&=+%", "\u{0}\n\"<'>", "日本"] {
            assert_eq!(Form::parse(&format!("a={}", encode(text))).value("a"), text);
        }
    }
}
