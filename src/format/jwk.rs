//! JSON Web Keys (RFC 7517), which Dovecot takes in settings: just enough JSON to find one
//! object's string members.
#![forbid(unsafe_code)]

use zeroize::Zeroizing;

use super::base64;
use crate::crypto::{Secret, SecretText};
use crate::error::{Error, Result};

/// How deeply skipped values may be nested.
const MAX_DEPTH: u32 = 16;
/// The most bytes of a number: RSA of 16384 bits.
const MAX_NUMBER: usize = 2048;

/// The members of a key that are strings.
pub struct Jwk(Vec<(String, Zeroizing<String>)>);

impl Jwk {
    /// Parses the text of a key.
    ///
    /// # Errors
    /// Corrupt if it is not one JSON object, or has a member twice. No error shows any of it.
    pub fn parse(text: &str) -> Result<Self> {
        let mut p = Parser { rest: text };
        let mut members: Vec<(String, Zeroizing<String>)> = Vec::new();
        p.expect('{')?;
        if !p.take('}') {
            loop {
                let name = p.string()?;
                p.expect(':')?;
                if let Some(value) = p.value(0)? {
                    if members.iter().any(|(n, _)| n == name.as_str()) {
                        return Err(Error::corrupt("JWK with a member twice"));
                    }
                    members.push((name.to_string(), value));
                }
                if !p.take(',') {
                    break;
                }
            }
            p.expect('}')?;
        }
        p.white_space();
        if p.rest.is_empty() {
            Ok(Jwk(members))
        } else {
            Err(bad())
        }
    }

    /// The member of that name, if it is there and is a string.
    pub fn get(&self, name: &str) -> Option<&str> {
        let member = self.0.iter().find(|(n, _)| n == name);
        member.map(|(_, value)| value.as_str())
    }

    /// The member of that name, decoded.
    ///
    /// # Errors
    /// Corrupt, with the name, if it is missing, too long or not base64url.
    pub fn bytes(&self, name: &str) -> Result<Secret> {
        let text = self
            .get(name)
            .filter(|text| text.len() <= MAX_NUMBER * 4 / 3 + 4)
            .ok_or_else(|| Error::corrupt(format!("JWK without a usable '{name}'")))?;
        base64::decode_url(text).map_err(|e| e.context(format_args!("JWK, '{name}'")))
    }
}

fn bad() -> Error {
    Error::corrupt("JWK that is not one JSON object")
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn white_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn take(&mut self, c: char) -> bool {
        self.white_space();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.take(c) { Ok(()) } else { Err(bad()) }
    }

    /// A value: its text if it is a string, nothing if it is anything else.
    fn value(&mut self, depth: u32) -> Result<Option<Zeroizing<String>>> {
        self.white_space();
        match self.rest.chars().next() {
            Some('"') => return self.string().map(Some),
            Some('[') => self.list('[', ']', depth, |_| Ok(()))?,
            Some('{') => self.list('{', '}', depth, |p| {
                p.string()?;
                p.expect(':')
            })?,
            _ => {
                let word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
                let rest = self.rest.trim_start_matches(word);
                if rest.len() == self.rest.len() {
                    return Err(bad());
                }
                self.rest = rest;
            }
        }
        Ok(None)
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        depth: u32,
        before: impl Fn(&mut Self) -> Result<()>,
    ) -> Result<()> {
        if depth >= MAX_DEPTH {
            return Err(bad());
        }
        self.expect(open)?;
        if self.take(close) {
            return Ok(());
        }
        loop {
            before(self)?;
            self.value(depth + 1)?;
            if !self.take(',') {
                return self.expect(close);
            }
        }
    }

    fn string(&mut self) -> Result<Zeroizing<String>> {
        self.expect('"')?;
        let end = self.rest.find('"').ok_or_else(bad)?;
        let mut out = SecretText::with_capacity(end);
        let mut chars = self.rest.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    self.rest = chars.as_str();
                    return Ok(out.finish());
                }
                '\\' => match chars.next() {
                    Some(c @ ('"' | '\\' | '/')) => out.push(c),
                    // No part of a key is ever written with one of the others.
                    Some('b' | 'f' | 'n' | 'r' | 't' | 'u') => out.push('\u{fffd}'),
                    _ => return Err(bad()),
                },
                c if c.is_control() => return Err(bad()),
                c => out.push(c),
            }
        }
        Err(bad())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_found_among_other_values() {
        let text = r#" {"kty":"EC", "key_ops":["a",{"x":[1,-2e5,"]"]},null], "exp":12,
            "x5c":[], "d":"AQ\/\u0041","e":"AQAB", "b":true,"o":{} } "#;
        let jwk = Jwk::parse(text).unwrap();
        assert_eq!(jwk.get("kty"), Some("EC"));
        assert_eq!(*jwk.bytes("e").unwrap(), [1, 0, 1]);
        assert_eq!(jwk.get("exp"), None);
        for name in ["exp", "missing", "d"] {
            assert!(jwk.bytes(name).is_err());
        }
        assert!(Jwk::parse("{}").unwrap().get("kty").is_none());
    }

    #[test]
    fn anything_but_one_object_is_refused() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        for text in [
            "",
            "{",
            "}",
            "[]",
            "{}x",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":\"b\",}",
            "{\"a\":\"b}",
            "{\"a\":[}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"b\",\"a\":\"b\"}",
            "{a:1}",
            "{\"a\":\"\n\"}",
            &deep,
        ] {
            assert!(Jwk::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in r#"(\{|\}|\[|\]|"|:|,|\\|[a-z1]| |ä|\n){0,40}"#) {
            let _ = Jwk::parse(&text);
            let _ = Jwk::parse(&format!("{{\"kty\":{text}"));
        }
    }
}
