//! What a server answers: one frame, and how to read it.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One message of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The message's type byte.
    pub tag: u8,
    /// Everything after the length.
    pub body: Vec<u8>,
}

/// Reads a body from the front; a proxy or server that sends a short one fails the test.
struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(count);
        self.0 = rest;
        head
    }

    fn short(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn long(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn text(&mut self) -> String {
        let end = self.0.iter().position(|byte| *byte == 0).expect("a terminated string");
        let text = shown(self.take(end));
        self.take(1);
        text
    }
}

/// Bytes as text, with everything unprintable escaped and long values shortened to head, length and sum.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() > 200 {
        let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        return format!("{}…({} bytes, sum {sum:x})", bytes[..40].escape_ascii(), bytes.len());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
        }
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

impl Reply {
    /// The transaction status of a ReadyForQuery.
    pub fn status(&self) -> Option<char> {
        (self.tag == b'Z').then(|| char::from(self.body[0]))
    }

    /// The fields of an error or a notice.
    pub fn fields(&self) -> BTreeMap<char, String> {
        let mut body = Body(&self.body);
        let mut fields = BTreeMap::new();
        if matches!(self.tag, b'E' | b'N') {
            while let Some(kind) = body.0.first().copied().filter(|kind| *kind != 0) {
                body.take(1);
                fields.insert(char::from(kind), body.text());
            }
        }
        fields
    }

    /// The values of a DataRow as text.
    pub fn row(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "not a DataRow: {self:?}");
        let mut body = Body(&self.body);
        let count = body.short();
        (0..count)
            .map(|_| match body.long() {
                -1 => None,
                size => Some(shown(body.take(usize::try_from(size).expect("a size")))),
            })
            .collect()
    }

    /// Whether a RowDescription has one column, of that name.
    pub fn names_column(&self, name: &str) -> bool {
        let mut body = Body(&self.body);
        body.short() == 1 && body.text() == name
    }

    /// A ParameterStatus.
    pub fn parameter(&self) -> (String, String) {
        let mut body = Body(&self.body);
        (body.text(), body.text())
    }

    /// The tag of a CommandComplete.
    pub fn command(&self) -> String {
        Body(&self.body).text()
    }

    /// One line that says everything a client can tell apart. `tables` numbers table oids in order of appearance.
    pub fn line(&self, tables: &mut Vec<i32>) -> String {
        match self.tag {
            b'1' => "1 ParseComplete".to_owned(),
            b'2' => "2 BindComplete".to_owned(),
            b'3' => "3 CloseComplete".to_owned(),
            b'n' => "n NoData".to_owned(),
            b's' => "s PortalSuspended".to_owned(),
            b'I' => "I EmptyQuery".to_owned(),
            b'c' => "c CopyDone".to_owned(),
            b'C' => format!("C {}", self.command()),
            b'Z' => format!("Z {}", self.status().unwrap_or('?')),
            b'D' => format!(
                "D {}",
                self.row().iter().map(|v| v.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join(" | ")
            ),
            b'd' => format!("d {}", shown(&self.body)),
            b'T' => self.row_description(tables),
            b't' => self.parameter_description(),
            b'G' | b'H' | b'W' => self.copy_response(),
            b'S' => {
                let (name, value) = self.parameter();
                format!("S {name}={value}")
            }
            b'E' | b'N' => self.error(),
            b'A' => {
                // Behind the number of the process that has notified.
                let texts: Vec<_> =
                    self.body.get(4..).unwrap_or_default().split(|byte| *byte == 0).map(shown).collect();
                format!("A {}", texts.join(" "))
            }
            _ => format!("{} {}", char::from(self.tag), shown(&self.body)),
        }
    }

    fn row_description(&self, tables: &mut Vec<i32>) -> String {
        let mut body = Body(&self.body);
        let mut line = "T".to_owned();
        for _ in 0..body.short() {
            let name = body.text();
            let table = match body.long() {
                0 => 0,
                oid => numbered(tables, oid),
            };
            let (attribute, kind, size) = (body.short(), body.long(), body.short());
            let (modifier, format) = (body.long(), body.short());
            write!(line, " {name}(table {table}.{attribute} type {kind} size {size} mod {modifier} fmt {format})")
                .expect("a string takes everything");
        }
        line
    }

    fn parameter_description(&self) -> String {
        let mut body = Body(&self.body);
        let count = body.short();
        format!("t {:?}", (0..count).map(|_| body.long()).collect::<Vec<_>>())
    }

    fn copy_response(&self) -> String {
        let mut body = Body(&self.body);
        let format = body.take(1)[0];
        let count = body.short();
        let columns: Vec<i16> = (0..count).map(|_| body.short()).collect();
        format!("{} format {format} columns {columns:?}", char::from(self.tag))
    }

    fn error(&self) -> String {
        let mut line = char::from(self.tag).to_string();
        for (kind, value) in self.fields() {
            if !matches!(kind, 'F' | 'L' | 'R') {
                write!(line, " {kind}={value:?}").expect("a string takes everything");
            }
        }
        line
    }
}

fn numbered(tables: &mut Vec<i32>, oid: i32) -> usize {
    match tables.iter().position(|known| *known == oid) {
        Some(index) => index + 1,
        None => {
            tables.push(oid);
            tables.len()
        }
    }
}
