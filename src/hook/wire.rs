//! What goes over the wire: the JSON of ContainerSSH 0.5, with the fields besides that 0.4 sends.
//!
//! Answers are taken apart by hand rather than by derived code, whose errors repeat what they could not read: the log
//! is no place for that. Keys are matched in any letter case, as ContainerSSH does.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

use super::Caller;
use super::facts::{Facts, Marked, quoted};
use crate::ids::Username;
use crate::secret::Secret;

/// Some encoders leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What every question begins with.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    username: &'a str,
    remote_address: SocketAddr,
    connection_id: &'a str,
    /// Its name in 0.3, which 0.4 still sent.
    session_id: &'a str,
    client_version: &'a str,
}

/// `POST {url}/password`. Has no `Debug`: it holds the password.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PasswordRequest<'a> {
    #[serde(flatten)]
    asked: Asked<'a>,
    password_base64: String,
}

/// `POST {url}/pubkey`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicKeyRequest<'a> {
    #[serde(flatten)]
    asked: Asked<'a>,
    public_key: &'a str,
}

/// `POST {url}/authz`, and to the configuration hook.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AuthenticatedRequest<'a> {
    #[serde(flatten)]
    asked: Asked<'a>,
    authenticated_username: &'a str,
    /// What 0.4's configuration hook is sent in place of `remoteAddress`.
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_addr: Option<IpAddr>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, Shown<&'a str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    environment: BTreeMap<&'a str, Shown<&'a str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    files: BTreeMap<&'a str, Shown<String>>,
}

/// A value that other hooks may be told.
#[derive(Serialize)]
struct Shown<T> {
    value: T,
    sensitive: bool,
}

/// The answer to a question about a login.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) success: bool,
    /// Empty without success.
    pub(super) facts: Facts,
}

pub(super) fn password_request(caller: &Caller, password: &Secret<String>) -> serde_json::Result<Vec<u8>> {
    let password_base64 = BASE64_STANDARD.encode(password.expose());
    serde_json::to_vec(&PasswordRequest { asked: asked(caller), password_base64 })
}

pub(super) fn public_key_request(caller: &Caller, public_key: &str) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&PublicKeyRequest { asked: asked(caller), public_key })
}

pub(super) fn authz_request(caller: &Caller, facts: &Facts) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&authenticated(caller, facts))
}

pub(super) fn config_request(caller: &Caller, facts: &Facts) -> serde_json::Result<Vec<u8>> {
    let remote_addr = Some(caller.remote_address.ip().to_canonical());
    serde_json::to_vec(&AuthenticatedRequest { remote_addr, ..authenticated(caller, facts) })
}

/// Reads the answer to a question about a login.
///
/// # Errors
/// What is wrong with it, without a value of it.
pub(super) fn read_answer(body: &[u8]) -> Result<Answer, String> {
    let mut fields = Fields::of("the answer", parse(body)?)?;
    let success = match fields.take("success")? {
        Value::Null => false,
        Value::Bool(success) => success,
        other => return Err(unexpected("`success`", &other, "true or false")),
    };
    let facts = if success { read_facts(&mut fields)? } else { Facts::default() };
    Ok(Answer { success, facts })
}

/// Reads the answer of the configuration hook: its `config`, and what else it says about the user.
///
/// # Errors
/// What is wrong with it, without a value of it.
pub(super) fn read_config(body: &[u8]) -> Result<(Value, Facts), String> {
    let mut fields = Fields::of("the answer", parse(body)?)?;
    let config = match fields.take("config")? {
        config @ Value::Object(_) => config,
        other => return Err(unexpected("`config`", &other, "an object")),
    };
    Ok((config, read_facts(&mut fields)?))
}

fn asked(caller: &Caller) -> Asked<'_> {
    let address = caller.remote_address;
    Asked {
        username: caller.username.as_str(),
        // An IPv4 client is one also where the socket is IPv6's.
        remote_address: SocketAddr::new(address.ip().to_canonical(), address.port()),
        connection_id: caller.connection_id.as_str(),
        session_id: caller.connection_id.as_str(),
        client_version: &caller.client_version,
    }
}

fn authenticated<'a>(caller: &'a Caller, facts: &'a Facts) -> AuthenticatedRequest<'a> {
    let files = facts.files.iter().filter(|(_, file)| !file.sensitive);
    AuthenticatedRequest {
        asked: asked(caller),
        authenticated_username: facts.authenticated_username.as_ref().unwrap_or(&caller.username).as_str(),
        remote_addr: None,
        metadata: shown(&facts.metadata),
        environment: shown(&facts.environment),
        files: files
            .map(|(path, file)| (path.as_str(), BASE64_STANDARD.encode(file.value.expose())))
            .map(|(path, value)| (path, Shown { value, sensitive: false }))
            .collect(),
    }
}

fn shown(values: &BTreeMap<String, Marked<String>>) -> BTreeMap<&str, Shown<&str>> {
    let shown = values.iter().filter(|(_, marked)| !marked.sensitive);
    shown
        .map(|(name, marked)| (name.as_str(), Shown { value: marked.value.as_str(), sensitive: false }))
        .collect()
}

/// Messages about syntax have positions and no contents.
fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| format!("the answer is not JSON: {error}"))
}

fn read_facts(fields: &mut Fields) -> Result<Facts, String> {
    let authenticated_username = match fields.take("authenticatedUsername")? {
        Value::Null => None,
        Value::String(name) if name.is_empty() => None,
        Value::String(name) => Some(
            Username::parse(&name)
                .ok_or("`authenticatedUsername` is too long or has invisible characters")?,
        ),
        other => return Err(unexpected("`authenticatedUsername`", &other, "a string")),
    };
    let facts = Facts {
        authenticated_username,
        metadata: entries("metadata", fields.take("metadata")?, read_text)?,
        environment: entries("environment", fields.take("environment")?, read_text)?,
        files: entries("files", fields.take("files")?, read_file)?,
    };
    facts.check()?;
    Ok(facts)
}

fn entries<T>(
    what: &str,
    value: Value,
    read: impl Fn(&str, Value) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let entries = match value {
        Value::Null => Map::new(),
        Value::Object(entries) => entries,
        other => return Err(unexpected(&format!("`{what}`"), &other, "an object")),
    };
    let read = |(name, value): (String, Value)| {
        let value = read(&format!("{} in `{what}`", quoted(&name)), value)?;
        Ok((name, value))
    };
    entries.into_iter().map(read).collect()
}

/// `{"value": "…", "sensitive": true}`, or just the string.
fn read_text(place: &str, value: Value) -> Result<Marked<String>, String> {
    if let Value::String(value) = value {
        return Ok(Marked { value, sensitive: false });
    }
    read_marked(place, value)
}

/// `{"value": "base64…", "sensitive": true}`. A string alone could be the contents or their base64, so it is neither.
fn read_file(place: &str, value: Value) -> Result<Marked<Secret<Vec<u8>>>, String> {
    let Marked { value, sensitive } = read_marked(place, value)?;
    let text: String = value.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
    let contents = LENIENT.decode(text).map_err(|_| format!("{place} is not base64"))?;
    Ok(Marked { value: Secret::new(contents), sensitive })
}

fn read_marked(place: &str, value: Value) -> Result<Marked<String>, String> {
    let mut fields = Fields::of(place, value)?;
    let value = match fields.take("value")? {
        Value::Null => String::new(),
        Value::String(value) => value,
        other => return Err(unexpected(&format!("`value` of {place}"), &other, "a string")),
    };
    let sensitive = match fields.take("sensitive")? {
        Value::Null => false,
        Value::Bool(sensitive) => sensitive,
        other => return Err(unexpected(&format!("`sensitive` of {place}"), &other, "true or false")),
    };
    Ok(Marked { value, sensitive })
}

/// The fields of an object, by their names in lower case. Those that nobody asks for do not matter.
struct Fields {
    values: BTreeMap<String, Value>,
    repeated: Vec<String>,
}

impl Fields {
    fn of(place: &str, value: Value) -> Result<Self, String> {
        let Value::Object(object) = value else {
            return Err(unexpected(place, &value, "an object"));
        };
        let mut fields = Self { values: BTreeMap::new(), repeated: Vec::new() };
        for (name, value) in object {
            let name = name.to_ascii_lowercase();
            if fields.values.insert(name.clone(), value).is_some() {
                fields.repeated.push(name);
            }
        }
        Ok(fields)
    }

    /// The field; `Null` where there is none.
    fn take(&mut self, name: &str) -> Result<Value, String> {
        let lower_case = name.to_ascii_lowercase();
        if self.repeated.contains(&lower_case) {
            return Err(format!("`{name}` is there more than once"));
        }
        Ok(self.values.remove(&lower_case).unwrap_or_default())
    }
}

fn unexpected(place: &str, value: &Value, expected: &str) -> String {
    let kind = match value {
        Value::Null => "missing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    format!("{place} is {kind}, expected {expected}")
}

#[cfg(test)]
mod tests;
