//! The command line: picks a role and runs it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hubstorage::{api_client, audit, controller, manifests, metadata_trial, serve, telemetry};
use kube::Client;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

/// Storage for JupyterHubs: buckets that expire, and credentials that reach only their user's
/// own prefix.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Logs in words instead of JSON lines.
    #[arg(long, global = true, env = "HUBSTORAGE_PLAIN_LOGS")]
    plain_logs: bool,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Makes the store what HubStorage objects declare; one replica leads, others wait.
    Controller(controller::Options),
    /// Admission webhook and credential broker; every replica serves.
    Serve(Box<serve::Options>),
    /// Lists who could act as any user of a hub, by the rights that RBAC gives them.
    Audit(audit::Options),
    /// Prints everything that is installed into a cluster, as YAML for `kubectl apply`.
    Manifests(manifests::Options),
    /// Prints the CustomResourceDefinitions.
    Crds,
    /// Asks the cloud's metadata service for credentials, as the controller's trial pods do.
    #[command(name = metadata_trial::COMMAND, hide = true)]
    TryMetadataService(metadata_trial::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hubstorage: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.role {
        Role::Manifests(options) => print(&manifests::render(&options)?),
        Role::Crds => print(&manifests::render_crds()?),
        Role::TryMetadataService(options) => {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            print(&runtime.block_on(metadata_trial::run(&options))?)
        }
        Role::Audit(options) => {
            let runtime = Builder::new_current_thread();
            role(runtime, async |client, stop| {
                let audited = stop.run_until_cancelled(audit::run(&client, &options));
                match audited.await {
                    Some(audited) => report(&audited?),
                    None => Ok(()),
                }
            })
        }
        Role::Controller(options) => {
            telemetry::start(cli.plain_logs);
            // It waits for others nearly all of the time: threads would only hold memory.
            let runtime = Builder::new_current_thread();
            role(runtime, async |client, stop| {
                controller::run(client, options, stop).await
            })
        }
        Role::Serve(options) => {
            telemetry::start(cli.plain_logs);
            let mut runtime = Builder::new_multi_thread();
            runtime.worker_threads(2);
            role(runtime, async |client, stop| {
                serve::run(client, *options, stop).await
            })
        }
    }
}

/// Warnings go to standard error, so that a script reads what was found alone.
fn report(report: &audit::Report) -> anyhow::Result<()> {
    for warning in &report.warnings {
        eprintln!("hubstorage: {warning}");
    }
    print(&report.text)
}

/// Writes to standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn role(
    mut runtime: Builder,
    run: impl AsyncFnOnce(Client, CancellationToken) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a second rustls provider is already installed"))?;
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        let client = api_client::connect().await?;
        let stop = CancellationToken::new();
        tokio::spawn(cancel_on_signal(stop.clone()));
        run(client, stop).await
    })
}

async fn cancel_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        };
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
}
