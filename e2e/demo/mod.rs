//! `e2e demo`: the story of one hub, as a person would live it, told on the running platform.
//!
//! Every step shows what was typed and what came back, and checks that it did what it should;
//! the first that does not ends the demo with an error.

mod narration;
mod stage;

use std::time::Duration;

use anyhow::{Result, ensure};

use hubstorage_e2e::{Extent, Notebook, Platform};
use narration::Narrator;
use stage::{NAMESPACE, Stage};

/// Two writers of the same story: what alice does with her data, and what bob tries with it.
const WRITE: &str = include_str!("write.py");
const READ: &str = include_str!("read.py");
const ATTACK: &str = include_str!("attack.py");

/// What the webhook adds to the environment, and nothing else: the hub puts a token of its own there.
const INJECTED: &str = "-o=go-template={{range (index .spec.containers 0).env}}\
    {{if or (eq .name \"SCRATCH_BUCKET\" \"PANGEO_SCRATCH\" \"PERSISTENT_BUCKET\") (eq (printf \"%.4s\" .name) \"AWS_\")}}\
    {{.name}}={{.value}}{{\"\\n\"}}{{end}}{{end}}";

/// How long anything may take that the operator does by itself. Generous: it bounds a hang, it
/// measures nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells the story. Fails if a step did not do what it should.
pub async fn demo(platform: &Platform) -> Result<()> {
    let stage = Stage::new(platform);
    let mut tell = Narrator::new(platform);
    stage.clear().await?;
    stage.set().await?;
    if let Err(error) = story(&stage, &mut tell).await {
        // What it made stays, to be looked at; the next demo begins by clearing it away.
        tell.the_failure();
        return Err(error);
    }
    // Its bucket too, which the operator itself would keep.
    stage.clear().await?;
    tell.the_end();
    Ok(())
}

async fn story(stage: &Stage<'_>, tell: &mut Narrator<'_>) -> Result<()> {
    apply(stage, tell).await?;
    let bucket = stage.bucket("scratch").await?;
    lifecycle_rule(tell, &bucket).await?;
    let (alice, bob) = pods(stage, tell).await?;
    write_and_read(stage, tell, &alice, &bucket).await?;
    attack(tell, &bob, &bucket).await?;
    audit(stage, tell).await?;
    drift(stage, tell, &bucket).await?;
    retain(stage, tell, &bucket).await
}

async fn apply(stage: &Stage<'_>, tell: &mut Narrator<'_>) -> Result<()> {
    tell.chapter("A platform engineer declares the storage of a hub: two YAML files");
    if stage.extent() == Extent::ControlPlane {
        // Elsewhere it is there already: it is the hub's, or bears the mark of this checkout.
        tell.kubectl(&["create", "namespace", NAMESPACE]).await?;
    }
    let label = "hubstorage.io/tier=research";
    tell.kubectl(&["label", "namespace", NAMESPACE, label, "--overwrite"])
        .await?;
    tell.apply("minio-provider.yaml", &stage.provider()?)
        .await?;
    tell.apply("hub.yaml", &stage.hub()?).await?;
    let hub = "hs/earth";
    tell.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "hsp/minio",
    ])
    .await?;
    tell.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "--timeout=60s",
        "-n",
        NAMESPACE,
        hub,
    ])
    .await?;
    let table = tell.kubectl(&["get", "hsp,hs,hu", "-A"]).await?;
    ensure!(
        table.contains("2/2"),
        "the table does not show both buckets"
    );
    Ok(())
}

async fn lifecycle_rule(tell: &mut Narrator<'_>, bucket: &str) -> Result<()> {
    tell.chapter(
        "The bucket is there, and the store itself says that its data expires after 7 days",
    );
    let rules = tell
        .mc(&["ilm", "rule", "ls", &format!("local/{bucket}")])
        .await?;
    ensure!(
        rules.contains("hubstorage/expire"),
        "the store has no rule hubstorage/expire"
    );
    ensure!(rules.contains('7'), "the rule does not say 7 days");
    Ok(())
}

async fn pods(stage: &Stage<'_>, tell: &mut Narrator<'_>) -> Result<(Notebook, Notebook)> {
    tell.chapter(if stage.extent() == Extent::Node {
        "Two users log in: the hub starts their notebook servers, and the webhook adds what they need"
    } else {
        "Two users log in: the hub makes their pods, and the webhook adds what they need"
    });
    let alice = stage.notebook("alice").await?;
    let bob = stage.notebook("bob").await?;
    let shown = tell
        .kubectl(&["get", "pod", "-n", NAMESPACE, alice.pod(), INJECTED])
        .await?;
    for wanted in [
        "SCRATCH_BUCKET=s3://earth-scratch-",
        "/alice\n",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI=",
    ] {
        ensure!(shown.contains(wanted), "alice's pod has no {wanted}");
    }
    ensure!(
        !shown.contains("SECRET"),
        "there is a secret in the pod's environment"
    );
    stage.isolated(PATIENCE).await?;
    Ok((alice, bob))
}

async fn write_and_read(
    stage: &Stage<'_>,
    tell: &mut Narrator<'_>,
    alice: &Notebook,
    bucket: &str,
) -> Result<()> {
    tell.chapter("alice writes Zarr with the code of the user guide, and reads it back lazily");
    let written = tell.python("alice", alice, WRITE).await?;
    ensure!(
        written.contains("written"),
        "alice's code did not reach its end"
    );
    let read = tell.python("alice", alice, READ).await?;
    ensure!(read.contains("dask.array"), "what came back is not lazy");
    let keys = stage.keys(bucket).await?;
    ensure!(!keys.is_empty(), "there is nothing in the bucket");
    ensure!(
        keys.iter().all(|key| key.starts_with("alice/")),
        "there are keys outside alice/: {keys:?}"
    );
    Ok(())
}

async fn attack(tell: &mut Narrator<'_>, bob: &Notebook, bucket: &str) -> Result<()> {
    tell.chapter("bob tries to get at alice's data; the same calls on his own prefix succeed");
    let code = format!("BUCKET = {bucket:?}\n{ATTACK}");
    let report = tell.python("bob", bob, &code).await?;
    let count = |word| report.lines().filter(|line| line.contains(word)).count();
    ensure!(count("REACHED") == 0, "bob got through");
    ensure!(
        count("refused") == 7 && count("allowed") == 7,
        "not every call was tried on both sides"
    );
    Ok(())
}

async fn audit(stage: &Stage<'_>, tell: &mut Narrator<'_>) -> Result<()> {
    tell.chapter("The platform engineer audits: who is there, and what they reach");
    stage.users(2, PATIENCE).await?;
    let table = tell.kubectl(&["get", "hsp,hs,hu", "-A"]).await?;
    for user in ["alice", "bob"] {
        ensure!(table.contains(user), "the table does not show {user}");
    }
    Ok(())
}

async fn drift(stage: &Stage<'_>, tell: &mut Narrator<'_>, bucket: &str) -> Result<()> {
    tell.chapter("Somebody removes the rule by hand; the operator puts it back and says so");
    let path = format!("local/{bucket}");
    tell.mc(&["ilm", "rule", "rm", "--id", "hubstorage/expire", &path])
        .await?;
    stage.rule_is_back(bucket, PATIENCE).await?;
    let rules = tell.mc(&["ilm", "rule", "ls", &path]).await?;
    ensure!(rules.contains("hubstorage/expire"), "the rule is not back");
    stage.event("DriftCorrected", PATIENCE).await?;
    let only = "--field-selector=reason=DriftCorrected";
    let events = tell
        .kubectl(&["get", "events", "-n", NAMESPACE, only])
        .await?;
    ensure!(
        events.contains("no rule to expire objects after 7 days"),
        "the event does not say what was found"
    );
    Ok(())
}

async fn retain(stage: &Stage<'_>, tell: &mut Narrator<'_>, bucket: &str) -> Result<()> {
    tell.chapter("The HubStorage is deleted; the bucket and alice's data stay");
    tell.kubectl(&["delete", "-n", NAMESPACE, "hs/earth", "--timeout=60s"])
        .await?;
    tell.mc(&["ls", &format!("local/{bucket}/alice/")]).await?;
    let keys = stage.keys(bucket).await?;
    ensure!(!keys.is_empty(), "alice's data is gone");
    stage.event("BucketRetained", PATIENCE).await?;
    let only = "--field-selector=reason=BucketRetained";
    tell.kubectl(&["get", "events", "-n", NAMESPACE, only])
        .await
        .map(drop)
}
