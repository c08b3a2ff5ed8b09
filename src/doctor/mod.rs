//! `coracle doctor`: what is wrong or weak here, what it means, and what to do about it. Looks, and changes nothing.

mod engine;
mod escapes;
mod files;
mod setup;

use std::fmt;
use std::path::Path;

use crate::config::{self, Config};
use crate::engine::docker::Docker;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// As it should be.
    Ok,
    /// Works, and could be better or is not known.
    Warning,
    /// Fails, or opens what should be closed.
    Problem,
}

/// What was found about one thing.
#[derive(Debug)]
struct Finding {
    level: Level,
    /// What it is about, in a word or two.
    about: &'static str,
    /// What it is, what that means, and what to do.
    text: String,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Report(Vec<Finding>);

impl Report {
    /// The number of things that are wrong.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.0.iter().filter(|finding| finding.level == Level::Problem).count()
    }

    fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, about, text: text.into() });
    }

    fn warning(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, about, text: text.into() });
    }

    fn problem(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Problem, about, text: text.into() });
    }
}

/// A line each, in the order of the examination.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { level, about, text } in &self.0 {
            let level = match level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Problem => "problem",
            };
            // What an error quotes may have lines of its own.
            let text = text.split(['\n', '\r']).next().unwrap_or_default();
            writeln!(f, "{level:<8} {about}: {text}")?;
        }
        Ok(())
    }
}

/// Examines the configuration in `file` (the built-in defaults without one), its files, and the engine it names.
pub async fn examine(file: Option<&Path>) -> Report {
    let mut report = Report::default();
    let config = match file.map_or_else(|| Ok(Config::default()), config::load) {
        Ok(config) => config,
        Err(error) => {
            report.problem("configuration", error.to_string());
            report.warning("configuration", "nothing else was examined, for want of one");
            return report;
        }
    };
    match file {
        Some(file) => report.ok("configuration", format!("`{}` is valid", file.display())),
        None => report.warning("configuration", "there is no file; the built-in defaults apply"),
    }
    setup::examine(&config, &mut report);
    files::examine(&config, file, &mut report);
    let docker = match Docker::new(&config.docker) {
        Ok(docker) => docker,
        Err(error) => {
            report.problem("engine", error.to_string());
            return report;
        }
    };
    match docker.examine().await {
        Ok(examination) => engine::examine(&config, &examination, &mut report),
        Err(error) => report.problem(
            "engine",
            format!(
                "{error}; is it running, and may this user (`id`) use it? `docker.host` says where it is"
            ),
        ),
    }
    report
}
