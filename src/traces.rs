//! What becomes of each connection, from its first byte to the removal of its container, for a collector of traces. Made of
//! what others tell anyway: nobody does anything for it.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod story;
#[cfg(feature = "otel")]
mod witness;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::Section;

#[cfg(not(feature = "otel"))]
pub use absent::Traces;
#[cfg(feature = "otel")]
pub use witness::Traces;

/// The section `traces` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[schemars(rename = "Traces")]
pub struct Config {
    /// Where the collector answers, without a path of its own: `http://127.0.0.1:4318`. Not set: there are no traces.
    pub endpoint: Option<Endpoint>,
    /// The share of connections that are traced, 0 to 1.
    pub sample_ratio: Ratio,
}

impl Section for Config {
    fn check(&self) -> Result<(), String> {
        if self.endpoint.is_some() && !cfg!(feature = "otel") {
            return Err(
                "`endpoint` needs a server that was built with the feature `otel`, and this one was not \
                        (docs/metrics.md)"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

/// The address of a collector, with `http://` or `https://`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let base = text.trim().trim_end_matches('/');
        let host = ["http://", "https://"].iter().find_map(|scheme| base.strip_prefix(scheme));
        let sound = host.is_some_and(|host| {
            !host.is_empty()
                && !host.contains(|letter: char| letter.is_whitespace() || "@?#".contains(letter))
        });
        if sound {
            Ok(Self(base.to_owned()))
        } else {
            Err(format!("expected an address such as `http://127.0.0.1:4318`, not `{text}`"))
        }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(#[schemars(range(min = 0.0, max = 1.0))] f64);

impl Default for Ratio {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Ratio {
    type Error = String;

    fn try_from(ratio: f64) -> Result<Self, String> {
        if (0.0..=1.0).contains(&ratio) {
            Ok(Self(ratio))
        } else {
            Err(format!("expected 0 to 1, not {ratio}"))
        }
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        ratio.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_has_an_address_and_no_secrets_in_it() {
        for good in ["http://127.0.0.1:4318", "https://otel.example/base/"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        assert_eq!("http://a/".parse::<Endpoint>().unwrap().to_string(), "http://a");
        for bad in ["", "127.0.0.1:4318", "grpc://a", "http://", "http://u:p@a", "http://a b", "http://a?x=1"]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_that_cannot_trace_says_so() {
        let config = Config { endpoint: "http://a".parse().ok(), ..Config::default() };

        assert_eq!(config.check().is_ok(), cfg!(feature = "otel"));
        assert!(Config::default().check().is_ok());
    }
}
