//! A leader that was stopped and goes on after another one leads. Alone in its binary: cargo runs
//! test binaries one after the other, so nothing else needs the controller that is stopped here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "control_plane/hub.rs"]
#[allow(dead_code, reason = "the other tests use more of it")]
mod hub;

use std::fs::File;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use hub::Hub;
use hubstorage_e2e::{Platform, giving_back};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Bounds a hang; nothing is measured with it. A lease lasts a minute.
const PATIENCE: Duration = Duration::from_secs(180);

/// A controller of this test, as the platform's own account.
struct Controller {
    identity: &'static str,
    process: Child,
}

impl Controller {
    fn start(platform: &Platform, identity: &'static str) -> Self {
        let checkout = &platform.checkout;
        let log = File::create(checkout.log(&format!("controller-{identity}"))).unwrap();
        let process = Command::new(checkout.run("bin/hubstorage"))
            .args(["controller", "--health-listen=127.0.0.1:0"])
            .arg(format!("--identity={identity}"))
            .env_clear()
            .env("KUBECONFIG", checkout.run("operator/controller.kubeconfig"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        Self {
            identity,
            process: process.unwrap(),
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn leads(&self, platform: &Platform) {
        let began = Instant::now();
        while lease(platform, "{.spec.holderIdentity}").await != self.identity {
            assert!(began.elapsed() < PATIENCE, "{} never led", self.identity);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn ends(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await;
        ended.unwrap().unwrap()
    }
}

async fn lease(platform: &Platform, path: &str) -> String {
    let output = platform
        .kubectl([
            "get",
            "lease",
            "-n",
            "hubstorage-system",
            "hubstorage-controller",
            "--ignore-not-found",
            &format!("-o=jsonpath={path}"),
        ])
        .await;
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[tokio::test]
async fn a_leader_that_was_stopped_past_its_lease_writes_nothing_more_and_exits() {
    let platform = Platform::load().unwrap();
    let handed_over = async {
        platform.stop("controller").await.unwrap();
        hand_over(&platform).await
    };

    let hub = giving_back(handed_over, async {
        let e2e = env!("CARGO_BIN_EXE_e2e");
        platform.start(e2e, "controller").await.unwrap();
    })
    .await;

    hub.remove().await;
}

async fn hand_over(platform: &Platform) -> Hub {
    let mut first = Controller::start(platform, "first");
    first.leads(platform).await;
    let hub = Hub::ready("handover").await;
    hub.pod("alice", "alice").await;
    let users = async || hub.get(&["hu", "-o=name"]).await;
    hub.until("the HubUser", async || !users().await.is_empty())
        .await;
    let mut second = Controller::start(platform, "second");

    first.signal(Signal::STOP);
    second.leads(platform).await;
    // Both stand still: whatever is written from here on, the first one wrote.
    second.signal(Signal::STOP);
    let bucket = hub.bucket().await;
    let rules = async || {
        let code = format!(
            "try: print(len(s3.get_bucket_lifecycle_configuration(Bucket='{bucket}')['Rules']))\n\
             except s3.exceptions.ClientError as error: print(error.response['Error']['Code'])"
        );
        hub.as_owner(&code).await
    };
    hub.as_owner(&format!("s3.delete_bucket_lifecycle(Bucket='{bucket}')"))
        .await;
    let alice = users().await;
    hub.kubectl(&["delete", "-n", &hub.namespace, alice.trim()])
        .await;
    let written = async || {
        let version = "-o=jsonpath={.metadata.resourceVersion}";
        [
            hub.get(&["hs", "hub", version]).await,
            hub.get(&["hsp", &hub.namespace, version]).await,
            lease(platform, "{.metadata.resourceVersion}").await,
            users().await,
        ]
    };
    let before = written().await;
    first.signal(Signal::CONT);
    let status = first.ends().await;

    assert_eq!(status.code(), Some(1), "it says that it did not end well");
    assert_eq!(written().await, before);
    assert_eq!(rules().await, "NoSuchLifecycleConfiguration");

    // Beside it: the one that may puts all of it right.
    second.signal(Signal::CONT);
    hub.until("the HubUser to be back", async || users().await == alice)
        .await;
    hub.until("the rules to be back", async || {
        rules().await.parse::<u32>().is_ok_and(|count| count > 0)
    })
    .await;
    // It gives its lease back: the platform's own controller need not wait for its end.
    second.signal(Signal::TERM);
    assert!(second.ends().await.success());
    hub
}
