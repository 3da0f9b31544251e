//! Python code, with the environment that it is given and nothing else: run to its end, or spoken to.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::commands::run_with_input;

/// Bounds a hang; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(180);

/// An interpreter, and what its code will see.
pub struct Python {
    command: Command,
}

/// Code that did not end well, and what it said to that: a traceback, as a rule.
#[derive(Debug)]
pub struct Raised(pub String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl Python {
    /// `interpreter`, say [`Platform::python`](crate::Platform::python), with an empty environment
    /// but for HOME: without that it would find the home of whoever runs it, and in it their cloud
    /// credentials.
    pub fn at(interpreter: &Path, home: &Path) -> Self {
        let mut command = Command::new(interpreter);
        command.env_clear().env("HOME", home).current_dir(home);
        Self { command }
    }

    /// Adds variables, HOME among them if it is there.
    pub fn with_env<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.command.envs(variables);
        self
    }

    /// Runs `code` with `arguments` in `sys.argv`; gives what it printed.
    ///
    /// # Errors
    /// [`Raised`] if it did not end well.
    pub async fn run(mut self, code: &str, arguments: &[&str]) -> Result<String> {
        self.command.args(["-c", code]).args(arguments);
        let output = run_with_input(self.command, b"").await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(Raised(text(&output.stderr)).into())
        }
    }

    /// Starts `code` with `arguments` in `sys.argv`: it answers each line with a line.
    pub fn start(mut self, code: &str, arguments: &[&str]) -> Result<Conversation> {
        self.command.args(["-c", code]).args(arguments);
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("could not start Python")?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        Ok(Conversation {
            child,
            stdin,
            answers: BufReader::new(stdout).lines(),
        })
    }
}

/// Code that runs until this is dropped, and is spoken to.
pub struct Conversation {
    child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Conversation {
    /// Says one line; gives the line that is answered.
    ///
    /// # Errors
    /// [`Raised`] if the code has ended.
    pub async fn ask(&mut self, line: &str) -> Result<String> {
        // Code that has ended does not listen; what it said to that is told below.
        let _ = self.stdin.write_all(format!("{line}\n").as_bytes()).await;
        let answer = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        match answer.with_context(|| format!("no answer to {line:?}"))?? {
            Some(answer) => Ok(answer),
            None => {
                let mut last_words = String::new();
                if let Some(stderr) = &mut self.child.stderr {
                    stderr.read_to_string(&mut last_words).await?;
                }
                Err(Raised(last_words.trim().to_owned()).into())
            }
        }
    }
}
