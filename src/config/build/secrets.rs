//! Passwords in their forms: text, environment variable, file, SCRAM verifier.
//!
//! Owns: that there is exactly one, and what it says. Nothing here echoes a value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};

use super::Builder;
use crate::config::problem::Place;
use crate::config::raw::Section;
use crate::config::settings::LoginSecret;

const PASSWORD_FORMS: [&str; 3] = ["password", "password_env", "password_file"];
/// Few iterations make a stolen verifier cheap to try, too many make a login expensive.
const SCRAM_ITERATIONS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

impl Builder<'_> {
    /// A password, if any form is given.
    pub fn password(&mut self, section: &Section) -> Option<SecretString> {
        self.one_form_at_most(section, &PASSWORD_FORMS)?;
        self.given_password(section)
    }

    /// What a login proves itself with, if any form is given.
    pub fn login_secret(&mut self, section: &Section) -> Option<LoginSecret> {
        let [password, variable, file] = PASSWORD_FORMS;
        self.one_form_at_most(section, &[password, variable, file, "scram"])?;
        if let Some(verifier) = section.secret("scram") {
            return self.scram_verifier(&section.place_of("scram"), verifier);
        }
        self.given_password(section).map(LoginSecret::Plain)
    }

    fn given_password(&mut self, section: &Section) -> Option<SecretString> {
        let place = |key| section.place_of(key);
        if let Some(password) = section.secret("password") {
            return self.usable_password(&place("password"), password);
        }
        if let Some(name) = section.text("password_env") {
            let Some(password) = self.environment.variable(&name) else {
                let message = format!("the environment variable {name:?} is not set or not UTF-8");
                self.problems.error(&place("password_env"), message);
                return None;
            };
            return self.usable_password(&place("password_env"), password);
        }
        let path = section.text("password_file")?;
        self.password_from_file(&place("password_file"), &path)
    }

    fn password_from_file(&mut self, place: &Place, path: &str) -> Option<SecretString> {
        let file = self.file(place, path)?;
        self.warn_if_public(place, path, &file);
        let Ok(text) = std::str::from_utf8(&file.bytes) else {
            self.problems.error(place, format!("{path:?} is not UTF-8"));
            return None;
        };
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        self.usable_password(place, SecretString::from(text))
    }

    fn usable_password(&mut self, place: &Place, password: SecretString) -> Option<SecretString> {
        let text = password.expose_secret();
        if text.is_empty() || text.contains(['\0', '\n']) {
            self.problems.error(place, "a password must not be empty or hold a zero byte or a line break");
            return None;
        }
        Some(password)
    }

    fn scram_verifier(&mut self, place: &Place, verifier: SecretString) -> Option<LoginSecret> {
        if is_scram_verifier(verifier.expose_secret()) {
            return Some(LoginSecret::Scram(verifier));
        }
        let hint = "take it from pg_authid.rolpassword: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>";
        self.problems.error_with_hint(place, "is not a SCRAM-SHA-256 verifier", hint);
        None
    }

    fn one_form_at_most(&mut self, section: &Section, forms: &[&str]) -> Option<()> {
        let given: Vec<_> = forms.iter().copied().filter(|form| section.has(form)).collect();
        if let [_, second, ..] = given.as_slice() {
            let message = format!("only one of {} may be given", given.join(", "));
            self.problems.error(&section.place_of(second), message);
            return None;
        }
        Some(())
    }
}

fn is_scram_verifier(text: &str) -> bool {
    let parse = || {
        let (cost, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = cost.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let is_cost = iterations.parse().is_ok_and(|count: u32| SCRAM_ITERATIONS.contains(&count));
        let is_salt = STANDARD.decode(salt).is_ok_and(|salt| !salt.is_empty());
        let is_key = |key| STANDARD.decode(key).is_ok_and(|key| key.len() == 32);
        Some(is_cost && is_salt && is_key(stored_key) && is_key(server_key))
    };
    parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_has_the_form_of_pg_authid() {
        let key = STANDARD.encode([7; 32]);
        let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        assert!(is_scram_verifier(&good));
        for bad in [
            "",
            "md5abc",
            &good[1..],
            &good.replace("4096", "0"),
            &good.replace("4096", "99999999"),
            &good.replace("c2FsdA==", ""),
            &good[..good.len() - 4],
        ] {
            assert!(!is_scram_verifier(bad), "{bad}");
        }
    }
}
