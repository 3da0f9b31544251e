//! Pods created by many at once, with each kind of webhook in turn, so that whatever else the machine
//! does meets all of them.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::{StreamExt as _, stream};
use hubstorage_e2e::progress::Step;
use hubstorage_e2e::wait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::Value;

use super::super::Bench;
use super::super::load::user_pod;
use super::super::statistics::{Median, rate};
use super::super::traffic::Outcome;
use super::{ALL, Options, PATIENCE, Webhook};

/// What was measured.
pub struct Rounds(Vec<[Outcome; ALL.len()]>);

/// Creates pods in all rounds, after one that does not count.
pub async fn measure(bench: &Bench, options: Options) -> Result<Rounds> {
    let pods: Vec<Value> = (0..options.pods)
        .map(|number| user_pod(&format!("user-{number}")))
        .collect();
    let step = bench.progress.step("rounds", "");
    let mut rounds = Vec::new();
    for round in 0..=options.rounds {
        step.now(&format!("{round} of {}", options.rounds));
        let mut outcomes = [const { None }; ALL.len()];
        for place in in_turn(round) {
            let outcome = create(&bench.client, &step, ALL[place], &pods, options.at_once).await?;
            outcomes[place] = Some(outcome);
        }
        rounds.push(outcomes.map(Option::unwrap_or_default));
    }
    step.done(&format!("{} rounds", options.rounds));
    rounds.remove(0);
    Ok(Rounds(rounds))
}

/// Places in [`ALL`]; each comes first, second and last equally often.
fn in_turn(round: usize) -> impl Iterator<Item = usize> {
    (0..ALL.len()).map(move |place| (place + round) % ALL.len())
}

/// Creates the pods and deletes them; only the former is measured.
async fn create(
    client: &Client,
    step: &Step,
    webhook: Webhook,
    pods: &[Value],
    at_once: usize,
) -> Result<Outcome> {
    let usual = PostParams::default();
    let begin = Instant::now();
    let mut outcome = Outcome::default();
    let mut created = stream::iter(pods)
        .map(|pod| async {
            let begin = Instant::now();
            let came_out = webhook.create(client, pod, &usual).await;
            (came_out, begin.elapsed())
        })
        .buffer_unordered(at_once);
    while let Some((came_out, took)) = created.next().await {
        match came_out {
            Ok(true) => outcome.latencies.push(took),
            Ok(false) => {
                *outcome
                    .failed
                    .entry("came out otherwise".to_owned())
                    .or_default() += 1
            }
            Err(error) => *outcome.failed.entry(format!("{error:#}")).or_default() += 1,
        }
    }
    outcome.took = begin.elapsed();
    outcome.latencies.sort_unstable();
    drop(created);

    let namespaced: Api<Pod> = Api::namespaced(client.clone(), &webhook.namespace());
    let at_once = DeleteParams::default().grace_period(0);
    namespaced
        .delete_collection(&at_once, &ListParams::default())
        .await
        .context("deleting the pods of a round")?;
    wait::until("the pods of a round to be gone", PATIENCE, async || {
        let left = namespaced
            .list_metadata(&ListParams::default())
            .await?
            .items;
        if !left.is_empty() {
            step.now(&format!("{} pods are left", left.len()));
        }
        Ok(left.is_empty())
    })
    .await?;
    Ok(outcome)
}

impl Rounds {
    /// Everything with one webhook, in all rounds.
    pub fn of(&self, webhook: Webhook) -> Outcome {
        let mut all = Outcome::default();
        for round in &self.0 {
            all.merge(&round[webhook as usize]);
        }
        all.latencies.sort_unstable();
        all
    }

    /// Pods created in a second, median of all rounds.
    pub fn rates(&self, webhook: Webhook) -> f64 {
        let rates: Vec<f64> = self
            .0
            .iter()
            .map(|round| rate_of(&round[webhook as usize]))
            .collect();
        Median::of(&rates).value
    }

    /// What one rate is of the other in the same round.
    pub fn ratio(&self, one: Webhook, other: Webhook) -> Median {
        let ratio = |round: &[Outcome; ALL.len()]| {
            rate_of(&round[one as usize]) / rate_of(&round[other as usize])
        };
        Median::of(&self.0.iter().map(ratio).collect::<Vec<_>>())
    }

    /// What failed or came out otherwise, of all.
    pub fn wrong(&self) -> String {
        let mut all = Outcome::default();
        for outcome in self.0.iter().flatten() {
            all.merge(outcome);
        }
        all.failures()
    }
}

fn rate_of(outcome: &Outcome) -> f64 {
    rate(outcome.latencies.len(), outcome.took)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn took(seconds: [u64; 3]) -> [Outcome; 3] {
        seconds.map(|seconds| Outcome {
            took: Duration::from_secs(seconds),
            latencies: vec![Duration::from_millis(5); 12],
            ..Outcome::default()
        })
    }

    #[test]
    fn each_webhook_has_every_turn_equally_often() {
        let rounds: Vec<Vec<usize>> = (0..3).map(|round| in_turn(round).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }

    #[test]
    fn rates_are_compared_within_a_round() {
        // The machine was twice as slow in the second round, for all of them.
        let rounds = Rounds(vec![took([3, 3, 2]), took([6, 6, 4]), took([4, 3, 2])]);
        assert!((rounds.rates(Webhook::Ours) - 3.0).abs() < 1e-9);
        assert_eq!(rounds.ratio(Webhook::Ours, Webhook::Floor).value, 1.0);
        assert_eq!(rounds.of(Webhook::None).latencies.len(), 36);
        assert_eq!(rounds.wrong(), "0");
    }
}
