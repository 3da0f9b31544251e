//! Keeps the state of the guard, and of other policies, current.

use std::collections::HashMap;
use std::time::Duration;

use futures::{FutureExt as _, Stream, StreamExt as _};
use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::state::SETTLING;
use super::{Document, GuardKind, GuardState, Observed, judge};
use crate::informer::Informer;
use crate::pulse::{Cadence, Pulses};

/// Looks at the pulses within one patience.
const LOOKS: u32 = 12;

/// Follows sets of policies and bindings until `stop`, and judges each by itself. While nothing is known, and when a watch
/// has given no sign of life for too long, all are missing.
///
/// Needs list and watch on both kinds.
pub fn watch<const N: usize>(
    client: Client,
    sets: [Vec<Document>; N],
    stop: CancellationToken,
) -> [watch::Receiver<GuardState>; N] {
    watch_at(client, Cadence::default(), sets, stop)
}

/// [`watch`], at another cadence.
pub fn watch_at<const N: usize>(
    client: Client,
    cadence: Cadence,
    sets: [Vec<Document>; N],
    stop: CancellationToken,
) -> [watch::Receiver<GuardState>; N] {
    let unread = GuardState::Missing {
        why: "the admission policies have not been read yet".to_owned(),
    };
    let senders = [(); N].map(|()| watch::Sender::new(unread.clone()));
    let receivers = senders.each_ref().map(watch::Sender::subscribe);
    tokio::spawn(async move {
        let followed = follow(client, cadence, sets, senders);
        tokio::select! {
            () = stop.cancelled() => {}
            () = followed => {}
        }
    });
    receivers
}

async fn follow<const N: usize>(
    client: Client,
    cadence: Cadence,
    sets: [Vec<Document>; N],
    told: [watch::Sender<GuardState>; N],
) {
    let pulses = Pulses::default();
    let policies = events(&client, GuardKind::Policy, &cadence, &pulses);
    let bindings = events(&client, GuardKind::Binding, &cadence, &pulses);
    let mut changes = std::pin::pin!(futures::stream::select(policies, bindings));
    let mut look = tokio::time::interval(cadence.patience / LOOKS);
    let mut seen = Seen::new(sets);
    let mut settling = [(); N].map(|()| Settling::default());
    loop {
        let mut unread = None;
        tokio::select! {
            change = changes.next() => match change {
                Some((kind, Ok(event))) => seen.note(kind, event, Timestamp::now()),
                Some((kind, Err(error))) if !seen.is_complete() => {
                    let why = format!("the list of {} cannot be read: {error}", kind.plural());
                    unread = Some(GuardState::Missing { why });
                }
                // A change that was missed shows itself when the watch is back; until then, and
                // for as long as its pulse allows, what was read before stays true.
                Some((_, Err(_))) => {}
                None => return,
            },
            _ = look.tick() => {}
            () = any_over(&settling) => {}
        }
        for (set, (told, settling)) in told.iter().zip(&mut settling).enumerate() {
            let known = seen.state(set).map(|known| match pulses.check() {
                Err(why) => GuardState::Missing { why },
                Ok(()) => settling.state(known, Timestamp::now()),
            });
            if let Some(now) = unread.clone().or(known) {
                tell(seen.name_of(set), told, now);
            }
        }
    }
}

fn tell(policy: &str, told: &watch::Sender<GuardState>, now: GuardState) {
    told.send_if_modified(|before| {
        let changed = *before != now;
        if changed {
            tracing::info!(policy, state = ?now, "an admission policy, or the first of several");
            *before = now;
        }
        changed
    });
}

/// Ends when something that is held back is to be told; never, if nothing is.
async fn any_over(settling: &[Settling]) {
    let over = settling.iter().map(|settling| settling.over().boxed());
    futures::future::select_all(over).await;
}

fn events(
    client: &Client,
    kind: GuardKind,
    cadence: &Cadence,
    pulses: &Pulses,
) -> impl Stream<Item = (GuardKind, watcher::Result<Event<DynamicObject>>)> + Send + use<> {
    let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind.name());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    // No label selector: an object that lost its label would look like one that was deleted.
    Informer::of(client, &resource, cadence, pulses)
        .whole()
        .events()
        .map(move |event| (kind, event))
}

/// Holds a guard back that will be in force in a moment: a hub that is called ready before has users
/// whose first pods are older than the guard, and get no credentials until they are restarted.
#[derive(Debug, Default)]
struct Settling {
    /// The moment that is waited for, by the API server's clock, and until when, by ours.
    held: Option<(Timestamp, Instant)>,
    /// Whether it is held now.
    is_holding: bool,
}

impl Settling {
    /// The state to tell of. Nothing is held for longer than [`SETTLING`], however far apart the clocks
    /// are.
    fn state(&mut self, known: GuardState, now: Timestamp) -> GuardState {
        let GuardState::InForce { since } = known else {
            *self = Self::default();
            return known;
        };
        let left = since.duration_since(now).min(SETTLING);
        let until = match self.held {
            Some((held, until)) if held == since => until,
            _ => Instant::now() + Duration::try_from(left).unwrap_or_default(),
        };
        self.held = Some((since, until));
        self.is_holding = Instant::now() < until;
        match self.is_holding {
            true => GuardState::Missing {
                why: format!(
                    "the admission policies were changed just now, and are in force from {since} on"
                ),
            },
            false => known,
        }
    }

    /// Ends when what is held is to be told; never, if nothing is.
    async fn over(&self) {
        match self.held {
            Some((_, until)) if self.is_holding => sleep_until(until).await,
            _ => std::future::pending().await,
        }
    }
}

/// The objects of all sets as they were last seen.
struct Seen<const N: usize> {
    sets: [Vec<Document>; N],
    objects: HashMap<(GuardKind, String), Observed>,
    /// Objects of a list that is under way.
    relisted: HashMap<GuardKind, Vec<DynamicObject>>,
    listed: [bool; 2],
}

impl<const N: usize> Seen<N> {
    fn new(sets: [Vec<Document>; N]) -> Self {
        Self {
            sets,
            objects: HashMap::new(),
            relisted: HashMap::new(),
            listed: [false; 2],
        }
    }

    fn note(&mut self, kind: GuardKind, event: Event<DynamicObject>, now: Timestamp) {
        match event {
            Event::Init => drop(self.relisted.insert(kind, Vec::new())),
            Event::InitApply(object) => self.relisted.entry(kind).or_default().push(object),
            Event::InitDone => {
                let listed = self.relisted.remove(&kind).unwrap_or_default();
                let names: Vec<String> = listed.iter().map(ResourceExt::name_any).collect();
                self.objects
                    .retain(|(of, name), _| *of != kind || names.contains(name));
                listed
                    .into_iter()
                    .for_each(|object| self.put(kind, object, now));
                self.listed[kind as usize] = true;
            }
            Event::Apply(object) => self.put(kind, object, now),
            Event::Delete(object) => drop(self.objects.remove(&(kind, object.name_any()))),
        }
    }

    fn put(&mut self, kind: GuardKind, object: DynamicObject, now: Timestamp) {
        let key = (kind, object.name_any());
        let mut wanted = self.sets.iter().flatten();
        if !wanted.any(|document| document.kind == kind && document.name == key.1) {
            return;
        }
        let version = |object: &DynamicObject| (object.uid(), object.metadata.generation);
        let before = self
            .objects
            .get(&key)
            .filter(|before| version(&before.object) == version(&object));
        let first_seen = before.map_or(now, |before| before.first_seen);
        self.objects.insert(key, Observed { object, first_seen });
    }

    fn is_complete(&self) -> bool {
        self.listed == [true; 2]
    }

    /// The first policy of the set at that place.
    fn name_of(&self, set: usize) -> &'static str {
        let first = self.sets.get(set).and_then(|set| set.first());
        first.map_or("", |first| first.name)
    }

    /// Of the set at that place; `None` while a first list is under way.
    fn state(&self, set: usize) -> Option<GuardState> {
        let set = self.sets.get(set).filter(|_| self.is_complete())?;
        Some(judge(set, &self.objects))
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents;
    use super::*;
    use serde_json::json;

    fn object(document: &Document, generation: i64) -> DynamicObject {
        let mut object = document.object();
        object["metadata"]["uid"] = json!("u");
        object["metadata"]["generation"] = json!(generation);
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        serde_json::from_value(object).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        // 2026-06-01: after the objects' creation.
        Timestamp::from_second(1_780_272_000 + second).unwrap()
    }

    fn list(seen: &mut Seen<1>, kind: GuardKind, now: Timestamp) {
        seen.note(kind, Event::Init, now);
        for document in documents().iter().filter(|document| document.kind == kind) {
            seen.note(kind, Event::InitApply(object(document, 1)), now);
        }
        seen.note(kind, Event::InitDone, now);
    }

    fn both_listed() -> Seen<1> {
        let mut seen = Seen::new([documents()]);
        list(&mut seen, GuardKind::Policy, at(0));
        list(&mut seen, GuardKind::Binding, at(0));
        seen
    }

    #[test]
    fn nothing_is_known_before_both_kinds_were_listed() {
        let mut seen = Seen::new([documents()]);
        list(&mut seen, GuardKind::Policy, at(0));
        assert_eq!(seen.state(0), None);
    }

    #[test]
    fn a_complete_guard_is_in_force() {
        assert!(matches!(
            both_listed().state(0),
            Some(GuardState::InForce { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guard_that_will_be_in_force_in_a_moment_is_told_of_then() {
        let mut settling = Settling::default();
        let (soon, now) = (GuardState::InForce { since: at(4) }, at(0));
        let told = settling.state(soon.clone(), now);
        let GuardState::Missing { why } = told else {
            panic!("{told:?}");
        };
        assert!(why.contains(&at(4).to_string()), "{why}");

        let began = Instant::now();
        settling.over().await;
        assert_eq!(began.elapsed(), Duration::from_secs(4));
        assert_eq!(settling.state(soon.clone(), at(4)), soon);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_behind_holds_nothing_back_for_longer() {
        let mut settling = Settling::default();
        let (soon, now) = (GuardState::InForce { since: at(3600) }, at(0));
        assert_ne!(settling.state(soon.clone(), now), soon);
        settling.over().await;
        assert_eq!(settling.state(soon.clone(), at(5)), soon);
    }

    #[tokio::test]
    async fn a_guard_that_is_in_force_already_is_told_of_at_once() {
        let since = at(0);
        let told = Settling::default().state(GuardState::InForce { since }, at(1));
        assert_eq!(told, GuardState::InForce { since });
    }

    #[test]
    fn a_deleted_policy_is_missing_at_once() {
        let mut seen = both_listed();
        seen.note(
            GuardKind::Policy,
            Event::Delete(object(&documents()[0], 1)),
            at(1),
        );
        assert!(matches!(seen.state(0), Some(GuardState::Missing { .. })));
    }

    #[test]
    fn a_policy_that_a_relist_no_longer_has_is_missing() {
        let mut seen = both_listed();
        seen.note(GuardKind::Policy, Event::Init, at(1));
        seen.note(GuardKind::Policy, Event::InitDone, at(1));
        assert!(matches!(seen.state(0), Some(GuardState::Missing { .. })));
    }

    #[test]
    fn a_relist_that_is_under_way_changes_nothing_yet() {
        let mut seen = both_listed();
        seen.note(GuardKind::Policy, Event::Init, at(1));
        assert!(matches!(seen.state(0), Some(GuardState::InForce { .. })));
    }

    #[test]
    fn an_object_keeps_the_time_it_was_first_seen_until_its_generation_moves() {
        let mut seen = both_listed();
        let document = &documents()[0];
        let since = |seen: &Seen<1>| match seen.state(0) {
            Some(GuardState::InForce { since }) => since - super::super::SETTLING,
            other => panic!("{other:?}"),
        };
        seen.note(
            GuardKind::Policy,
            Event::Apply(object(document, 2)),
            at(100),
        );
        assert_eq!(since(&seen), at(100));
        seen.note(
            GuardKind::Policy,
            Event::Apply(object(document, 2)),
            at(200),
        );
        assert_eq!(since(&seen), at(100));
        seen.note(
            GuardKind::Policy,
            Event::Apply(object(document, 3)),
            at(300),
        );
        assert_eq!(since(&seen), at(300));
    }
}
