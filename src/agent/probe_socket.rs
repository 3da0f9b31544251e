//! Whether this very process is ready, on a Unix socket in its own pod.
//!
//! In the host network, a probe of an address may be answered by another agent: while one is replaced by
//! the next, both listen on the same addresses. A new version that does not work would then be taken for
//! ready, and rolled out to every node. A socket in a volume of the pod is its own.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// What a ready agent says; anything else is the reason why it is not.
const READY: &str = "ok\n";

/// For one side to hear from the other. The answer takes no waiting, so this is for a stopped process.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the agent of this pod.
#[derive(Clone, Debug, clap::Args)]
pub struct Probe {
    /// The --probe-socket of the agent.
    #[arg(long, env = "HUBSTORAGE_PROBE_SOCKET", value_name = "PATH")]
    socket: PathBuf,

    /// Ask only whether it answers, not whether it is ready.
    #[arg(long)]
    alive: bool,
}

/// Why a probe failed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// It said why.
    #[error("{0}")]
    NotReady(String),
    /// Nobody is there, or nobody answers.
    #[error("no answer at {socket}: {error}")]
    Silent {
        /// Where it was asked.
        socket: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
}

impl Probe {
    /// Asks once.
    ///
    /// # Errors
    /// An agent that does not answer within 3 s, or is not ready.
    pub fn run(&self) -> Result<(), ProbeError> {
        let answer = ask(&self.socket).map_err(|error| ProbeError::Silent {
            socket: self.socket.clone(),
            error,
        })?;
        if self.alive || answer == READY {
            return Ok(());
        }
        Err(ProbeError::NotReady(answer.trim_end().to_owned()))
    }
}

fn ask(socket: &Path) -> io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// Takes the socket. The volume outlives the container, so a socket of its predecessor may be there.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

/// Tells everybody who connects, until `stop`.
pub(crate) async fn serve(
    listener: UnixListener,
    readiness: Arc<Readiness>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => answer(stream, &readiness).await,
            Err(error) => {
                tracing::warn!(%error, "cannot accept probes");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, readiness: &Readiness) {
    let text = match readiness.check() {
        Ok(()) => READY.to_owned(),
        Err(reason) => format!("{reason}\n"),
    };
    // A probe that does not read its answer has given up.
    let _ = timeout(PATIENCE, stream.write_all(text.as_bytes())).await;
}
