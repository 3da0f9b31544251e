//! A second platform beside the one that tests share: an API server and a store, no operator.

use std::path::PathBuf;
use std::process::Stdio;

use hubstorage_core::api::SYSTEM_NAMESPACE;
use hubstorage_e2e::checkout::Checkout;
use hubstorage_e2e::{Platform, files};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// The harness.
const E2E: &str = env!("CARGO_BIN_EXE_e2e");

/// Runs until it is dropped.
pub struct Beside {
    /// What is running, and how to reach it.
    pub platform: Platform,
    /// The operator, as the shared platform runs it.
    program: PathBuf,
}

impl Beside {
    /// To the harness it is another checkout.
    pub async fn up(name: &str) -> Self {
        let shared = Platform::load().unwrap().checkout;
        let checkout = shared.beside(name).unwrap();
        // What is left of a run that was killed.
        e2e(&checkout, &["down"]);
        e2e(&checkout, &["up", "--extent=stores"]);
        Self {
            platform: Platform::at(&checkout),
            program: shared.run("bin/hubstorage"),
        }
    }

    /// Starts `hubstorage controller` as its service account.
    pub async fn controller(&self) -> Controller {
        let checkout = &self.platform.checkout;
        let create = [
            "create",
            "token",
            "hubstorage-controller",
            "-n",
            SYSTEM_NAMESPACE,
        ];
        let token = self.platform.kubectl(create).await.unwrap();
        assert!(
            token.status.success(),
            "{}",
            String::from_utf8_lossy(&token.stderr)
        );
        let admin = std::fs::read(checkout.run("kubeconfig")).unwrap();
        let mut config: Value = serde_yaml::from_slice(&admin).unwrap();
        config["users"][0]["user"] =
            json!({"token": String::from_utf8_lossy(&token.stdout).trim()});
        let path = checkout.run("controller.kubeconfig");
        files::write_private(&path, config.to_string()).unwrap();
        let log = std::fs::File::create(checkout.log("controller")).unwrap();
        let controller = Command::new(&self.program)
            .args(["controller", "--health-listen=127.0.0.1:0"])
            .env_clear()
            .env("KUBECONFIG", path)
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn();
        Controller(controller.unwrap())
    }
}

/// Runs until it is stopped, and no longer than the test.
pub struct Controller(Child);

impl Controller {
    /// Ends it as the kubelet would; it gives its lease back.
    pub async fn stop(mut self) {
        let pid = self.0.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.unwrap(), Signal::TERM).unwrap();
        assert!(self.0.wait().await.unwrap().success());
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        e2e(&self.platform.checkout, &["down"]);
    }
}

/// The harness in that checkout.
fn e2e(checkout: &Checkout, arguments: &[&str]) {
    let mut e2e = std::process::Command::new(E2E);
    let output = e2e.args(arguments).current_dir(checkout.root()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "e2e {arguments:?}: {said}");
}
