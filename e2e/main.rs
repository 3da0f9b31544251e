//! `e2e`: the local platform on the command line. The Makefile is its usual face.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use hubstorage_e2e::Extent;
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::components::kubernetes;
use hubstorage_e2e::forward::{Route, forward};
use hubstorage_e2e::prerequisites::Missing;
use hubstorage_e2e::{Platform, down, process, status, tiers, up};

mod bench;
mod demo;
mod page;
mod soak;
mod spawn_times;

/// The local platform: Kubernetes, MinIO, Python and the operator's processes on this machine.
#[derive(Parser)]
#[command(name = "e2e", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start what does not run; build what is not built
    Up {
        /// How much of it. If not said: with HUBSTORAGE_USE_KUBECONFIG=1 an existing cluster, else
        /// as much as this machine can do
        #[arg(long)]
        extent: Option<Extent>,
        /// Also the stores that only the contract suite needs
        #[arg(long)]
        further_stores: bool,
    },
    /// Stop everything that `up` started
    Down,
    /// What runs, and how to reach it
    Status,
    /// Stop one component
    Stop { component: String },
    /// Start one component again, as it was last built
    Start { component: String },
    /// kubectl with the platform's kubeconfig
    Kubectl {
        /// kubectl's own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The story of one hub, step by step; brings the platform up if needed
    Demo,
    /// How long servers take to be ready, with and without the operator, on a platform with a node
    SpawnTimes {
        #[arg(long, default_value = "10")]
        rounds: NonZeroUsize,
    },
    /// Memory, rates and times beside their budgets; brings the platform up if needed
    Bench(bench::Options),
    /// Tests with generated cases, again and again with other cases
    Soak(soak::Options),
    /// Every test, in tiers; brings the platform up if needed
    Test {
        /// Only these tiers
        #[arg(value_name = "TIER")]
        only: Vec<String>,
    },
    /// Be the node `paper` (a component of the platform)
    #[command(hide = true)]
    Node,
    /// Forward TCP connections to backends in turn (a component of the platform)
    #[command(hide = true)]
    Forward {
        /// LISTEN=BACKEND,BACKEND
        #[arg(long = "route", required = true)]
        routes: Vec<Route>,
    },
    /// Be the least of all admission webhooks (a part of the bench)
    #[command(hide = true)]
    Floor(bench::floor::Options),
    /// Record this process and become another program (how components are started)
    #[command(hide = true)]
    Become {
        #[arg(long)]
        name: String,
        #[arg(long)]
        fingerprint: String,
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Missing>() { 2 } else { 1 })
        }
    }
}

async fn run(command: Command) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    match command {
        Command::Up {
            extent,
            further_stores,
        } => {
            let extent = extent.map_or_else(Extent::usual, Ok)?;
            up::up(&checkout, extent).await?;
            if further_stores {
                up::further_stores(&checkout).await?;
            }
            print!("\n{}", status::table(&checkout)?);
        }
        Command::Down => down::down(&checkout).await?,
        Command::Status => print!("{}", status::table(&checkout)?),
        Command::Stop { component } => down::stop(&checkout, &component).await?,
        Command::Start { component } => up::start(&checkout, &component).await?,
        Command::Kubectl { arguments } => {
            use std::os::unix::process::CommandExt;
            let kubectl = checkout.run("bin/kubectl");
            if !kubectl.exists() {
                bail!("there is no kubectl in .run/bin yet; start the platform with `make up`");
            }
            return Err(std::process::Command::new(kubectl)
                .args(arguments)
                .exec()
                .into());
        }
        Command::Demo => {
            up::up(&checkout, Extent::usual()?).await?;
            demo::demo(&Platform::at(&checkout)).await?;
        }
        Command::SpawnTimes { rounds } => {
            spawn_times::measure(&Platform::load()?, rounds.get()).await?;
        }
        Command::Bench(options) => bench::run(&checkout, options).await?,
        Command::Soak(options) => soak::run(&checkout, options).await?,
        Command::Test { only } => return tiers::run(&checkout, &only).await,
        Command::Floor(options) => bench::floor::serve(options).await?,
        Command::Node => kubernetes::run_node().await?,
        Command::Forward { routes } => forward(routes).await?,
        Command::Become {
            name,
            fingerprint,
            command,
        } => {
            let (program, arguments) = command.split_first().unwrap_or((&name, &[]));
            let program = PathBuf::from(program);
            process::become_recorded(&checkout, &name, &fingerprint, &program, arguments)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
