//! How a hook is configured: `auth.password`, `auth.publicKey`, `auth.authz` and `configserver`, with the keys that
//! ContainerSSH gives them.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use reqwest::Url;
use schemars::JsonSchema;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use crate::any_case::{self, Spelling};
use crate::value::{Pem, Section, Timeout, written_as_text};

/// A restarting service is back within seconds, and a person waits for the answer.
const TIMEOUT_SECONDS: u64 = 10;

/// Who answers for one way of logging in.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "HookMethod")]
pub struct MethodConfig {
    /// Who is asked: `webhook`. Empty: nobody.
    pub method: Method,
    /// The service that is asked where `method` is `webhook`.
    #[serde(deserialize_with = "webhook")]
    pub webhook: WebhookConfig,
}

/// Who is asked about a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Method {
    /// Nobody.
    #[default]
    #[serde(rename = "")]
    None,
    /// A web service.
    Webhook,
}

/// A web service that is asked.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Webhook")]
pub struct WebhookConfig {
    /// Its address, `https://` or `http://`. Empty: it is not asked.
    pub url: HookUrl,
    /// For a question with all of its tries. One try may take half of it.
    pub timeout: Timeout,
    /// PEM text or file: who the service's certificate must be signed by. Empty: whom the system trusts.
    pub cacert: Pem,
    /// PEM text or file: our certificate.
    pub cert: Pem,
    /// PEM text or file: its private key.
    pub key: Pem,
}

/// The address of a service, or none. Shows neither the credentials nor the query that may be in it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HookUrl(Option<Url>);

/// Keys that ContainerSSH has here, and what to do instead.
const KEYS: Spelling = Spelling {
    any_case: false,
    renamed: &[],
    refused: &[
        ("authTimeout", "`timeout` is for a question with all of its tries"),
        ("allowRedirects", "redirects are never followed; put the address they lead to in `url`"),
        ("tlsVersion", "TLS 1.3 and 1.2 are used, the newer one where both sides have it"),
        ("curves", "those of the TLS library are used"),
        ("cipher", "those of the TLS library are used"),
    ],
};

impl Section for MethodConfig {
    fn check(&self) -> Result<(), String> {
        if self.method == Method::Webhook && self.webhook.url.get().is_none() {
            return Err("`method: webhook` needs `webhook.url`".to_owned());
        }
        Ok(())
    }
}

impl MethodConfig {
    /// The service to ask, if one is to be asked.
    #[must_use]
    pub fn hook(&self) -> Option<&WebhookConfig> {
        (self.method == Method::Webhook).then_some(&self.webhook)
    }

    /// Takes relative paths as seen from `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        self.webhook.resolve(folder);
    }
}

impl Section for WebhookConfig {
    fn check(&self) -> Result<(), String> {
        if self.cert.is_set() != self.key.is_set() {
            return Err("`cert` and `key` go together: set both or none".to_owned());
        }
        if self.url.is_plain() && (self.cacert.is_set() || self.cert.is_set()) {
            return Err(format!("`cacert` and `cert` need `https://`, but `url` is `{}`", self.url));
        }
        Ok(())
    }
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: HookUrl::default(),
            timeout: Timeout::from_seconds(TIMEOUT_SECONDS),
            cacert: Pem::Unset,
            cert: Pem::Unset,
            key: Pem::Unset,
        }
    }
}

impl WebhookConfig {
    /// What works and is hardly meant. `key` is where in the configuration this is, such as `auth.password.webhook`.
    #[must_use]
    pub fn warning(&self, key: &str) -> Option<String> {
        (self.url.is_plain() && !self.url.is_loopback())
            .then(|| format!("what is asked of `{}` (`{key}.url`) is not encrypted", self.url))
    }

    /// Takes relative paths as seen from `folder`.
    pub fn resolve(&mut self, folder: &Path) {
        for pem in [&mut self.cacert, &mut self.cert, &mut self.key] {
            pem.resolve(folder);
        }
    }
}

impl HookUrl {
    /// The address, if there is one.
    #[must_use]
    pub(super) fn get(&self) -> Option<&Url> {
        self.0.as_ref()
    }

    /// Whether there is an address.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    fn is_plain(&self) -> bool {
        self.0.as_ref().is_some_and(|url| url.scheme() == "http")
    }

    fn is_loopback(&self) -> bool {
        let host = self.0.as_ref().and_then(Url::host_str).unwrap_or_default();
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        host == "localhost"
            || host.ends_with(".localhost")
            || address.is_some_and(|address| address.to_canonical().is_loopback())
    }
}

impl FromStr for HookUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::default());
        }
        // The text may have a password in it, so it is not repeated.
        let expected = "expected an address such as `https://auth.example:8443/hooks`";
        let url: Url = text.parse().map_err(|reason| format!("{expected}: {reason}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{expected}, not one with `{}:`", url.scheme()));
        }
        Ok(Self(Some(url)))
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |url| f.write_str(&shown(url)))
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookUrl({self})")
    }
}

written_as_text! { HookUrl }

/// Reads a [`WebhookConfig`]: as [`crate::value::section`] does, and says what to do about ContainerSSH's other keys.
pub(crate) fn webhook<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WebhookConfig, D::Error> {
    let config: WebhookConfig = any_case::read(deserializer, &KEYS)?;
    config.check().map_err(D::Error::custom)?;
    Ok(config)
}

/// `url` as it may be logged.
pub(super) fn shown(url: &Url) -> String {
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "{}://{}{}{port}{}{}",
        url.scheme(),
        if has_credentials { "***@" } else { "" },
        url.host_str().unwrap_or_default(),
        url.path(),
        if url.query().is_some() { "?***" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default, rename_all = "camelCase")]
    struct Example {
        #[serde(deserialize_with = "crate::value::section")]
        password: MethodConfig,
        #[serde(deserialize_with = "webhook")]
        configserver: WebhookConfig,
    }

    fn read(yaml: &str) -> Result<Example, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn hooks_are_configured_with_the_words_that_containerssh_has() {
        let yaml = "password:\n  method: webhook\n  webhook:\n    url: https://auth.example/hooks/\n    timeout: 2s\n    \
                    cacert: ca.pem\n    cert: client.pem\n    key: client.key\n\
                    configserver:\n  url: http://127.0.0.1:8080/config\n";

        let mut example = read(yaml).unwrap();
        example.password.resolve(Path::new("/etc/coracle"));

        let hook = example.password.hook().unwrap();
        assert_eq!(hook.url.to_string(), "https://auth.example/hooks/");
        assert_eq!(hook.timeout.get().as_secs(), 2);
        assert_eq!(hook.key, Pem::File("/etc/coracle/client.key".into()));
        assert_eq!(hook.warning("auth.password.webhook"), None);
        assert!(example.configserver.url.is_set());
        assert_eq!(example.configserver.warning("configserver"), None);
    }

    #[test]
    fn nobody_is_asked_unless_the_configuration_says_so() {
        for yaml in ["{}", "password:\n", "password: {method: \"\"}", "password: {webhook: {url: \"\"}}"] {
            let example = read(yaml).unwrap();

            assert!(example.password.hook().is_none() && !example.configserver.url.is_set(), "{yaml}");
        }
        let shown = serde_json::to_value(MethodConfig::default()).unwrap();
        assert_eq!(shown["method"], "");
        assert_eq!(serde_json::from_value::<MethodConfig>(shown).unwrap(), MethodConfig::default());
    }

    #[test]
    fn a_mistake_is_told_at_its_line() {
        for (yaml, words) in [
            ("password:\n  method: webhook\n  webhook:\n    url: auth.example", "line 4"),
            ("password:\n  method: webhook\n  webhook:\n    url: ftp://auth.example", "line 4"),
            ("password:\n  method: kerberos\n", "line 2"),
            ("password:\n  method: webhook\n", "`method: webhook` needs `webhook.url`"),
            ("configserver:\n  url: https://a\n  cert: a.pem\n", "`cert` and `key` go together"),
            ("configserver:\n  url: http://a\n  cacert: a.pem\n", "need `https://`"),
            ("configserver:\n  url: http://a\n  allowRedirects: true\n", "never followed"),
            ("configserver:\n  url: http://a\n  authTimeout: 60s\n", "line 3"),
            ("configserver:\n  url: http://a\n  timeout: 0\n", "line 3"),
        ] {
            let error = read(yaml).expect_err(yaml);

            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_may_be_secret_in_an_address_is_not_shown() {
        let url: HookUrl = "https://me:SECRET@auth.example:8443/x?token=SECRET".parse().unwrap();

        for text in [url.to_string(), format!("{url:?}"), serde_json::to_string(&url).unwrap()] {
            assert!(
                text.contains("https://***@auth.example:8443/x?***") && !text.contains("SECRET"),
                "{text}"
            );
        }
        let error = "http//me:SECRET@auth.example".parse::<HookUrl>().unwrap_err();
        assert!(!error.contains("SECRET"), "{error}");
    }

    #[test]
    fn a_service_elsewhere_that_is_not_encrypted_is_warned_about() {
        let warning = |url: &str| {
            WebhookConfig { url: url.parse().unwrap(), ..WebhookConfig::default() }.warning("configserver")
        };

        assert_eq!(
            warning("http://auth.example/config").unwrap(),
            "what is asked of `http://auth.example/config` (`configserver.url`) is not encrypted"
        );
        for near in ["http://localhost:1", "http://127.0.0.2", "http://[::1]:80/", "https://auth.example", ""]
        {
            assert_eq!(warning(near), None, "{near}");
        }
    }
}
