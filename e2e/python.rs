//! Python code, run to its end with the environment that it is given and nothing else.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use tokio::process::Command;

use crate::commands::run_with_input;

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
}
