//! Builds the first process of containers (`init/`) for each architecture that this machine can build for, as a static
//! binary, and puts it where `src/engine/init/binary.rs` takes it in.

#![expect(clippy::panic, reason = "it is how a build script fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Architectures as Rust has them: targets are tried in their order.
const ARCHITECTURES: [(&str, [&str; 2]); 2] = [
    ("x86_64", ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"]),
    ("aarch64", ["aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"]),
];

/// What of the outer build must not reach the inner one: flags and wrappers that are meant for another target.
const NOT_INHERITED: [&str; 8] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "RUSTC_BOOTSTRAP",
];

fn main() {
    for path in ["init/src", "init/Cargo.toml", "Cargo.lock", "build.rs"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    for (architecture, targets) in ARCHITECTURES {
        let binary = out.join(format!("coracle-init-{architecture}"));
        let built = targets.into_iter().find_map(|target| build(target, &out));
        let contents = match built {
            Some(path) => fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            None if architecture == variable("CARGO_CFG_TARGET_ARCH") => panic!(
                "the container's init cannot be built: install the target `{}`, or a static libc",
                targets[0]
            ),
            // Containers of this architecture are then served by the other launcher.
            None => Vec::new(),
        };
        fs::write(&binary, contents).unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The binary for a target; `None` when this machine cannot build for it.
fn build(target: &str, out: &Path) -> Option<PathBuf> {
    let is_musl = target.ends_with("musl");
    // A libc of our own comes with the compiler only for musl.
    if !is_installed(target) || !(is_musl || target == variable("HOST")) {
        return None;
    }
    let target_dir = out.join("init");
    let mut cargo = Command::new(variable("CARGO"));
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    if is_musl {
        // The compiler's own linker: there may be none for this target.
        let name = target.to_uppercase().replace('-', "_");
        cargo.env(format!("CARGO_TARGET_{name}_LINKER"), "rust-lld");
    }
    cargo.env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Crelocation-model=static");
    cargo.args(["build", "--quiet", "--locked", "--profile", "guest", "--package", "coracle-init"]);
    cargo.args(["--bin", "coracle-init", "--target", target, "--target-dir"]).arg(&target_dir);
    let status = cargo.current_dir(variable("CARGO_MANIFEST_DIR")).status();
    status.is_ok_and(|status| status.success()).then(|| target_dir.join(target).join("guest/coracle-init"))
}

/// Whether the compiler has the standard library of a target.
fn is_installed(target: &str) -> bool {
    let printed =
        Command::new(variable("RUSTC")).args(["--print", "target-libdir", "--target", target]).output();
    let folder = printed.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    folder.is_some_and(|folder| Path::new(folder.trim()).is_dir())
}
