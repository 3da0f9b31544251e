//! The `hubstorage-agent` command.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hubstorage_agent::{AddAddress, Added, Agent, Config, Probe};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

/// Hands each pod the storage credentials of its user: answers the AWS SDKs' container-credentials
/// protocol on this node, and forwards to the HubStorage broker.
#[derive(Debug, Parser)]
#[command(
    name = "hubstorage-agent",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Command {
    #[command(subcommand)]
    errand: Option<Errand>,

    #[command(flatten)]
    config: Option<Config>,

    /// off, error, warn, info, debug or trace. Tokens and credentials are not logged at any level.
    #[arg(
        long,
        env = "HUBSTORAGE_LOG_LEVEL",
        value_name = "LEVEL",
        default_value = "info"
    )]
    log_level: LevelFilter,
}

/// What else the agent does than serve.
#[derive(Debug, Subcommand)]
enum Errand {
    /// Put the address that the SDKs ask on this node, unless it is there, and end. Needs CAP_NET_ADMIN
    AddAddress(AddAddress),
    /// Ask the agent of this pod whether it is ready; the exit code is the answer
    Probe(Probe),
}

fn main() -> ExitCode {
    let command = Command::parse();
    log_to_stderr(command.log_level);
    let done = match (command.errand, command.config) {
        (Some(Errand::AddAddress(errand)), _) => add_address(&errand),
        (Some(Errand::Probe(errand)), _) => return probe(&errand),
        (None, Some(config)) => serve(&config),
        (None, None) => {
            unreachable!("clap demands the broker's flags where there is no subcommand")
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn add_address(errand: &AddAddress) -> Outcome {
    let added = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(errand.run())?;
    match added {
        Added::Now => {
            tracing::info!(address = %errand.address, interface = errand.interface, "address added");
        }
        Added::Before(interface) => {
            tracing::info!(address = %errand.address, interface, "address is there already");
        }
    }
    Ok(())
}

/// In plain text: the kubelet puts it into the pod's events.
fn probe(errand: &Probe) -> ExitCode {
    match errand.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &Config) -> Outcome {
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
