//! Helm with the chart of this checkout, as docs/install.md has it.

use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_e2e::Platform;
use hubstorage_e2e::components::release;

/// The release, and what it is made from.
pub const CHART: [&str; 2] = ["hubstorage", "charts/hubstorage"];

/// Runs a subcommand on one platform; what it prints, or why it failed. The namespace is the one
/// that the chart is for, unless `arguments` give another.
pub async fn helm(platform: &Platform, arguments: &[&[&str]]) -> Result<String, String> {
    let namespace = ["--namespace", SYSTEM_NAMESPACE];
    let mut all = arguments.concat();
    // The first is the subcommand; of options that are given twice, the last one counts.
    all.splice(1..1, namespace);
    let said = release::helm(&platform.checkout, &all).await;
    said.map_err(|error| error.to_string())
}
