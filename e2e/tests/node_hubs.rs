//! Both hubs start real servers in real pods, and what users type runs there, as themselves.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use hubstorage_e2e::Platform;
use hubstorage_e2e::components::hub::{self, HUB, OLD_HUB};
use hubstorage_e2e::jupyterhub::{Hub, ServerOptions};
use serde_json::json;

const WHO: &str = "import os\nprint(os.environ['JUPYTERHUB_USER'], os.getuid(), os.getcwd())";

fn open(hub: &hub::Hub) -> Hub {
    Hub::of(&Platform::load().unwrap(), hub).unwrap()
}

async fn runs_what_its_user_types(hub: &hub::Hub) {
    let hub = open(hub);
    let started = hub.start("jane", &ServerOptions::default()).await.unwrap();

    let ran = hub.run("jane", WHO).await.unwrap();
    let listed = hub.servers().await.unwrap();
    hub.stop("jane").await.unwrap();

    assert_eq!(ran.ok().unwrap(), "jane 1000 /home/jovyan\n");
    assert!(listed["jane"].ready);
    let messages: Vec<_> = started.events.iter().map(|event| &event.message).collect();
    assert!(
        messages
            .iter()
            .any(|message| message.contains("Container started")),
        "the hub passes on what the kubelet says: {messages:?}"
    );
    assert!(hub.server("jane").await.unwrap().is_none());
}

#[tokio::test]
async fn a_server_runs_what_its_user_types() {
    runs_what_its_user_types(&HUB).await;
}

#[tokio::test]
async fn a_server_of_the_old_hub_runs_what_its_user_types() {
    runs_what_its_user_types(&OLD_HUB).await;
}

#[tokio::test]
async fn names_of_every_kind_reach_their_own_server() {
    let hub = open(&HUB);
    let names = ["jo.smith@example.org", "zoë *?", "${x}'\"<>"];
    for name in names {
        hub.start(name, &ServerOptions::default()).await.unwrap();
    }

    for name in names {
        let code = "import os; print(os.environ['JUPYTERHUB_USER'], end='')";
        assert_eq!(hub.run(name, code).await.unwrap().ok().unwrap(), name);
        hub.stop(name).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_asked_for_one_server_does_not_hold_for_the_next() {
    let hub = open(&HUB);
    let asked = ServerOptions::default().with("environment", json!({"COLOUR": "green"}));
    let code = "import os; print(os.environ.get('COLOUR'), end='')";
    let mut colours = Vec::new();

    for options in [asked, ServerOptions::default()] {
        hub.start("ann", &options).await.unwrap();
        colours.push(hub.run("ann", code).await.unwrap().ok().unwrap());
        hub.stop("ann").await.unwrap();
    }

    assert_eq!(colours, ["green", "None"]);
}

#[tokio::test]
async fn a_server_that_cannot_start_is_an_error_with_what_the_hub_said() {
    let hub = open(&HUB);
    let options = ServerOptions::default()
        .with("image", "localhost/hubstorage/missing:none")
        .with("start_timeout", 10);

    let refused = hub.start("mallory", &options).await.unwrap_err();

    let said = refused.to_string();
    assert!(said.contains("\"mallory\" did not start"), "{said}");
    assert!(said.contains("localhost/hubstorage/missing:none"), "{said}");
}
