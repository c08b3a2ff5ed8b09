//! Other people's clients: connect, run, copy (D6). OpenSSH's is what all other modules use.

use std::path::PathBuf;

use crate::harness::{Client, MIB, Sshd, Target, TestServer, noise, python, sha256, sha256_of_file};

const SIZE: usize = 3 * MIB;

on_both!(
    /// D6
    openssh_connects_runs_and_copies,
    |target| {
        let (there, back) = (target.path("there"), target.path("back"));
        std::fs::write(&there, noise(SIZE)).unwrap();
        let batch = format!("put {0} /tmp/f\nget /tmp/f {1}\n", there.display(), back.display());

        target.ssh(&["echo hello; exit 3"]).output().await.assert_stdout("hello\n").assert_code(3);
        target.sftp().stdin(batch).output().await.assert_success();

        assert_eq!(sha256_of_file(&back), sha256_of_file(&there));
        target.seen("OpenSSH", "commands");
        target.seen("OpenSSH", "sftp");
    }
);

on_both!(
    /// D6
    dropbear_connects_runs_and_copies,
    |target| {
        let client = dropbear(target).await;
        let dbclient = |command: &str| client.clone().then([command]);
        let data = noise(SIZE);

        let run = dbclient("echo hello; exit 3").output().await;
        let up = dbclient("sha256sum").stdin(data.clone()).output().await;
        let both = dbclient("cat").stdin(data.clone()).output().await;

        run.assert_code(3).assert_stdout("hello\n");
        assert!(up.assert_success().stdout().starts_with(&sha256(&data)), "{}", up.report());
        assert!(both.assert_success().stdout == data, "{} of {SIZE} bytes, or others", both.stdout.len());
        target.seen("Dropbear", "commands");
    }
);

on_both!(
    /// D6
    putty_connects_runs_and_copies,
    |target| {
        let (there, back) = (target.path("there"), target.path("back"));
        std::fs::write(&there, noise(SIZE)).unwrap();
        let putty = Putty::of(target).await;

        let run = putty.client(target, "plink").then([target.destination().as_str(), "echo hello; exit 3"]).output().await;
        let there_text = there.display().to_string();
        let up = putty.client(target, "pscp").then([&there_text, &target.remote("/tmp/f")]).output().await;

        run.assert_code(3).assert_stdout("hello\n");
        up.assert_success();
        // Each connection has a container of its own: up and down again go by one.
        let batch = target.path("batch");
        std::fs::write(&batch, format!("put {there_text} /tmp/f\nget /tmp/f {}\n", back.display())).unwrap();
        let copy = putty.client(target, "psftp").arg("-b").arg(&batch).then([target.destination()]).output().await;
        copy.assert_success();
        assert_eq!(sha256_of_file(&back), sha256_of_file(&there));
        target.seen("PuTTY", "commands");
        target.seen("PuTTY", "scp");
        target.seen("PuTTY", "sftp");
    }
);

on_both!(
    /// D6
    paramiko_connects_runs_and_copies,
    |target| {
        let output = python(target, "paramiko_copies.py", &[]).output().await;

        output.assert_success().assert_stdout("hello\n3\nequal\n");
        target.seen("paramiko", "commands");
        target.seen("paramiko", "sftp");
    }
);

on_both!(
    /// D6
    asyncssh_connects_runs_and_copies,
    |target| {
        let output = python(target, "asyncssh_copies.py", &[]).output().await;

        output.assert_success().assert_stdout("hello\n3\nequal\nequal\n");
        target.seen("asyncssh", "commands");
        target.seen("asyncssh", "scp");
        target.seen("asyncssh", "sftp");
    }
);

/// Dropbear's client, which has yet to get its command.
pub(crate) async fn dropbear(target: &Target) -> Client {
    let key = target.path("dropbear");
    let convert = target.program("dropbearconvert").args(["openssh", "dropbear"]);
    convert.then([target.keys.client(), key.clone()]).output().await.assert_success();
    let port = target.address.port().to_string();
    // `-y -y`: any host key, and none remembered.
    let client = target.program("dbclient").args(["-y", "-y", "-p", &port, "-i"]).arg(&key);
    client.env("HOME", target.path("")).then([target.destination()])
}

/// What PuTTY's programs have to be told.
pub(crate) struct Putty {
    key: PathBuf,
    fingerprint: String,
}

impl Putty {
    pub(crate) async fn of(target: &Target) -> Self {
        let key = target.path("client.ppk");
        let puttygen =
            target.program("puttygen").arg(target.keys.client()).args(["-O", "private", "-o"]).arg(&key);
        puttygen.output().await.assert_success();
        Self { key, fingerprint: fingerprint(target).await }
    }

    /// One of its programs, which has yet to get its arguments.
    pub(crate) fn client(&self, target: &Target, program: &str) -> Client {
        let port = target.address.port().to_string();
        let client = target.program(program).args(["-batch", "-hostkey", &self.fingerprint, "-P", &port]);
        client.arg("-i").arg(&self.key).env("HOME", target.path(""))
    }
}

/// `SHA256:…` of the Ed25519 host key.
async fn fingerprint(target: &Target) -> String {
    let port = target.address.port().to_string();
    let host = target.address.ip().to_string();
    let scan =
        target.program("ssh-keyscan").then(["-T", "60", "-t", "ed25519", "-p", &port, &host]).output().await;
    let list = target
        .program("ssh-keygen")
        .then(["-lf", "-"])
        .stdin(scan.assert_success().stdout.clone())
        .output()
        .await;
    list.assert_success().stdout().split_whitespace().nth(1).expect("a fingerprint").to_owned()
}
