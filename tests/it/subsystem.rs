//! Subsystems, and the programs that copy files over them or over a command (S).

use std::time::Duration;

use crate::harness::{MIB, Sshd, TINY, Target, TestServer, Turn, noise, scaled, sha256_of_file};

on_both!(
    /// S1
    sftp_moves_files_and_folders,
    |target| {
        let (small, big) = (target.path("small"), target.path("big"));
        std::fs::write(&small, b"small").unwrap();
        std::fs::write(&big, noise(scaled(16, 100) * MIB)).unwrap();
        let (back, resumed) = (target.path("back"), target.path("resumed"));
        std::fs::write(&resumed, noise(MIB)).unwrap();
        let batch = format!(
            "mkdir /tmp/d\ncd /tmp/d\nput {small} one\nrename one two\nchmod 600 two\nls -l\nput {big} big\n\
             get big {back}\nreget big {resumed}\nrm two\nls\nrm big\ncd /\nrmdir /tmp/d\n",
            small = small.display(),
            big = big.display(),
            back = back.display(),
            resumed = resumed.display(),
        );

        let output = target.sftp().stdin(batch).timeout(Duration::from_mins(2)).output().await;

        let text = output.assert_success().stdout();
        assert!(text.contains("-rw-------") && text.contains("two"), "{}", output.report());
        assert_eq!(sha256_of_file(&back), sha256_of_file(&big));
        assert_eq!(sha256_of_file(&resumed), sha256_of_file(&big));
    }
);

on_both!(
    /// S2
    scp_copies_both_ways_in_both_of_its_protocols,
    |target| {
        let source = target.path("source");
        std::fs::write(&source, noise(3 * MIB)).unwrap();
        let master = target.master(&[]).await;
        for (name, legacy) in [("sftp", false), ("legacy", true)] {
            let back = target.path(name);
            let remote = target.remote(&format!("/tmp/{name}"));
            let scp = |from: &str, to: &str| {
                let client = target.scp(&[from, to]).option(&master.control_path());
                if legacy { client.arg("-O") } else { client }
            };

            scp(&source.display().to_string(), &remote).output().await.assert_success();
            scp(&remote, &back.display().to_string()).output().await.assert_success();

            assert_eq!(sha256_of_file(&back), sha256_of_file(&source), "{name}");
        }
        target.seen("OpenSSH", "scp");
        master.close().await;
    }
);

on_both!(
    /// S2
    rsync_copies_a_tree_and_finds_nothing_more_to_do,
    |target| {
        let (tree, back) = (target.path("tree"), target.path("back"));
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/b/file"), noise(MIB)).unwrap();
        std::fs::write(tree.join("a b"), "a name with a blank").unwrap();
        let master = target.master(&[]).await;
        let up = [format!("{}/", tree.display()), target.remote("/tmp/tree/")];
        let down = [target.remote("/tmp/tree/"), format!("{}/", back.display())];

        for _ in 0..2 {
            target.rsync_over(&master, &["-ai", &up[0], &up[1]]).output().await.assert_success();
        }
        let again = target.rsync_over(&master, &["-ai", &up[0], &up[1]]).output().await;
        target.rsync_over(&master, &["-a", &down[0], &down[1]]).output().await.assert_success();

        again.assert_success().assert_stdout("");
        assert_eq!(sha256_of_file(&back.join("a/b/file")), sha256_of_file(&tree.join("a/b/file")));
        assert_eq!(std::fs::read(back.join("a b")).unwrap(), b"a name with a blank");
        target.seen("rsync", "copying");
        master.close().await;
    }
);

on_both!(
    /// S2
    git_pushes_and_clones,
    |target| {
        let (work, clone) = (target.path("work"), target.path("clone"));
        let (work_text, clone_text) = (work.display().to_string(), clone.display().to_string());
        let url = target.remote("/tmp/repository.git");
        let master = target.master(&[]).await;
        master.ssh(&["git init -q --bare -b main /tmp/repository.git"]).output().await.assert_success();
        target.git(&["init", "-q", "-b", "main", &work_text]).output().await.assert_success();
        std::fs::write(work.join("file"), noise(MIB)).unwrap();
        target.git(&["-C", &work_text, "add", "file"]).output().await.assert_success();
        target.git(&["-C", &work_text, "commit", "-qm", "one"]).output().await.assert_success();

        target.git_over(&master, &["-C", &work_text, "push", "-q", &url, "main"]).output().await.assert_success();
        target.git_over(&master, &["clone", "-q", &url, &clone_text]).output().await.assert_success();

        assert_eq!(sha256_of_file(&clone.join("file")), sha256_of_file(&work.join("file")));
        target.seen("git", "clone");
        target.seen("git", "push");
        master.close().await;
    }
);

on_both!(
    /// S3
    an_unknown_subsystem_is_refused,
    |target| {
        let output = target.ssh(&["nosuch"]).arg("-s").output().await;

        assert_ne!(output.code(), 0, "{}", output.report());
        assert!(output.stderr().contains("subsystem request failed"), "{}", output.report());
    }
);

async fn a_subsystem_gets_its_arguments(target: &Target) {
    let output = target.ssh(&["echo"]).arg("-s").output().await;

    output.assert_success().assert_stdout("one two\n");
}

/// S4
#[tokio::test]
async fn a_subsystem_runs_with_its_arguments() {
    let config = "subsystems: {echo: [/bin/echo, one, two], line: /bin/echo}";
    let server = TestServer::builder().docker_config(config).start().await;

    a_subsystem_gets_its_arguments(&server).await;
    let line = server.ssh(&["line"]).arg("-s").output().await;

    line.assert_success().assert_stdout("\n");
    server.stop().await;
}

/// S4
#[tokio::test]
async fn a_subsystem_runs_with_its_arguments_at_the_oracle() {
    let sshd = Sshd::start_with(&["Subsystem=echo /bin/echo one two"], Turn::shared().await).await;

    a_subsystem_gets_its_arguments(&sshd).await;
    sshd.stop().await;
}

/// S5
#[tokio::test]
async fn a_missing_sftp_server_is_a_clear_failure() {
    let server = TestServer::builder().image(TINY).start().await;

    let output = server.sftp().stdin("ls\n").output().await;

    assert_ne!(output.code(), 0, "{}", output.report());
    assert!(output.stderr().contains("sftp-server"), "{}", output.report());
    server.stop().await;
}
