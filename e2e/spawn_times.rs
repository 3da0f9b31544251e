//! `e2e spawn-times`: how long a notebook server takes to be ready, with the operator and without.
//!
//! The two take turns, so that whatever else the machine does meets both. Without means: neither
//! webhook nor policies are registered, as if nothing had been installed. Servers have a home, as on
//! every hub: a kubelet takes some tenths of a second longer for a pod with a volume than for one
//! without any, and ours would be the only one.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use hubstorage_e2e::Platform;
use hubstorage_e2e::components::hub::HUB;
use hubstorage_e2e::components::installation::SYSTEM;
use hubstorage_e2e::components::release::helm;
use hubstorage_e2e::jupyterhub::{Hub, ServerOptions};
use serde_json::json;

const REGISTERED: &str =
    "mutatingwebhookconfiguration,validatingadmissionpolicybinding,validatingadmissionpolicy";
const OURS: &str = "--selector=app.kubernetes.io/part-of=hubstorage";

/// Whose servers are started.
const USER: &str = "measured";

/// Bounds a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a server so many times in each way, and prints the times in seconds.
pub async fn measure(platform: &Platform, rounds: usize) -> Result<()> {
    let hub = Hub::of(platform, &HUB)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    println!("{:>5} {:>8} {:>8}", "round", "with", "without");
    for round in 1..=rounds {
        with.push(ready_after(platform, &hub, true).await?);
        platform
            .kubectl_prints(&["delete", REGISTERED, OURS])
            .await?;
        let measured = ready_after(platform, &hub, false).await;
        register(platform).await?;
        without.push(measured?);
        println!(
            "{round:>5} {:>8.3} {:>8.3}",
            with[round - 1].as_secs_f64(),
            without[round - 1].as_secs_f64()
        );
    }
    for (name, pick) in [("min", 0), ("med", rounds / 2), ("max", rounds - 1)] {
        with.sort();
        without.sort();
        let (one, other) = (with[pick].as_secs_f64(), without[pick].as_secs_f64());
        println!("{name:>5} {one:>8.3} {other:>8.3}   {:+.3}", one - other);
    }
    Ok(())
}

/// Starts a server and stops it; it must have come out with its environment, or without.
async fn ready_after(platform: &Platform, hub: &Hub, with: bool) -> Result<Duration> {
    let home = ServerOptions::default()
        .with("volumes", json!([{"name": "home", "emptyDir": {}}]))
        .with(
            "volume_mounts",
            json!([{"name": "home", "mountPath": "/home/jovyan/work"}]),
        );
    // What was registered or removed just now still keeps the machine busy.
    hub.start(USER, &home).await?;
    hub.stop(USER).await?;
    let started = hub.start(USER, &home).await?;
    let names = "-o=jsonpath={.items[*].spec.containers[0].env[*].name}";
    let of_user = format!("--selector=hub.jupyter.org/username={USER}");
    let env = platform
        .kubectl_prints(&["get", "pods", "-n", HUB.namespace, &of_user, names])
        .await?;
    hub.stop(USER).await?;
    if env.contains("AWS_CONTAINER_CREDENTIALS_FULL_URI") != with {
        bail!(
            "a server {} the operator came out with these variables: {env}; the namespace {} needs a HubStorage that is Ready",
            if with { "with" } else { "without" },
            HUB.namespace
        );
    }
    Ok(started.took)
}

/// Registers everything again, and waits until the controller has told the API server whom to trust.
async fn register(platform: &Platform) -> Result<()> {
    let arguments = [
        "upgrade",
        "hubstorage",
        "charts/hubstorage",
        "-n",
        SYSTEM,
        "--reuse-values",
    ];
    helm(&platform.checkout, &arguments).await?;
    let trusts = async {
        let path = "-o=jsonpath={.webhooks[0].clientConfig.caBundle}";
        let ask = ["get", "mutatingwebhookconfiguration", "hubstorage", path];
        while platform.kubectl_prints(&ask).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // API servers follow what is registered; nothing tells when they have.
        tokio::time::sleep(Duration::from_secs(2)).await;
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, trusts)
        .await
        .context("the controller writes no caBundle")?
}
