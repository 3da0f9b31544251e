//! The chart of this checkout, and Helm with the admin's kubeconfig of a platform.

use std::path::PathBuf;
use std::process::Output;

use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_e2e::Platform;
use hubstorage_e2e::commands::run_with_input;
use tokio::process::Command;

/// Helm on one platform.
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
    chart: PathBuf,
}

impl Helm {
    /// Helm on `platform`.
    pub fn of(platform: &Platform) -> Self {
        let checkout = &platform.checkout;
        Self {
            program: checkout.run("bin/helm"),
            kubeconfig: checkout.run("kubeconfig"),
            home: checkout.run("helm"),
            chart: checkout.path("charts/hubstorage"),
        }
    }

    /// Runs a subcommand, with the chart behind whatever else there is. The namespace is the one
    /// that the chart is for, unless another is given.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, "").await
    }

    /// The same with something on its standard input.
    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut helm = Command::new(&self.program);
        helm.env("KUBECONFIG", &self.kubeconfig)
            .env("HELM_NAMESPACE", SYSTEM_NAMESPACE)
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .args(arguments);
        if !["rollback", "uninstall"].contains(&arguments[0]) {
            helm.arg(&self.chart);
        }
        run_with_input(helm, input.as_bytes()).await.unwrap()
    }

    /// The same, and returns what it printed; fails with what it says.
    pub async fn runs(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// What a program says about why it failed.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
