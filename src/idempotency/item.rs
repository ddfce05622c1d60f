//! Reads the one shape that the key's header may have: an Item of structured fields whose value
//! is a String.

/// The string of a field that holds an Item of type String (RFC 9651, section 4.2, which is RFC
/// 8941 with two more types). Parameters are allowed on every Item and nobody defined one for
/// keys, so they are read as strictly as the rest and ignored (section 3.3: an Item "can have
/// associated parameters").
///
/// # Errors
///
/// What is wrong with the field, as the end of a sentence: in structured fields whatever can't
/// be read makes the whole field unreadable (section 4.2).
pub(super) fn string(field: &[u8]) -> Result<String, &'static str> {
    let mut reader = Reader { rest: field };
    reader.skip_spaces();
    if reader.peek() != Some(b'"') {
        return Err("it is not a string in quotation marks");
    }
    let text = reader.string()?;
    reader.parameters()?;
    reader.skip_spaces();
    if reader.rest.is_empty() { Ok(text) } else { Err("something stands behind it") }
}

type Read<T = ()> = Result<T, &'static str>;

#[derive(Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Takes the next byte if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        if taken {
            self.next();
        }
        taken
    }

    /// Takes bytes as long as they fit, and says how many.
    fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> usize {
        let count = self.rest.iter().take_while(|&&byte| fits(byte)).count();
        self.rest = &self.rest[count..];
        count
    }

    /// Spaces, and not tabs: structured fields know none around an Item.
    fn skip_spaces(&mut self) {
        self.take_while(|byte| byte == b' ');
    }

    /// Section 4.2.5.
    fn string(&mut self) -> Read<String> {
        const OPEN: &str = "its quotation marks are not closed";
        self.next();
        let mut text = String::new();
        loop {
            match self.next().ok_or(OPEN)? {
                b'"' => return Ok(text),
                b'\\' => match self.next().ok_or(OPEN)? {
                    escaped @ (b'"' | b'\\') => text.push(char::from(escaped)),
                    _ => return Err("a backslash stands before what needs none"),
                },
                plain @ b' '..=b'~' => text.push(char::from(plain)),
                _ => return Err("it has a character that is not printable ASCII"),
            }
        }
    }

    /// Section 4.2.3.2.
    fn parameters(&mut self) -> Read {
        while self.take(b';') {
            self.skip_spaces();
            self.parameter_name()?;
            if self.take(b'=') {
                self.bare_item()?;
            }
        }
        Ok(())
    }

    /// Section 4.2.3.3.
    fn parameter_name(&mut self) -> Read {
        if !matches!(self.peek(), Some(b'a'..=b'z' | b'*')) {
            return Err("a parameter has no name");
        }
        self.take_while(
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*'),
        );
        Ok(())
    }

    /// Section 4.2.3.1.
    fn bare_item(&mut self) -> Read {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b'"') => self.string().map(drop),
            Some(b'A'..=b'Z' | b'a'..=b'z' | b'*') => {
                self.token();
                Ok(())
            }
            Some(b':') => self.byte_sequence(),
            Some(b'?') => self.boolean(),
            Some(b'@') => self.date(),
            Some(b'%') => self.display_string(),
            _ => Err("a parameter has no value behind its equals sign"),
        }
    }

    /// Section 4.2.4.
    fn number(&mut self) -> Read<Number> {
        const WRONG: &str = "a parameter is not a number that can be read";
        self.take(b'-');
        let whole = self.take_while(|byte| byte.is_ascii_digit());
        if whole == 0 {
            return Err(WRONG);
        }
        if !self.take(b'.') {
            return if whole <= 15 { Ok(Number::Integer) } else { Err(WRONG) };
        }
        let fraction = self.take_while(|byte| byte.is_ascii_digit());
        if whole <= 12 && (1..=3).contains(&fraction) { Ok(Number::Decimal) } else { Err(WRONG) }
    }

    /// Section 4.2.6; its first character has been looked at.
    fn token(&mut self) {
        self.take_while(|byte| {
            byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte)
        });
    }

    /// Section 4.2.7. Padding may be left out and its bits may be anything, as the section
    /// recommends; what no base64 can be is refused.
    fn byte_sequence(&mut self) -> Read {
        const WRONG: &str = "a parameter is not a byte sequence that can be read";
        self.next();
        let digits = self.take_while(
            |byte| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/'),
        );
        let padding = self.take_while(|byte| byte == b'=');
        let fits = match digits % 4 {
            0 => padding == 0,
            1 => false,
            rest => padding == 0 || padding == 4 - rest,
        };
        if fits && self.take(b':') { Ok(()) } else { Err(WRONG) }
    }

    /// Section 4.2.8.
    fn boolean(&mut self) -> Read {
        self.next();
        match self.next() {
            Some(b'0' | b'1') => Ok(()),
            _ => Err("a parameter is neither ?0 nor ?1"),
        }
    }

    /// Section 4.2.9.
    fn date(&mut self) -> Read {
        const WRONG: &str = "a parameter is not a date that can be read";
        self.next();
        match self.number() {
            Ok(Number::Integer) => Ok(()),
            Ok(Number::Decimal) | Err(_) => Err(WRONG),
        }
    }

    /// Section 4.2.10.
    fn display_string(&mut self) -> Read {
        const WRONG: &str = "a parameter is not a display string that can be read";
        self.next();
        if !self.take(b'"') {
            return Err(WRONG);
        }
        let mut bytes = Vec::new();
        loop {
            match self.next().ok_or(WRONG)? {
                b'"' => return std::str::from_utf8(&bytes).map(drop).map_err(|_| WRONG),
                b'%' => {
                    let high = self.next().and_then(hex_digit).ok_or(WRONG)?;
                    let low = self.next().and_then(hex_digit).ok_or(WRONG)?;
                    bytes.push(high << 4 | low);
                }
                plain @ b' '..=b'~' => bytes.push(plain),
                _ => return Err(WRONG),
            }
        }
    }
}

enum Number {
    Integer,
    Decimal,
}

/// In lower case only.
const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::idempotency::{config::Quoting, key};

    fn read(field: &str) -> Option<String> {
        string(field.as_bytes()).ok()
    }

    #[test]
    fn reads_the_example_of_the_draft() {
        let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
        assert_eq!(read(&format!("\"{uuid}\"")).as_deref(), Some(uuid));
    }

    #[test]
    fn takes_escapes_away_and_knows_no_others() {
        assert_eq!(read(r#""a\"b\\c""#).as_deref(), Some(r#"a"b\c"#));
        assert_eq!(read(r#""""#).as_deref(), Some(""));
        for wrong in [r#""a\b""#, r#""a\"#, r#""a\""#, r#""a"#, r#"""#, "\"a\tb\"", "\"ä\""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert!(string(b"\"a\x7f\"").is_err());
        assert!(string(b"\"a\0\"").is_err());
    }

    #[test]
    fn spaces_may_stand_around_it_and_nothing_else() {
        assert_eq!(read("  \"k\"  ").as_deref(), Some("k"));
        for wrong in ["", " ", "\t\"k\"", "\"k\"\t", "\"k\" x", "\"k\", \"l\"", "\"k\"\"l\""] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn other_types_are_no_keys() {
        for wrong in ["k", "17", "1.5", ":aGk=:", "?1", "@1659578233", "%\"k\"", "(\"k\")", "'k'"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parameters_of_every_type_are_ignored() {
        for good in [
            "a",
            "*a",
            "a-b_c.d*",
            "a=1",
            "a=-0",
            "a=999999999999999",
            "a=1.5",
            "a=-1.125",
            "a=999999999999.999",
            "a=\"x;y\"",
            "a=token",
            "a=*t/o:k",
            "a=::",
            "a=:aGk=:",
            "a=:aGk:",
            "a=:YQ==:",
            "a=:YQ:",
            "a=?0",
            "a=?1",
            "a=@0",
            "a=@-1",
            "a=%\"f%c3%bc\"",
            "a=1;b",
            "a;  b=2",
            "a;a",
        ] {
            assert_eq!(read(&format!("\"k\";{good}")).as_deref(), Some("k"), "{good}");
            assert_eq!(read(&format!("\"k\"; {good} ")).as_deref(), Some("k"), "{good}");
        }
    }

    #[test]
    fn parameters_that_cannot_be_read_spoil_the_field() {
        for wrong in [
            "",
            "A",
            "1",
            "a=",
            "a= 1",
            "a =1",
            "a=1 ;b",
            "a=-",
            "a=--1",
            "a=1.",
            "a=.5",
            "a=1.2345",
            "a=1234567890123456",
            "a=1234567890123.1",
            "a=\"x",
            "a=:",
            "a=:a:",
            "a=:YQ=:",
            "a=:YWI==:",
            "a=:YWJj=:",
            "a=:Y=Q:",
            "a=:aGk=",
            "a=?",
            "a=?2",
            "a=@",
            "a=@1.5",
            "a=@a",
            "a=%",
            "a=%k",
            "a=%\"k",
            "a=%\"%C3%BC\"",
            "a=%\"%c3\"",
            "a=%\"%c\"",
            "a=(1)",
            "a=ä",
            ";b",
            "a=1,",
        ] {
            assert_eq!(read(&format!("\"k\";{wrong}")), None, "{wrong}");
        }
        assert_eq!(read("\"k\" ;a"), None, "a parameter follows its item at once");
    }

    proptest! {
        /// What the client's side writes, this side reads.
        #[test]
        fn reads_what_the_client_writes(text in "[!-~]{1,255}") {
            let wire = key::wire(&text, Quoting::Quoted).expect("visible ASCII");
            prop_assert_eq!(string(wire.as_bytes()), Ok(text));
        }

        #[test]
        fn parameters_change_nothing(
            text in "[ -~]{0,40}",
            parameters in proptest::collection::vec(
                (" {0,2}[a-z*][a-z0-9_.*-]{0,5}", prop_oneof![
                    Just(String::new()),
                    "=-?[0-9]{1,15}",
                    "=-?[0-9]{1,12}\\.[0-9]{1,3}",
                    "=[A-Za-z*][A-Za-z0-9:/!#$%&'*+.^_`|~-]{0,8}",
                    "=\\?[01]",
                    "=@-?[0-9]{1,15}",
                    "=:([A-Za-z0-9+/]{4}){0,3}:",
                    "=\"[a-z ;=]{0,8}\"",
                    "=%\"[a-z ;=]{0,8}\"",
                ]),
                0..5,
            ),
        ) {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            let mut field = format!("\"{escaped}\"");
            for (name, value) in parameters {
                field.push_str(&format!(";{name}{value}"));
            }
            prop_assert_eq!(string(field.as_bytes()), Ok(text));
        }

        /// Whatever comes in, it answers; and what it takes is an item in its canonical form and
        /// perhaps parameters.
        #[test]
        fn nothing_makes_it_panic(field in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = string(&field);
        }

        #[test]
        fn what_is_read_stands_there_in_canonical_form(field in "[ \"\\\\;=a-c,]{0,12}") {
            if let Ok(text) = string(field.as_bytes()) {
                let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
                let canonical = format!("\"{escaped}\"");
                prop_assert!(field.trim_start_matches(' ').starts_with(&canonical), "{}", field);
            }
        }
    }
}
