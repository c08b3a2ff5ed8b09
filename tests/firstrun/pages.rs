//! The commands on the pages for people who begin: they are run as they stand, but for the port and the place of the
//! system's configuration.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use crate::harness::{Home, Server, assert_succeeds, poll, text, top_level};
use crate::ports::free_port;

/// Commands that this test does not run, by how they begin, and who does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("script/build-server-image", "server_image.rs"),
    ("docker run ", "server_image.rs"),
    ("docker logs ", "server_image.rs"),
    ("ssh -p 2222 alice@", "script/test-package"),
    ("script/build-package", "script/test-package"),
    ("sudo ", "script/test-package, where it is about the package; it changes the machine"),
    ("systemctl ", "nobody: there may be no systemd"),
    ("journalctl ", "nobody: there may be no systemd"),
];

/// Somebody who follows a page, with a terminal for servers and one for the rest.
struct Reader {
    home: Home,
    port: u16,
    server: Option<Server>,
}

impl Reader {
    fn new() -> Self {
        let home = Home::new();
        std::fs::create_dir(home.path("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_coracle"), home.path("bin/coracle")).unwrap();
        // What a person answers with `yes`, and what is on another machine. ssh takes its home from the system's accounts.
        let options = "-F none -i \"$HOME/.ssh/id_ed25519\" -o StrictHostKeyChecking=accept-new";
        let known = "-o UserKnownHostsFile=\"$HOME/known\"";
        program(&home, "ssh", &format!("exec /usr/bin/ssh {options} {known} \"$@\""));
        program(&home, "ssh-keygen", "exec /usr/bin/ssh-keygen -f \"$HOME/known\" \"$@\"");
        program(&home, "curl", "exec cat ~/.ssh/id_ed25519.pub");
        std::fs::copy(home.path(".ssh/id_ed25519.pub"), home.path("class.pub")).unwrap();
        for folder in [".local/share/bash-completion/completions", ".local/share/man/man1"] {
            std::fs::create_dir_all(home.path(folder)).unwrap();
        }
        let port = free_port();
        Self { home, port, server: None }
    }

    fn bash(&self, line: &str) -> Command {
        let line = line.replace("2222", &self.port.to_string()).replace("/etc/coracle/", "mine/");
        let line = line.replace("~/", &format!("{}/", self.home.folder.path().display()));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.home.path("bin").display());
        let mut bash = Command::new("bash");
        bash.args(["-o", "pipefail", "-c", &line]).current_dir(self.home.folder.path()).env_clear();
        bash.env("HOME", self.home.folder.path()).env("PATH", path).stdin(Stdio::null());
        bash
    }

    fn run(&mut self, line: &str) {
        if line.starts_with("coracle serve") {
            return self.serve(line);
        }
        let line = match line.strip_prefix("coracle init ") {
            Some(rest) => format!("coracle init --listen 127.0.0.1:2222 {rest}"),
            None if line.contains("| coracle init") => line.to_owned(),
            // A login, and what somebody types there.
            None if line.starts_with("ssh -p") => format!("echo 'echo i''n' | {line} -T"),
            None => line.to_owned(),
        };
        let output = self.bash(&line).output().unwrap();
        self.check(&line, &output);
    }

    fn check(&self, line: &str, output: &Output) {
        let log = self.server.as_ref().map_or_else(String::new, Server::stderr);
        let all = format!("{line}\n{}\n{}\n{log}", text(&output.stdout), text(&output.stderr));
        if line.starts_with("coracle doctor") {
            // What it finds is this machine's.
            assert!(text(&output.stdout).contains("is valid"), "{all}");
        } else {
            assert!(output.status.success(), "{all}");
        }
        assert!(!line.contains("ssh -p") || text(&output.stdout).contains("in\n"), "{all}");
    }

    fn serve(&mut self, line: &str) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
        let mut server = Server::start(self.bash(&format!("exec {line} --listen 127.0.0.1:2222")));
        let address: SocketAddr = server.address();
        assert_eq!(address.port(), self.port);
        poll("a server that accepts", || std::net::TcpStream::connect(address).ok());
        self.server = Some(server);
    }

    fn follow(&mut self, page: &str) -> usize {
        let commands = commands_on(page);
        let here = commands.iter().filter(|line| !ELSEWHERE.iter().any(|(start, _)| line.starts_with(start)));
        let mut count = 0;
        for line in here {
            self.run(line);
            count += 1;
        }
        count
    }
}

fn program(home: &Home, name: &str, script: &str) {
    let file = home.path("bin").join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Lines that begin with `$ ` in blocks of a console.
fn commands_on(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(top_level(page)).unwrap();
    let blocks = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    lines.map(str::to_owned).collect()
}

#[test]
fn what_a_beginner_reads_works_as_it_stands() {
    let mut reader = Reader::new();

    let of_beginners = reader.follow("docs/quickstart.md");
    let of_operators = reader.follow("docs/operations.md");

    assert!(of_beginners >= 7 && of_operators >= 6, "{of_beginners} {of_operators}");
    if let Some(server) = reader.server.take() {
        server.stop();
    }
    for name in ["mine", "lab", "alice"] {
        assert_succeeds(&reader.home.run(&["config", "check", &format!("{name}/config.yaml")]));
    }
    assert!(reader.home.path(".local/share/man/man1/coracle-serve.1").exists());
}
