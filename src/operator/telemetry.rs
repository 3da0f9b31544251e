//! Structured logs.

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error: JSON lines, or words where `plain` is set.
///
/// The filter is `RUST_LOG`, by default everything of ours from `info` up. Libraries log
/// requests with their headers at `debug` and below, so that level is never the default of
/// theirs: a header may be a token.
pub fn start(plain: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        EnvFilter::new("warn,hubstorage=info,hubstorage_core=info,hubstorage_cloud=info")
    });
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if plain {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).init();
    }
}
