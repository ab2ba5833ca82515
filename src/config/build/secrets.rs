//! Passwords and keys in their forms: text, environment variable, file, SCRAM verifier.
//!
//! Owns: that there is exactly one, and what it says. Nothing here echoes a value.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::Builder;
use crate::auth::scram::Verifier;
use crate::config::problem::Place;
use crate::config::raw::Section;
use crate::config::settings::LoginSecret;
use crate::scope::SealKey;

const PASSWORD_FORMS: [&str; 3] = ["password", "password_env", "password_file"];
const SEAL_KEY_FORMS: [&str; 3] = ["seal_key", "seal_key_env", "seal_key_file"];

impl Builder<'_> {
    /// A password, if any form is given.
    pub fn password(&mut self, section: &Section) -> Option<SecretString> {
        self.one_form_at_most(section, &PASSWORD_FORMS)?;
        self.given(section, PASSWORD_FORMS)
    }

    /// The key of a sealed database; `Some(None)` where it is not sealed.
    pub fn seal(&mut self, section: &Section) -> Option<Option<Arc<SealKey>>> {
        self.one_form_at_most(section, &SEAL_KEY_FORMS)?;
        if !section.flag("seal")? {
            return Some(None);
        }
        let place = SEAL_KEY_FORMS.iter().find(|form| section.has(form)).map(|form| section.place_of(form));
        let Some(place) = place else {
            let hint = "make one with \"openssl rand -hex 32\", and give seal_key, seal_key_env or seal_key_file";
            self.problems.error_with_hint(&section.place_of("seal"), "needs a key", hint);
            return None;
        };
        let text = self.given(section, SEAL_KEY_FORMS)?;
        let key = SealKey::parse(text.expose_secret().trim());
        if key.is_none() {
            self.problems.error(&place, "a key is 64 hexadecimal digits");
        }
        key.map(|key| Some(Arc::new(key)))
    }

    /// What a login proves itself with, if any form is given.
    pub fn login_secret(&mut self, section: &Section) -> Option<LoginSecret> {
        let [password, variable, file] = PASSWORD_FORMS;
        self.one_form_at_most(section, &[password, variable, file, "scram"])?;
        if let Some(verifier) = section.secret("scram") {
            return self.scram_verifier(&section.place_of("scram"), &verifier);
        }
        self.given(section, PASSWORD_FORMS).map(LoginSecret::Plain)
    }

    fn given(&mut self, section: &Section, [text, variable, file]: [&str; 3]) -> Option<SecretString> {
        let place = |key| section.place_of(key);
        if let Some(password) = section.secret(text) {
            return self.usable_password(&place(text), password);
        }
        if let Some(name) = section.text(variable) {
            let Some(password) = self.environment.variable(&name) else {
                let message = format!("the environment variable {name:?} is not set or not UTF-8");
                self.problems.error(&place(variable), message);
                return None;
            };
            return self.usable_password(&place(variable), password);
        }
        let path = section.text(file)?;
        self.password_from_file(&place(file), &path)
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

    fn scram_verifier(&mut self, place: &Place, text: &SecretString) -> Option<LoginSecret> {
        match Verifier::parse(text.expose_secret()) {
            Ok(verifier) => Some(LoginSecret::Scram(verifier)),
            Err(fault) => {
                let message = format!("is not a SCRAM-SHA-256 verifier: {fault}");
                self.problems.error_with_hint(place, message, "take it from pg_authid.rolpassword");
                None
            }
        }
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
