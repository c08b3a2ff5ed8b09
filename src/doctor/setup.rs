//! What is configured: valid, and maybe not wise.

use super::Report;
use crate::config::Config;
use crate::engine::docker::{Endpoint, Sandbox, dangers};

pub(super) fn examine(config: &Config, report: &mut Report) {
    for warning in config.warnings() {
        report.warning("configuration", warning);
    }
    match config.sandbox {
        Sandbox::Standard => report.ok("sandbox", "standard"),
        Sandbox::Strict => report.ok("sandbox", "strict"),
        Sandbox::Off => report.warning(
            "sandbox",
            "off: containers have no limits and all of the engine's default powers; set `sandbox: standard` and \
             change single values under `docker.config.host`",
        ),
    }
    let found = dangers(&config.docker.config, &config.docker.host);
    for setting in &found {
        let (name, meaning) = (setting.danger.name(), setting.danger.meaning());
        report.warning("sandbox", format!("`allowDangerous` allows {name}, which {meaning}"));
    }
    for danger in &config.allow_dangerous {
        if !found.iter().any(|setting| setting.danger == *danger) {
            let name = danger.name();
            report.warning(
                "sandbox",
                format!("`allowDangerous` names {name}, which nothing needs; take it out"),
            );
        }
    }
    let address = match &config.docker.host {
        Endpoint::Unix(_) | Endpoint::Https(_) => return,
        Endpoint::Tcp(_) if config.docker.uses_tls() => return,
        Endpoint::Tcp(address) | Endpoint::Http(address) => address,
    };
    let is_local =
        address.host() == "localhost" || address.host().starts_with("127.") || address.host() == "::1";
    let text = format!(
        "`{}` asks nobody who they are: whoever reaches it is root on the engine's host; use a unix socket, or TLS \
         with client certificates",
        config.docker.host
    );
    if is_local { report.warning("engine", text) } else { report.problem("engine", text) }
}
