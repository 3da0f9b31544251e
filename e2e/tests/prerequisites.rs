//! What the check of the prerequisites says about a machine that lacks them.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Runs the check where the given programs stand before those of the machine and print one line.
fn check_with(programs: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for (program, says) in programs {
        let path = folder.path().join(program);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("prerequisites.sh");
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    Command::new("/bin/sh")
        .arg(script)
        .env("PATH", path)
        .output()
        .unwrap()
}

const GOOD: [(&str, &str); 5] = [
    ("cargo", "cargo 1.95.0"),
    ("rustc", "rustc 1.95.0 (59807616e 2026-04-14)"),
    ("go", "go1.26.8"),
    ("python3.11", "Python 3.11.7"),
    ("node", "v20.20.2"),
];

/// `GOOD`, with one program that says something else.
fn but(program: &str, says: &'static str) -> Vec<(&'static str, &'static str)> {
    let replace = |(name, good)| {
        if name == program {
            (name, says)
        } else {
            (name, good)
        }
    };
    GOOD.into_iter().map(replace).collect()
}

#[test]
fn a_machine_with_everything_is_told_nothing() {
    let output = check_with(&GOOD);

    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_tool_that_is_too_old_is_named_with_what_was_found_and_what_is_needed() {
    let output = check_with(&but("go", "go1.19.8"));

    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "Go: found 1.19.8; needed: 1.26 or later (https://go.dev/dl)\n"
    );
}

#[test]
fn versions_are_compared_as_numbers() {
    let newer = check_with(&but("node", "v100.0.0"));
    let older = check_with(&but("node", "v9.11.0"));

    assert!(newer.status.success());
    assert_eq!(older.status.code(), Some(2));
}

#[test]
fn a_tool_that_says_nothing_is_missing() {
    let output = check_with(&but("rustc", ""));

    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("Rust: not found; needed: 1.95"));
}
