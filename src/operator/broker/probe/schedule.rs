//! When each bucket is probed. No client, no clock, no async.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hubstorage_core::api::{BucketVending, IsolationVerdict, StorageProvider};
use hubstorage_core::names::BucketName;
use jiff::{SignedDuration, Timestamp};

use super::Found;

/// How often a verdict is tried again, ± 10 %.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// How soon after a probe that could not be carried out; doubled each time, up to the second.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(5);
const RETRY_AT_MOST: SignedDuration = SignedDuration::from_secs(60);

/// How often it is looked which keys a provider vends with: for so long, at most, new keys are
/// vended with on the word that was found for the former ones.
const KEYS_EVERY: SignedDuration = SignedDuration::from_secs(30);

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
}

/// A probe to carry out now.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    pub(super) target: Target,
    pub(super) namespace: String,
    pub(super) hub: String,
    pub(super) provider: Arc<StorageProvider>,
    /// The keys are others than those that status tells of.
    pub(super) rotated: bool,
    known: Option<IsolationVerdict>,
}

/// When a bucket is probed next.
#[derive(Debug)]
struct Next {
    wanted: Wanted,
    at: Timestamp,
    failures: u32,
    runs: bool,
    rotated: bool,
}

/// The keys that a provider vends with.
#[derive(Debug, Default)]
struct Keys {
    version: Option<String>,
    look_at: Option<Timestamp>,
}

/// What is probed when, and what is being probed.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    next: HashMap<Target, Next>,
    keys: HashMap<String, Keys>,
}

impl Target {
    /// The verdict as it stands in status.
    pub(super) fn entry(&self, verdict: IsolationVerdict, message: String) -> BucketVending {
        BucketVending {
            name: self.name.clone(),
            bucket_name: self.bucket.to_string(),
            provider_uid: self.provider_uid.clone(),
            provider_generation: self.provider_generation,
            verdict,
            message,
        }
    }
}

impl Probe {
    /// Whether the probe writes under its own prefix: at the first one of its kind only.
    pub(super) fn writes(&self) -> bool {
        self.rotated || matches!(self.known, None | Some(IsolationVerdict::Unknown))
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
                    // interval, not all at once; missing ones now.
                    at: match wanted.known {
                        Some(IsolationVerdict::Isolated | IsolationVerdict::Leaks) => {
                            now + some_of(AGAIN_AFTER, 0.0, 1.0)
                        }
                        Some(IsolationVerdict::Unknown) | None => now,
                    },
                    failures: 0,
                    runs: false,
                    rotated: false,
                });
            next.wanted = wanted.clone();
        }
        let alive: HashSet<&Target> = wanted.iter().map(|wanted| &wanted.target).collect();
        self.next.retain(|target, _| alive.contains(target));
        let providers: HashSet<&str> = alive.iter().map(|t| t.provider_uid.as_str()).collect();
        self.keys
            .retain(|provider, _| providers.contains(provider.as_str()));
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
                let Wanted {
                    target,
                    namespace,
                    hub,
                    provider,
                    known,
                } = next.wanted.clone();
                Some(Probe {
                    target,
                    namespace,
                    hub,
                    provider,
                    rotated: std::mem::take(&mut next.rotated),
                    known,
                })
            })
            .collect()
    }

    /// The providers whose keys are to be looked at.
    pub(super) fn start_looks(&mut self, now: Timestamp) -> Vec<Arc<StorageProvider>> {
        let mut looks = Vec::new();
        for next in self.next.values() {
            let uid = &next.wanted.target.provider_uid;
            let keys = self.keys.entry(uid.clone()).or_default();
            if keys.look_at.is_none_or(|at| at <= now) {
                keys.look_at = Some(now + KEYS_EVERY);
                looks.push(next.wanted.provider.clone());
            }
        }
        looks
    }

    /// A task has ended.
    pub(super) fn ended(&mut self, found: Found, now: Timestamp) {
        match found {
            Found::Bucket { target, conclusive } => self.probed(&target, conclusive, now),
            Found::Keys {
                provider_uid,
                version: Some(version),
            } => self.keys_seen(&provider_uid, version, now),
            // What cannot be read has not changed.
            Found::Keys { version: None, .. } => {}
        }
    }

    fn probed(&mut self, target: &Target, conclusive: bool, now: Timestamp) {
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
            _ if next.rotated => SignedDuration::ZERO,
            0 => some_of(AGAIN_AFTER, 0.9, 1.1),
            failed => RETRY_AT_MOST.min(RETRY_AFTER * 2_i32.pow((failed - 1).min(10))),
        };
        next.at = now + pause;
    }

    /// The first keys that are seen are taken for those that were probed: which ones a former leader
    /// probed with is not known, and within the interval they are tried anyway.
    fn keys_seen(&mut self, provider_uid: &str, version: String, now: Timestamp) {
        let keys = self.keys.entry(provider_uid.to_owned()).or_default();
        let before = keys.version.replace(version);
        if before.is_none() || before == keys.version {
            return;
        }
        for next in self.next.values_mut() {
            if next.wanted.target.provider_uid == provider_uid {
                next.rotated = true;
                next.at = now;
            }
        }
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
    use super::*;
    use serde_json::json;

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
            },
            namespace: "earth".into(),
            hub: "earth".into(),
            provider: Arc::new(serde_json::from_value(object).unwrap()),
            known,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn started(schedule: &mut Schedule, now: Timestamp) -> Vec<(String, bool, bool)> {
        let due = schedule.start_due(now).into_iter();
        due.map(|probe| (probe.target.name.clone(), probe.writes(), probe.rotated))
            .collect()
    }

    fn ended(schedule: &mut Schedule, wanted: &Wanted, conclusive: bool, now: Timestamp) {
        let target = wanted.target.clone();
        schedule.ended(Found::Bucket { target, conclusive }, now);
    }

    fn keys(schedule: &mut Schedule, version: Option<&str>, now: Timestamp) {
        let version = version.map(str::to_owned);
        let provider_uid = "minio".to_owned();
        schedule.ended(
            Found::Keys {
                provider_uid,
                version,
            },
            now,
        );
    }

    const ISOLATED: Option<IsolationVerdict> = Some(IsolationVerdict::Isolated);

    #[test]
    fn a_bucket_without_verdict_is_probed_at_once_and_with_writes() {
        let mut schedule = Schedule::default();
        schedule.update(&[wanted("minio", "scratch", None)], at(0));
        let first = ("scratch".to_owned(), true, false);
        assert_eq!(started(&mut schedule, at(0)), [first]);
        assert_eq!(started(&mut schedule, at(1000)), [], "it runs");
    }

    #[test]
    fn a_verdict_is_tried_again_within_eleven_minutes_and_without_writes() {
        let mut schedule = Schedule::default();
        let scratch = wanted("minio", "scratch", ISOLATED);
        schedule.update(std::slice::from_ref(&scratch), at(0));
        let again = [("scratch".to_owned(), false, false)];
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

    #[test]
    fn other_keys_are_probed_at_once_as_if_for_the_first_time() {
        let mut schedule = Schedule::default();
        let scratch = wanted("minio", "scratch", ISOLATED);
        schedule.update(std::slice::from_ref(&scratch), at(0));
        started(&mut schedule, at(600));
        ended(&mut schedule, &scratch, true, at(600));
        for version in [Some("7"), Some("7"), None, Some("7")] {
            keys(&mut schedule, version, at(601));
            assert_eq!(started(&mut schedule, at(601)), [], "{version:?}");
        }

        keys(&mut schedule, Some("8"), at(602));

        let anew = ("scratch".to_owned(), true, true);
        assert_eq!(started(&mut schedule, at(602)), [anew]);
    }

    #[test]
    fn keys_that_change_during_a_probe_are_probed_after_it() {
        let mut schedule = Schedule::default();
        let scratch = wanted("minio", "scratch", None);
        schedule.update(std::slice::from_ref(&scratch), at(0));
        keys(&mut schedule, Some("7"), at(0));
        started(&mut schedule, at(0));

        keys(&mut schedule, Some("8"), at(1));
        ended(&mut schedule, &scratch, true, at(2));

        assert_eq!(started(&mut schedule, at(2)).len(), 1);
    }

    #[test]
    fn the_keys_of_each_provider_are_looked_at_twice_a_minute() {
        let mut schedule = Schedule::default();
        let both = [
            wanted("minio", "scratch", ISOLATED),
            wanted("minio", "persistent", ISOLATED),
        ];
        schedule.update(&both, at(0));
        assert_eq!(schedule.start_looks(at(0)).len(), 1);
        assert_eq!(schedule.start_looks(at(29)).len(), 0);
        assert_eq!(schedule.start_looks(at(30)).len(), 1);
    }

    #[test]
    fn a_bucket_that_is_wanted_no_longer_is_forgotten() {
        let mut schedule = Schedule::default();
        schedule.update(&[wanted("minio", "scratch", None)], at(0));
        schedule.update(&[], at(1));
        assert_eq!(started(&mut schedule, at(1)), []);
    }
}
