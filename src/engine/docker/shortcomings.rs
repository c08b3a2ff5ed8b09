//! What an engine cannot do of what we ask by default. It is told once in the log, and not asked again: a login must not
//! fail for want of a limit that the engine's kernel does not have.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard::models::HostConfig;

use crate::engine::EngineError;

/// Different warnings of an engine that are logged; the rest are repetitions with other numbers in them.
const WARNINGS_MAX: usize = 32;

/// What is lacking, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one flag per feature, none of which excludes another")]
pub(super) struct Lacking {
    pub(super) init: bool,
    pub(super) cgroup_namespace: bool,
    pub(super) cpu: bool,
    pub(super) memory: bool,
    pub(super) pids: bool,
}

/// A feature: its flag, whether the configuration asks for it itself, and how it is told that it is lacking.
struct Feature {
    flag: fn(&mut Lacking) -> &mut bool,
    is_configured: fn(&HostConfig) -> bool,
    /// In lower case; any of them.
    words: &'static [&'static str],
    consequence: &'static str,
}

/// In the words of Docker, runc, Podman and crun.
const KNOWN: [Feature; 5] = [
    Feature {
        flag: |lacking| &mut lacking.init,
        is_configured: |host| host.init.is_some(),
        words: &["docker-init", "catatonit", "init binary"],
        consequence: "containers run without an init, and what their programs leave behind is not reaped",
    },
    Feature {
        flag: |lacking| &mut lacking.cgroup_namespace,
        is_configured: |host| host.cgroupns_mode.is_some(),
        words: &["cgroup namespace", "cgroupns"],
        consequence: "containers see the names of the host's control groups",
    },
    Feature {
        flag: |lacking| &mut lacking.cpu,
        is_configured: |host| host.nano_cpus.is_some(),
        words: &["nanocpus", "controller `cpu`", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.max"],
        consequence: "containers may use every CPU",
    },
    Feature {
        flag: |lacking| &mut lacking.memory,
        is_configured: |host| host.memory.is_some() || host.memory_swap.is_some(),
        words: &[
            "controller `memory`",
            "memory.limit_in_bytes",
            "memory.memsw",
            "memory.max",
            "memory.swap.max",
        ],
        consequence: "containers may use all memory",
    },
    Feature {
        flag: |lacking| &mut lacking.pids,
        is_configured: |host| host.pids_limit.is_some(),
        words: &["controller `pids`", "pids.max"],
        consequence: "containers may start any number of processes",
    },
];

/// What is known of one engine.
#[derive(Clone, Debug, Default)]
pub(super) struct Shortcomings(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    lacking: Lacking,
    warned: HashSet<String>,
}

/// What one launch takes to be lacking. Only its success shows that it was right: errors have words of images in them.
#[derive(Debug)]
pub(super) struct Guess {
    lacking: Lacking,
    /// Consequence and reason of each that is new.
    learned: Vec<(&'static str, String)>,
}

impl Shortcomings {
    /// Where a launch begins.
    pub(super) fn guess(&self) -> Guess {
        Guess { lacking: self.state().lacking, learned: Vec::new() }
    }

    /// A launch has succeeded without what it left out.
    pub(super) fn confirm(&self, guess: &Guess) {
        if guess.learned.is_empty() {
            return;
        }
        let mut state = self.state();
        for feature in &KNOWN {
            let is_lacking = *(feature.flag)(&mut guess.lacking());
            let known = (feature.flag)(&mut state.lacking);
            if is_lacking && !std::mem::replace(known, true) {
                let learned =
                    guess.learned.iter().find(|(consequence, _)| *consequence == feature.consequence);
                let reason = learned.map_or("", |(_, reason)| reason);
                tracing::warn!(reason, "the engine cannot do all of `sandbox`: {}", feature.consequence);
            }
        }
    }

    /// Logs what the engine says when it creates a container, once.
    pub(super) fn note(&self, warnings: &[String]) {
        let mut state = self.state();
        for warning in warnings.iter().filter(|warning| !warning.trim().is_empty()) {
            if state.warned.len() < WARNINGS_MAX && state.warned.insert(warning.clone()) {
                tracing::warn!(warning, "the engine has made a container, but not as it was asked to");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guess {
    pub(super) fn lacking(&self) -> Lacking {
        self.lacking
    }

    /// Whether `error` may be for want of something that `configured` does not ask for, and that was not left out yet.
    pub(super) fn learn(&mut self, configured: &HostConfig, error: &EngineError) -> bool {
        let (EngineError::Refused { reason, .. } | EngineError::Failed { reason, is_answer: true, .. }) =
            error
        else {
            return false;
        };
        let words = reason.to_lowercase();
        let found = KNOWN.iter().find(|feature| feature.words.iter().any(|word| words.contains(word)));
        let Some(feature) = found.filter(|feature| !(feature.is_configured)(configured)) else {
            return false;
        };
        if std::mem::replace((feature.flag)(&mut self.lacking), true) {
            return false;
        }
        self.learned.push((feature.consequence, reason.clone()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str) -> EngineError {
        EngineError::Failed { action: "start", reason: reason.to_owned(), is_answer: true }
    }

    #[test]
    fn what_is_lacking_is_recognised_in_each_engines_words() {
        let lacking = |reason: &str| {
            let mut guess = Shortcomings::default().guess();
            let learned = guess.learn(&HostConfig::default(), &failed(reason));
            assert!(!guess.learn(&HostConfig::default(), &failed(reason)), "twice: {reason}");
            (learned, guess.lacking())
        };
        let none = Lacking::default();

        for (reason, expected) in [
            (r#"exec: "docker-init": executable file not found in $PATH"#, Lacking { init: true, ..none }),
            ("lookup init binary: could not find \"catatonit\"", Lacking { init: true, ..none }),
            (
                "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
                Lacking { cpu: true, ..none },
            ),
            (
                "crun: the requested cgroup controller `cpu` is not available: OCI runtime error",
                Lacking { cpu: true, ..none },
            ),
            ("the requested cgroup controller `pids` is not available", Lacking { pids: true, ..none }),
            ("open /sys/fs/cgroup/x/memory.max: permission denied", Lacking { memory: true, ..none }),
            ("cgroup namespaces aren't enabled", Lacking { cgroup_namespace: true, ..none }),
        ] {
            assert_eq!(lacking(reason), (true, expected), "{reason}");
        }
        assert_eq!(lacking("exec: \"/bin/sh\": no such file or directory"), (false, none));
    }

    #[test]
    fn what_the_configuration_asks_for_itself_is_not_left_out() {
        let mut guess = Shortcomings::default().guess();
        let configured = HostConfig { nano_cpus: Some(1), ..HostConfig::default() };

        assert!(!guess.learn(&configured, &failed("NanoCPUs can not be set")));
        assert_eq!(guess.lacking(), Lacking::default());
    }

    #[test]
    fn a_guess_that_did_not_help_is_not_believed() {
        let shortcomings = Shortcomings::default();
        let mut guess = shortcomings.guess();
        // An image's own words in an engine's error.
        assert!(guess.learn(&HostConfig::default(), &failed("unable to find user pids.max")));

        assert_eq!(shortcomings.guess().lacking(), Lacking::default());
        shortcomings.confirm(&guess);
        assert!(shortcomings.guess().lacking().pids);
    }
}
