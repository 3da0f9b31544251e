//! The `hubstorage-agent` command.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use hubstorage_agent::{Agent, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Hands each pod the storage credentials of its user: answers the AWS SDKs' container-credentials
/// protocol on this node, and forwards to the HubStorage broker.
#[derive(Debug, Parser)]
#[command(name = "hubstorage-agent", version, max_term_width = 100)]
struct Command {
    #[command(flatten)]
    config: Config,

    /// off, error, warn, info, debug or trace. Tokens and credentials are not logged at any level.
    #[arg(
        long,
        env = "HUBSTORAGE_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    log_level: LevelFilter,
}

fn main() -> ExitCode {
    let command = Command::parse();
    log_to_stderr(command.log_level);
    match run(&command.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    // One thread serves far more than a node's pods ask for, and keeps the agent small. The blocking
    // threads only resolve the broker's name; a resolver that hangs must not breed hundreds of them.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build()?
        .block_on(async {
            let stop = CancellationToken::new();
            stop_on_signal(stop.clone())?;
            Agent::bind(config).await?.serve(stop).await;
            Ok(())
        })
}

fn stop_on_signal(stop: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping: requests in flight are finished");
        stop.cancel();
    });
    Ok(())
}

/// JSON lines. The level is for this program only: what the HTTP libraries trace may hold headers.
fn log_to_stderr(level: LevelFilter) {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(io::stderr);
    let ours = Targets::new()
        .with_target("hubstorage_agent", level)
        .with_default(level.min(LevelFilter::WARN));
    tracing_subscriber::registry().with(lines).with(ours).init();
}
