//! Options in front of a key: who gets in at all (A2). What they take away is told where it is asked for.

use crate::harness::{Sshd, Target, TestServer};

/// Lines with `KEY` in place of the client's key, and whether they let it in from 127.0.0.1.
const LINES: [(&str, bool); 34] = [
    ("KEY", true),
    ("restrict KEY", true),
    ("restrict, KEY", true),
    ("restrict,,pty KEY", true),
    ("RESTRICT,No-Pty KEY", true),
    ("restrict,pty,no-touch-required,no-user-rc,no-verify-required KEY", true),
    (r#"tunnel="0",environment="A=1",permitopen="[::1]:80",permitlisten="80" KEY"#, true),
    (r#"tunnel="x" KEY"#, false),
    (r#"environment="A-B=1" KEY"#, false),
    (r#"permitopen="80" KEY"#, false),
    (r#"permitopen="host:0" KEY"#, false),
    (r#"permitlisten="host" KEY"#, false),
    ("restrict,sandbox KEY", false),
    ("no-restrict KEY", false),
    (r#"pty="yes" KEY"#, false),
    ("command=true KEY", false),
    (r#"command="true KEY"#, false),
    (r#"command="true",command="true" KEY"#, false),
    (r#"from="127.0.0.1" KEY"#, true),
    (r#"from="10.0.0.0/8,127.0.0.0/8" KEY"#, true),
    (r#"from="127.0.*" KEY"#, true),
    (r#"from="localhost,client.example.com" KEY"#, false),
    (r#"from="!127.0.0.1,*" KEY"#, false),
    (r#"from="127.0.0.0/8,!127.0.0.1" KEY"#, false),
    (r#"from="!10.0.0.1" KEY"#, false),
    (r#"from="127.0.0.1/8" KEY"#, false),
    (r#"from="127.0.0.1,," KEY"#, false),
    (r#"expiry-time="20990101" KEY"#, true),
    (r#"expiry-time="209901011230Z" KEY"#, true),
    (r#"expiry-time="20990101",expiry-time="20200101" KEY"#, false),
    (r#"expiry-time="soon" KEY"#, false),
    ("cert-authority KEY", false),
    (r#"principals="root" KEY"#, false),
    ("from=\"10.0.0.1\" KEY\nsandbox KEY\ncert-authority KEY\nKEY", true),
];

on_both!(
    /// A2
    a_line_with_options_lets_in_whom_it_should,
    |target| {
        let file = target.path("authorized_keys");
        let key = std::fs::read_to_string(&file).unwrap();
        let mut wrong = Vec::new();

        for (line, expected) in LINES {
            std::fs::write(&file, line.replace("KEY", key.trim()) + "\n").unwrap();
            let output = target.ssh(&["-n", "true"]).output().await;
            if (output.code() == 0) != expected {
                wrong.push(format!("{line}: {}", output.report()));
            }
        }

        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
);
