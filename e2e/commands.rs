//! Programs that the harness runs and waits for: compilers, `pip`, `mc`, `kubectl`.

use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::checkout::Checkout;
use crate::files;
use crate::progress::Step;

/// Runs a build: its output goes to a log, its last line to the step, and the end of the log into
/// the error when it fails. Dropping the future ends the build.
pub async fn run_logged(
    checkout: &Checkout,
    log_name: &str,
    step: &Step,
    mut command: Command,
) -> Result<()> {
    let log_path = checkout.log(log_name);
    let program = command.as_std().get_program().display().to_string();
    let mut log = tokio::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .await
        .with_context(|| format!("could not open {}", log_path.display()))?;
    // One pipe for both streams, so that the log has them in order.
    let (reader, writer) = std::io::pipe().context("a pipe for the output of a build")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .with_context(|| format!("could not start {program}"))?;
    // The command holds the write ends; the pipe only ends when they are gone.
    drop(command);

    let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?;
    let mut lines = BufReader::new(reader).split(b'\n');
    while let Some(line) = lines.next_segment().await? {
        let line = String::from_utf8_lossy(&line).into_owned();
        if !line.trim().is_empty() {
            // pip names all packages in one line.
            step.now(&line.trim().chars().take(80).collect::<String>());
        }
        log.write_all(format!("{line}\n").as_bytes()).await?;
    }
    log.flush().await?;
    let status = child.wait().await?;
    if !status.success() {
        bail!(
            "{program} ended with {status}; the end of {}:\n{}",
            checkout.display(&log_path),
            files::last_lines(&log_path, 25)
        );
    }
    Ok(())
}

/// Runs a command that is quick, with `input` on its standard input, and returns what it said.
pub async fn run_with_input(mut command: Command, input: &[u8]) -> Result<Output> {
    let program = command.as_std().get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("could not start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program may end without reading its input; its own error says more than ours.
        let _ = stdin.write_all(input).await;
    }
    Ok(child.wait_with_output().await?)
}

/// What a program printed, if it succeeded; what it said of its failure, if not. `what` names it.
pub fn printed(output: &Output, what: &str) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `cargo`, without the variables by which an outer cargo describes the crate it runs: build
/// scripts watch some of them, and would run again for nothing.
pub fn cargo() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let describes_a_crate = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
            || [
                "CARGO",
                "CARGO_CRATE_NAME",
                "CARGO_PRIMARY_PACKAGE",
                "OUT_DIR",
            ]
            .contains(&name);
        if describes_a_crate {
            command.env_remove(name);
        }
    }
    command
}
