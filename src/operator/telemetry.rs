//! Structured logs.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Starts logging to standard error: JSON lines, or words where `plain` is set.
///
/// The filter is `RUST_LOG`, by default everything of ours from `info` up, within what
/// [`may_be_told`].
pub fn start(plain: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("warn,hubstorage=info,hubstorage_core=info,hubstorage_cloud=info")
    });
    start_with(filter, plain, std::io::stderr);
}

/// [`start`], with another filter, to another place.
pub fn start_with<W>(filter: EnvFilter, plain: bool, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let logs = tracing_subscriber::fmt::layer().with_writer(writer);
    let logs = if plain {
        logs.with_target(false).boxed()
    } else {
        logs.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry()
        .with(logs)
        .with(filter)
        .with(may_be_told())
        .init();
}

/// Whatever the filter says: of libraries nothing finer than `info`. Below that they log requests
/// and answers, and those hold tokens and keys.
fn may_be_told() -> Targets {
    Targets::new()
        .with_target("hubstorage", LevelFilter::TRACE)
        .with_default(LevelFilter::INFO)
}
