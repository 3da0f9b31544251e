//! `e2e status`, also the end of `e2e up`: what runs, and how to reach it.

use std::fmt::Write;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::checkout::Checkout;
use crate::components::{self, hub};
use crate::existing::Existing;
use crate::extent::{self, Extent};
use crate::ports::Ports;
use crate::process::Record;
use crate::shell;

/// The table. Says where secrets are, never what they are.
pub fn table(checkout: &Checkout) -> Result<String> {
    let ports = Ports::load(checkout);
    let extent = Extent::of(checkout);
    let mut table = String::new();
    match (extent, extent::obstacle()) {
        (Some(Extent::ControlPlane), Some(obstacle)) => {
            writeln!(table, "extent: control-plane, since {obstacle}\n")?;
        }
        (Some(Extent::Existing), _) => {
            let Existing {
                context, server, ..
            } = Existing::load(checkout)?;
            writeln!(
                table,
                "extent: the cluster of context {context:?}, {server}\n"
            )?;
        }
        (Some(extent), _) => {
            let name = extent.to_possible_value();
            let name = name.context("an extent without a name")?;
            writeln!(table, "extent: {}\n", name.get_name())?;
        }
        (None, _) => writeln!(table, "nothing was started\n")?,
    }
    writeln!(
        table,
        "{:<24} {:<10} {:>8}  ports on {}",
        "component",
        "state",
        "pid",
        ports.host()
    )?;
    for component in extent.map(components::table).unwrap_or_default() {
        let record = Record::of(checkout, component.name()).filter(Record::is_alive);
        let has_no_port = || {
            component
                .ports()
                .iter()
                .all(|name| ports.get(name).is_err())
        };
        if record.is_none() && has_no_port() {
            // Nothing that runs, such as Python, or that nobody asked for, such as a further store.
            continue;
        }
        let (state, pid) = match record {
            Some(record) => ("running", record.pid.to_string()),
            None => ("stopped", "-".to_owned()),
        };
        let listed = component.ports().iter().filter_map(|name| {
            let port = ports.get(name).ok()?;
            let purpose = name.strip_prefix(component.name())?.trim_start_matches('-');
            Some(if purpose.is_empty() {
                port.to_string()
            } else {
                format!("{purpose} {port}")
            })
        });
        let listed = listed.collect::<Vec<_>>().join(", ");
        writeln!(
            table,
            "{:<24} {state:<10} {pid:>8}  {listed}",
            component.name()
        )?;
    }
    if let Ok(minio) = ports.address("minio") {
        writeln!(table)?;
        writeln!(
            table,
            "shell        . {}  gives it kubectl, helm and mc, which knows the store as `local`",
            shell::FILE
        )?;
        writeln!(
            table,
            "MinIO        http://{minio}, its keys in .run/minio/keys.json"
        )?;
        if extent != Some(Extent::Existing) {
            writeln!(table, "Python       .run/python/bin/python")?;
        }
        for health in [
            "controller-health",
            "serve-1-health",
            "serve-2-health",
            "agent-metrics",
        ] {
            if let Ok(address) = ports.address(health) {
                let name = health
                    .trim_end_matches("-health")
                    .trim_end_matches("-metrics");
                writeln!(table, "{name:<12} http://{address}/readyz, /metrics")?;
            }
        }
        if extent == Some(Extent::Node) {
            for hub in [hub::HUB, hub::OLD_HUB] {
                writeln!(
                    table,
                    "{:<12} http://{}, for any name by the password in .run/{}/keys.json",
                    hub.name,
                    ports.address(hub.proxy.public())?,
                    hub.name
                )?;
            }
        }
        writeln!(table, "logs         .run/logs/")?;
    }
    Ok(table)
}
