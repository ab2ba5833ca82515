//! What may be shown as it is: texts of records are other people's words.
//!
//! Owns: which characters steer a terminal, turn the direction of the text around them or are not seen at all, and what stands
//! in their place. Does not own: markup (`review::html`), the forms of JSON and CSV (`cli`).

/// Whether a character is seen, and does nothing but that.
#[must_use]
pub fn is_legible(c: char) -> bool {
    let is_unfit = c.is_control()
        || matches!(c,
            // Soft hyphen, joiners, fillers, and what else has no shape of its own.
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
            // Directions, and line breaks that are not control characters.
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}');
    !is_unfit
}

/// For people: U+FFFD stands for what is not legible.
#[must_use]
pub fn legible(text: &str) -> String {
    text.chars().map(|c| if is_legible(c) { c } else { '\u{fffd}' }).collect()
}

/// For programs: what is not legible stands as JSON escapes it (`\u001b`), so that nothing is lost.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_legible(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_turns_or_hides_is_not_shown_as_it_is() {
        for c in "\u{0}\u{1b}\n\t\u{7f}\u{9b}\u{ad}\u{61c}\u{200b}\u{200d}\u{200f}\u{2028}\u{202e}\u{2060}\u{2066}\u{feff}\u{e0041}".chars() {
            assert_eq!(legible(&format!("a{c}b")), "a\u{fffd}b", "{:?}", c.escape_unicode());
        }
        let text = "Größe 日本 שלום „x“ 100 % — ok";
        assert_eq!((legible(text), escaped(text)), (text.to_owned(), text.to_owned()));
    }

    #[test]
    fn what_is_escaped_reads_back_as_json() {
        let text = "a\u{1b}[31m\u{202e}b\u{e0041}c";
        let read: String = serde_json::from_str(&format!("\"{}\"", escaped(text))).unwrap();
        assert_eq!(read, text);
    }
}
