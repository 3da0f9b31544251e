//! When each bucket is probed. No client, no clock, no async.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hubstorage_core::api::{
    BucketVending, IsolationVerdict, PolicyTrial, PolicyVerdict, Reason, StorageProvider,
};
use hubstorage_core::names::BucketName;
use hubstorage_core::policies::PolicyDocument;
use jiff::{SignedDuration, Timestamp};

use crate::broker::issuer::Issuer;

/// How often a verdict is tried again, ± 10 %.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How soon after a probe that could not be carried out; doubled each time, up to the second.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
const RETRY_AT_MOST: SignedDuration = SignedDuration::from_secs(60);

/// Buckets of one provider that are probed at the same time: one that hangs delays its own.
const AT_A_TIME: usize = 4;

/// One bucket to probe: another value is another verdict.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) hub_uid: String,
    /// Within the hub.
    pub(super) name: String,
    /// In the store.
    pub(super) bucket: BucketName,
    pub(super) provider_uid: String,
    pub(super) provider_generation: i64,
    /// With what its credentials are issued.
    pub(super) issuer: Issuer,
}

/// A bucket that something is vended from.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) target: Target,
    pub(super) namespace: String,
    pub(super) hub: String,
    pub(super) provider: Arc<StorageProvider>,
    /// What status says.
    pub(super) known: Option<IsolationVerdict>,
    /// The session policy that is tried along with it.
    pub(super) policy: Option<PolicyDocument>,
}

/// A probe to carry out now.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) target: Target,
    pub(super) namespace: String,
    pub(super) hub: String,
    pub(super) provider: Arc<StorageProvider>,
    /// The session policy to try along with it.
    pub(super) policy: Option<PolicyDocument>,
    known: Option<IsolationVerdict>,
}

/// When a bucket is probed next.
#[derive(Debug)]
struct Next {
    wanted: Wanted,
    at: Timestamp,
    /// The session policy that was tried along with the last probe.
    tried: Option<PolicyDocument>,
    failures: u32,
    runs: bool,
}

/// What is probed when, and what is being probed.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    next: HashMap<Target, Next>,
}

impl Target {
    /// The verdict as it stands in status.
    pub(super) fn entry(
        &self,
        verdict: IsolationVerdict,
        reason: Option<Reason>,
        message: String,
    ) -> BucketVending {
        BucketVending {
            name: self.name.clone(),
            bucket_name: self.bucket.to_string(),
            provider_uid: self.provider_uid.clone(),
            provider_generation: self.provider_generation,
            secret_version: self.issuer.secret_version.clone(),
            role_id: self.issuer.role_id().map(str::to_owned),
            verdict,
            reason: reason.map(|reason| reason.to_string()),
            message,
        }
    }
}

impl Probe {
    /// What the store said to a session policy, as it stands in status.
    pub(super) fn trial(
        &self,
        policy: &PolicyDocument,
        verdict: PolicyVerdict,
        message: String,
    ) -> PolicyTrial {
        PolicyTrial {
            fingerprint: policy.fingerprint(),
            provider_uid: self.target.provider_uid.clone(),
            provider_generation: self.target.provider_generation,
            verdict,
            message,
        }
    }

    /// Whether the probe writes under its own prefix: at the first one of its kind only.
    pub(super) fn writes(&self) -> bool {
        matches!(self.known, None | Some(IsolationVerdict::Unknown))
    }
}

impl Schedule {
    /// These buckets, and no others.
    pub(super) fn update(&mut self, wanted: &[Wanted], now: Timestamp) {
        for wanted in wanted {
            let next = self
                .next
                .entry(wanted.target.clone())
                .or_insert_with(|| Next {
                    wanted: wanted.clone(),
                    // Verdicts that a former leader left are tried again at some time within the
                    // interval, not all at once; missing ones now, and policies that nobody tried.
                    at: match wanted.known {
                        Some(IsolationVerdict::Isolated | IsolationVerdict::Leaks)
                            if wanted.policy.is_none() =>
                        {
                            now + some_of(AGAIN_AFTER, 0.0, 1.0)
                        }
                        _ => now,
                    },
                    tried: None,
                    failures: 0,
                    runs: false,
                });
            next.wanted = wanted.clone();
            let is_untried = wanted.policy.is_some() && wanted.policy != next.tried;
            if is_untried && !next.runs {
                next.at = next.at.min(now);
            }
        }
        let alive: HashSet<&Target> = wanted.iter().map(|wanted| &wanted.target).collect();
        self.next.retain(|target, _| alive.contains(target));
    }

    /// What is due, the longest due first, as far as its provider has room; it counts as running
    /// from here on.
    pub(super) fn start_due(&mut self, now: Timestamp) -> Vec<Probe> {
        let mut room: HashMap<String, usize> = HashMap::new();
        for target in self
            .next
            .values()
            .filter(|n| n.runs)
            .map(|n| &n.wanted.target)
        {
            *room.entry(target.provider_uid.clone()).or_default() += 1;
        }
        let mut due: Vec<&mut Next> = self
            .next
            .values_mut()
            .filter(|next| !next.runs && next.at <= now)
            .collect();
        due.sort_by_key(|next| next.at);
        due.into_iter()
            .filter_map(|next| {
                let running = room
                    .entry(next.wanted.target.provider_uid.clone())
                    .or_default();
                if *running >= AT_A_TIME {
                    return None;
                }
                *running += 1;
                next.runs = true;
                next.tried.clone_from(&next.wanted.policy);
                let Wanted {
                    target,
                    namespace,
                    hub,
                    provider,
                    known,
                    policy,
                } = next.wanted.clone();
                Some(Probe {
                    target,
                    namespace,
                    hub,
                    provider,
                    policy,
                    known,
                })
            })
            .collect()
    }

    /// A probe has ended.
    pub(super) fn ended(&mut self, target: &Target, conclusive: bool, now: Timestamp) {
        let Some(next) = self.next.get_mut(target) else {
            return;
        };
        next.runs = false;
        next.failures = if conclusive {
            0
        } else {
            next.failures.saturating_add(1)
        };
        let pause = match next.failures {
            0 => some_of(AGAIN_AFTER, 0.9, 1.1),
            failed => RETRY_AT_MOST.min(RETRY_AFTER * 2_i32.pow((failed - 1).min(10))),
        };
        next.at = now + pause;
    }

    /// How long nothing is due.
    pub(super) fn pause(&self, now: Timestamp) -> Duration {
        let waiting = self.next.values().filter(|next| !next.runs);
        let earliest = waiting.map(|next| next.at).filter(|at| *at > now).min();
        earliest.map_or(Duration::MAX, |at| {
            at.duration_since(now).try_into().unwrap_or(Duration::ZERO)
        })
    }
}

fn some_of(whole: SignedDuration, least: f64, most: f64) -> SignedDuration {
    whole.mul_f64(rand::random_range(least..=most))
}

#[cfg(test)]
mod tests {
    use hubstorage_core::policies::{Access, Place, Reach};
    use serde_json::json;

    use super::*;

    fn wanted(provider: &str, bucket: &str, known: Option<IsolationVerdict>) -> Wanted {
        let object = json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": provider, "uid": provider, "generation": 1},
            "spec": {"namespaces": {}, "bucketNames": ["*"]},
        });
        Wanted {
            target: Target {
                hub_uid: "hub-1".into(),
                name: bucket.into(),
                bucket: BucketName::parse(&format!("earth-{bucket}")).unwrap(),
                provider_uid: provider.into(),
                provider_generation: 1,
                issuer: Issuer::default(),
            },
            namespace: "earth".into(),
            hub: "earth".into(),
            provider: Arc::new(serde_json::from_value(object).unwrap()),
            known,
            policy: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn started(schedule: &mut Schedule, now: Timestamp) -> Vec<(String, bool)> {
        let due = schedule.start_due(now).into_iter();
        due.map(|probe| (probe.target.name.clone(), probe.writes()))
            .collect()
    }

    fn ended(schedule: &mut Schedule, wanted: &Wanted, conclusive: bool, now: Timestamp) {
        schedule.ended(&wanted.target, conclusive, now);
    }

    const ISOLATED: Option<IsolationVerdict> = Some(IsolationVerdict::Isolated);

    #[test]
    fn a_bucket_without_verdict_is_probed_at_once_and_with_writes() {
        let mut schedule = Schedule::default();
        schedule.update(&[wanted("minio", "scratch", None)], at(0));
        let first = ("scratch".to_owned(), true);
        assert_eq!(started(&mut schedule, at(0)), [first]);
        assert_eq!(started(&mut schedule, at(1000)), [], "it runs");
    }

    #[test]
    fn a_verdict_is_tried_again_within_eleven_minutes_and_without_writes() {
        let mut schedule = Schedule::default();
        let scratch = wanted("minio", "scratch", ISOLATED);
        schedule.update(std::slice::from_ref(&scratch), at(0));
        let again = [("scratch".to_owned(), false)];
        assert_eq!(started(&mut schedule, at(600)), again);
        ended(&mut schedule, &scratch, true, at(600));
        assert_eq!(started(&mut schedule, at(600 + 539)), []);
        assert_eq!(started(&mut schedule, at(600 + 661)), again);
    }

    #[test]
    fn a_provider_that_hangs_fills_its_own_room_and_no_others() {
        let mut schedule = Schedule::default();
        let names = ["a", "b", "c", "d", "e", "f"];
        let mut all = names.map(|name| wanted("hanging", name, None)).to_vec();
        schedule.update(&all, at(0));
        assert_eq!(started(&mut schedule, at(0)).len(), AT_A_TIME);
        assert_eq!(started(&mut schedule, at(50)).len(), 0);

        all.push(wanted("minio", "scratch", None));
        schedule.update(&all, at(60));
        assert_eq!(started(&mut schedule, at(60))[0].0, "scratch");
    }

    #[test]
    fn what_could_not_be_told_is_tried_soon_and_then_less_often() {
        let mut schedule = Schedule::default();
        let scratch = wanted("minio", "scratch", None);
        schedule.update(std::slice::from_ref(&scratch), at(0));
        let mut now = 0;
        for pause in [5, 10, 20, 40, 60, 60] {
            assert_eq!(started(&mut schedule, at(now)).len(), 1);
            ended(&mut schedule, &scratch, false, at(now));
            assert_eq!(schedule.pause(at(now)), Duration::from_secs(pause));
            now += i64::try_from(pause).unwrap();
        }
    }

    /// The same, and a session policy for this bucket is to be tried along with it.
    fn with_policy(wanted: &Wanted, of: &str) -> Wanted {
        let reach = Reach {
            bucket: BucketName::parse(of).unwrap(),
            place: Place::Whole,
            access: Access::ReadOnly,
        };
        Wanted {
            policy: Some(PolicyDocument::allowing(&[reach]).unwrap()),
            ..wanted.clone()
        }
    }

    #[test]
    fn a_policy_that_was_not_tried_is_due_at_once_and_once_only() {
        let mut schedule = Schedule::default();
        let scratch = wanted("minio", "scratch", ISOLATED);
        let with_one = with_policy(&scratch, "one");
        schedule.update(std::slice::from_ref(&with_one), at(0));
        let due = schedule.start_due(at(0));
        assert!(due[0].policy.is_some());
        ended(&mut schedule, &scratch, true, at(0));

        schedule.update(std::slice::from_ref(&with_one), at(1));
        assert!(schedule.start_due(at(1)).is_empty(), "the store refused it");

        schedule.update(std::slice::from_ref(&scratch), at(2));
        assert!(schedule.start_due(at(2)).is_empty(), "the store took it");
        let again = schedule.start_due(at(700));
        assert!(again[0].policy.is_none());
    }

    #[test]
    fn a_policy_that_came_up_during_a_probe_is_tried_as_soon_as_that_has_ended() {
        let mut schedule = Schedule::default();
        let scratch = wanted("minio", "scratch", ISOLATED);
        let (one, another) = (
            with_policy(&scratch, "one"),
            with_policy(&scratch, "another"),
        );
        schedule.update(std::slice::from_ref(&one), at(0));
        schedule.start_due(at(0));

        schedule.update(std::slice::from_ref(&another), at(1));
        assert!(schedule.start_due(at(1)).is_empty(), "it runs");
        ended(&mut schedule, &scratch, true, at(2));
        schedule.update(std::slice::from_ref(&another), at(2));

        let due = schedule.start_due(at(2));
        assert_eq!(due[0].policy, another.policy);
    }

    fn with_keys(mut wanted: Wanted, version: &str) -> Wanted {
        wanted.target.issuer.secret_version = Some(version.into());
        wanted
    }

    #[test]
    fn other_keys_are_probed_at_once_as_if_for_the_first_time() {
        let mut schedule = Schedule::default();
        let first = with_keys(wanted("minio", "scratch", ISOLATED), "7");
        schedule.update(std::slice::from_ref(&first), at(0));
        started(&mut schedule, at(600));
        ended(&mut schedule, &first, true, at(600));
        assert_eq!(started(&mut schedule, at(601)), []);

        let second = with_keys(wanted("minio", "scratch", None), "8");
        schedule.update(&[second], at(602));

        let anew = ("scratch".to_owned(), true);
        assert_eq!(started(&mut schedule, at(602)), [anew]);
    }

    #[test]
    fn what_was_found_with_former_keys_says_nothing_of_the_new_ones() {
        let mut schedule = Schedule::default();
        let first = with_keys(wanted("minio", "scratch", None), "7");
        let second = with_keys(wanted("minio", "scratch", None), "8");
        schedule.update(std::slice::from_ref(&first), at(0));
        started(&mut schedule, at(0));

        schedule.update(std::slice::from_ref(&second), at(1));
        assert_eq!(
            started(&mut schedule, at(1)).len(),
            1,
            "the former probe still runs"
        );
        ended(&mut schedule, &first, true, at(2));
        ended(&mut schedule, &second, false, at(2));

        assert_eq!(
            started(&mut schedule, at(7)).len(),
            1,
            "it was not told yet"
        );
    }

    #[test]
    fn a_bucket_that_is_wanted_no_longer_is_forgotten() {
        let mut schedule = Schedule::default();
        schedule.update(&[wanted("minio", "scratch", None)], at(0));
        schedule.update(&[], at(1));
        assert_eq!(started(&mut schedule, at(1)), []);
    }
}
