//! The pages of docs/recipes: a test serves with the configuration that its page shows and runs the commands that stand
//! there, so that neither can drift from the other.

use std::path::Path;

use serde_json::Value;

use super::builder::Builder;
use super::client::Client;
use super::read;
use super::target::Target;

/// One page. Its blocks have names: what follows the language in their first line, as in `yaml config.yaml`.
#[derive(Debug)]
pub(crate) struct Recipe {
    name: String,
    text: String,
    /// What a page calls by a name of its own, such as a port, and what a test has in its place.
    replacements: Vec<(String, String)>,
}

impl Recipe {
    /// The page `docs/recipes/NAME.md`.
    pub(crate) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes").join(name).with_extension("md");
        Self { name: name.to_owned(), text: read(&path), replacements: Vec::new() }
    }

    /// Each `shown` in a block is `real` in this test.
    pub(crate) fn with(mut self, shown: &str, real: impl Into<String>) -> Self {
        assert!(self.text.contains(shown), "the recipe {} does not show `{shown}`", self.name);
        self.replacements.push((shown.to_owned(), real.into()));
        self
    }

    /// The text of the block with this name.
    pub(crate) fn block(&self, name: &str) -> String {
        let mut lines = self.text.lines().skip_while(|line| {
            line.strip_prefix("```")
                .and_then(|opening| opening.split_once(' '))
                .is_none_or(|(_, its)| its != name)
        });
        assert!(lines.next().is_some(), "the recipe {} has no block `{name}`", self.name);
        let block: Vec<_> = lines.take_while(|line| *line != "```").collect();
        let replaced = self.replacements.iter();
        replaced.fold(block.join("\n") + "\n", |text, (shown, real)| text.replace(shown, real))
    }

    /// What is typed in the block with this name: its lines after `$`.
    pub(crate) fn commands(&self, name: &str) -> String {
        let block = self.block(name);
        let typed = block.lines().filter_map(|line| line.strip_prefix("$ "));
        typed.fold(String::new(), |script, line| script + line + "\n")
    }
}

impl Builder {
    /// With the configuration that a recipe shows, laid over the test's own.
    pub(crate) fn recipe(self, recipe: &Recipe) -> Self {
        self.laid_over(&recipe.block("config.yaml"))
    }
}

/// Two configurations as one; where both say something the second does.
pub(super) fn merged(below: &str, above: &str) -> String {
    let parse = |text| serde_saphyr::from_str::<Value>(text).expect("YAML");
    let mut value = parse(below);
    lay_over(&mut value, parse(above));
    value.to_string()
}

fn lay_over(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (key, value) in above {
                lay_over(below.entry(key).or_insert(Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// The machine of the person who follows a recipe: a home, and an `ssh_config` in which the server is `coracle`.
#[derive(Debug)]
pub(crate) struct Desk<'t> {
    target: &'t Target,
}

impl Target {
    /// A desk whose `ssh_config` goes on with `config`.
    pub(crate) fn desk(&self, config: &str) -> Desk<'_> {
        let (home, bin) = (self.path("home"), self.path("home/bin"));
        std::fs::create_dir_all(&bin).expect("a writable folder");
        let file = home.join("ssh_config");
        std::fs::write(&file, self.host_lines() + config).expect("a writable folder");
        for program in ["ssh", "scp", "sftp"] {
            // OpenSSH looks for a home in passwd alone, so each is told where its configuration is.
            let script =
                format!("#!/bin/sh\nPATH=${{PATH#*:}}\nexec {program} -F '{}' \"$@\"\n", file.display());
            super::write_program(&bin.join(program), &script);
        }
        Desk { target: self }
    }

    /// Of two values ssh takes the first: these stand ahead of the recipe's.
    fn host_lines(&self) -> String {
        format!(
            "Host coracle\n  HostName {}\n  Port {}\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  BatchMode yes\n  \
             StrictHostKeyChecking accept-new\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  LogLevel ERROR\n",
            self.address.ip(),
            self.address.port(),
            self.user,
            self.keys.client().display(),
            self.path("known_hosts").display(),
        )
    }
}

impl Desk<'_> {
    /// Runs lines of shell in the home, up to the first that fails.
    pub(crate) fn run(&self, script: &str) -> Client {
        let home = self.target.path("home");
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = super::python::tools().display().to_string();
        let set_up = format!("cd '{0}'\nPATH='{0}/bin:{tools}:{path}'\n", home.display());
        self.target
            .program("sh")
            .env("HOME", &home)
            .env("LC_ALL", "C.UTF-8")
            .then(["-euc", &(set_up + script)])
    }

    /// A file in the home.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.target.path("home").join(name)
    }

    /// Writes one.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).expect("a writable folder");
    }
}
