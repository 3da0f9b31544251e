//! Runs a reconciler: who is woken, in which order, how many at once, and when again.
//!
//! In place of kube-runtime's controller, whose objects that are due have no order
//! (docs/decisions/0012).

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt as _};
use hubstorage_core::api::{HubStorage, Mode, StorageProvider, check_request};
use kube::core::ObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::time::{DelayQueue, delay_queue};

use super::backoff::jittered;
use super::queue::{Ask, Queue};
use super::start::Start;

/// What nobody expected is tried again after this; failures that are expected end in a condition
/// and have pauses of their own.
const AFTER_AN_ERROR: Duration = Duration::from_secs(5);

/// When an object is looked at again although nothing wakes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requeue(Next);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    After(Duration),
    Never,
    AsBefore,
}

impl Requeue {
    /// After so long.
    pub fn after(after: Duration) -> Self {
        Self(Next::After(after))
    }

    /// Not before something wakes it.
    pub fn await_change() -> Self {
        Self(Next::Never)
    }

    /// When it was to be looked at anyway.
    pub fn as_before() -> Self {
        Self(Next::AsBefore)
    }
}

/// Objects that have an owner, who waits for the operator to see what they did.
pub trait Awaited {
    /// Whether the object is new, was edited, is being deleted, or is to be checked on demand, as far
    /// as its status tells.
    fn is_awaited(&self) -> bool;
}

impl Awaited for HubStorage {
    fn is_awaited(&self) -> bool {
        let status = self.status.as_ref();
        let answered = status.and_then(|status| status.last_handled_check_request.as_deref());
        let observed = status.map(|status| status.observed_generation);
        let is_looked_at = self.spec.mode != Mode::Paused;
        is_awaited(&self.metadata, observed) || is_looked_at && is_asked(&self.metadata, answered)
    }
}

impl Awaited for StorageProvider {
    fn is_awaited(&self) -> bool {
        let status = self.status.as_ref();
        let answered = status.and_then(|status| status.last_handled_check_request.as_deref());
        let observed = status.map(|status| status.observed_generation);
        is_awaited(&self.metadata, observed) || is_asked(&self.metadata, answered)
    }
}

fn is_awaited(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    metadata.deletion_timestamp.is_some() || observed != metadata.generation
}

/// Whether somebody asked for a check that was not answered yet.
fn is_asked(metadata: &ObjectMeta, answered: Option<&str>) -> bool {
    check_request(metadata).is_some_and(|asked| Some(asked) != answered)
}

/// What is woken, and why.
pub enum Wake<K: Resource<DynamicType = ()> + 'static> {
    /// One object.
    One(ObjectRef<K>, Ask),
    /// All there are.
    All(Ask),
}

/// The work of one reconciler.
pub struct Work<K: Resource<DynamicType = ()> + 'static, W> {
    /// The word for it in the log.
    pub kind: &'static str,
    /// Reconciles that run at once.
    pub slots: usize,
    /// The objects, as the watch has seen them.
    pub objects: Store<K>,
    /// What it begins with.
    pub start: Start<K>,
    /// What comes afterwards.
    pub wakes: W,
}

impl<K, W> Work<K, W>
where
    K: Resource<DynamicType = ()> + Awaited + Clone + 'static,
    W: Stream<Item = Wake<K>>,
{
    /// Reconciles until `stop`, and until what was begun before has ended.
    pub async fn run<F, E>(self, reconcile: impl Fn(Arc<K>, Ask) -> F, stop: CancellationToken)
    where
        F: Future<Output = Result<Requeue, E>>,
        E: Display,
    {
        let (kind, objects) = (self.kind, self.objects);
        let mut queue = Queue::new(self.slots);
        let mut timers = Timers::default();
        for (object, ask) in self.start.at_once {
            queue.add(object, ask);
        }
        for (object, after) in self.start.later {
            timers.set(object, after);
        }
        let mut wakes = std::pin::pin!(self.wakes);
        let mut running = FuturesUnordered::new();
        // Asked each time: of several that are ready, `select!` takes any.
        while !stop.is_cancelled() {
            while let Some((key, ask)) = queue.next() {
                // News leave the time of the next check as it is.
                if ask != Ask::News {
                    timers.clear(&key);
                }
                match objects.get(&key) {
                    Some(object) => {
                        let ended = reconcile(object.clone(), ask);
                        running.push(async move { (key, object, ended.await) });
                    }
                    None => {
                        timers.clear(&key);
                        queue.ended(&key);
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                Some((key, object, ended)) = running.next() => {
                    queue.ended(&key);
                    match ended.unwrap_or_else(|error| after_error(kind, object.as_ref(), &error)).0 {
                        Next::After(pause) => timers.set(key, pause),
                        Next::Never | Next::AsBefore => {}
                    }
                }
                wake = wakes.next() => match wake {
                    Some(Wake::One(key, ask)) => queue.add(key, ask),
                    Some(Wake::All(ask)) => {
                        for object in objects.state() {
                            queue.add(ObjectRef::from_obj(object.as_ref()), ask);
                        }
                    }
                    None => break,
                },
                Some(key) = timers.next() => {
                    let is_awaited = objects.get(&key).is_some_and(|object| object.is_awaited());
                    queue.add(key, if is_awaited { Ask::Change } else { Ask::Check });
                }
            }
        }
        while running.next().await.is_some() {}
    }
}

fn after_error<K: Resource>(kind: &str, object: &K, error: &impl Display) -> Requeue {
    tracing::warn!(kind, namespace = object.namespace(), name = object.name_any(), %error, "a reconcile failed");
    Requeue::after(jittered(AFTER_AN_ERROR))
}

/// When objects are due, at most once each.
struct Timers<K> {
    due: DelayQueue<K>,
    set: HashMap<K, delay_queue::Key>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self {
            due: DelayQueue::new(),
            set: HashMap::new(),
        }
    }
}

impl<K: Clone + Eq + Hash> Timers<K> {
    fn set(&mut self, object: K, after: Duration) {
        match self.set.get(&object) {
            Some(timer) => self.due.reset(timer, after),
            None => {
                let timer = self.due.insert(object.clone(), after);
                self.set.insert(object, timer);
            }
        }
    }

    fn clear(&mut self, object: &K) {
        if let Some(timer) = self.set.remove(object) {
            self.due.remove(&timer);
        }
    }

    /// The next one that is due, when it is; nothing, if there is none.
    async fn next(&mut self) -> Option<K> {
        let object = self.due.next().await?.into_inner();
        self.set.remove(&object);
        Some(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::mpsc;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use std::convert::Infallible;
    use std::future::{pending, ready};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    const SLOTS: usize = 8;
    const MINUTE: Duration = Duration::from_secs(60);

    fn key(number: usize) -> ObjectRef<HubStorage> {
        ObjectRef::new(&format!("hub-{number}")).within("earth")
    }

    /// What a watch has seen: hubs from 0 up to this number.
    fn hubs(number: usize) -> Store<HubStorage> {
        let (objects, mut writer) = reflector::store();
        for number in 0..number {
            let spec = json!({"providerRef": {"name": "store"}, "buckets": [{"name": "scratch"}]});
            let spec = serde_json::from_value(spec).unwrap();
            let mut hub = HubStorage::new(&key(number).name, spec);
            hub.metadata.namespace = Some("earth".to_owned());
            hub.metadata.generation = Some(1);
            hub.status = Some(serde_json::from_value(json!({"observedGeneration": 1})).unwrap());
            writer.apply_watcher_event(&Event::Apply(hub));
        }
        objects
    }

    type Begun = (String, Ask);

    /// A runner at work: what it began, in order, and how it is woken and stopped.
    struct Run {
        begun: UnboundedReceiver<Begun>,
        wakes: mpsc::UnboundedSender<Wake<HubStorage>>,
        stop: CancellationToken,
        ended: JoinHandle<()>,
    }

    impl Run {
        /// `reconcile` is given the number of its call.
        fn of<F, E>(
            objects: Store<HubStorage>,
            start: Start<HubStorage>,
            reconcile: impl Fn(usize, Ask) -> F + Send + Sync + 'static,
        ) -> Self
        where
            F: Future<Output = Result<Requeue, E>> + Send + 'static,
            E: Display + Send + 'static,
        {
            let (told, begun) = unbounded_channel();
            let (wakes, woken) = mpsc::unbounded();
            let stop = CancellationToken::new();
            let work = Work {
                kind: "HubStorage",
                slots: SLOTS,
                objects,
                start,
                wakes: woken,
            };
            let until = stop.clone();
            let ended = tokio::spawn(async move {
                let calls = std::sync::atomic::AtomicUsize::new(0);
                let reconcile = |hub: Arc<HubStorage>, ask| {
                    told.send((hub.name_any(), ask)).unwrap();
                    reconcile(
                        calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
                        ask,
                    )
                };
                work.run(reconcile, until).await;
            });
            Self {
                begun,
                wakes,
                stop,
                ended,
            }
        }

        fn wake(&self, number: usize, ask: Ask) {
            let wake = Wake::One(key(number), ask);
            self.wakes.unbounded_send(wake).unwrap();
        }

        async fn next(&mut self) -> Begun {
            self.begun.recv().await.unwrap()
        }
    }

    fn due(number: usize) -> Start<HubStorage> {
        Start {
            at_once: (0..number)
                .map(|number| (key(number), Ask::Check))
                .collect(),
            later: Vec::new(),
        }
    }

    fn later(after: Duration) -> Start<HubStorage> {
        Start {
            at_once: Vec::new(),
            later: vec![(key(0), after)],
        }
    }

    #[tokio::test]
    async fn an_edited_hub_is_reconciled_while_five_hundred_checks_are_due_and_none_ends() {
        let mut run = Run::of(hubs(500), due(500), |_, ask| async move {
            match ask {
                Ask::Check => pending().await,
                _ => Ok::<_, Infallible>(Requeue::await_change()),
            }
        });
        for _ in 0..6 {
            assert_eq!(run.next().await.1, Ask::Check);
        }

        run.wake(499, Ask::Change);
        assert_eq!(run.next().await, ("hub-499".to_owned(), Ask::Change));
        run.wake(498, Ask::News);
        assert_eq!(run.next().await, ("hub-498".to_owned(), Ask::News));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_later_is_checked_then_and_again_after_each_pause() {
        let began = Instant::now();
        let mut run = Run::of(hubs(1), later(MINUTE), |_, _| {
            ready(Ok::<_, Infallible>(Requeue::after(10 * MINUTE)))
        });
        for minutes in [1, 11, 21] {
            assert_eq!(run.next().await, ("hub-0".to_owned(), Ask::Check));
            assert_eq!(began.elapsed().as_secs() / 60, minutes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn news_do_not_put_the_check_off_and_a_change_takes_its_place() {
        let began = Instant::now();
        let mut run = Run::of(hubs(1), later(MINUTE), |_, ask| {
            let next = match ask {
                Ask::News => Requeue::as_before(),
                _ => Requeue::after(10 * MINUTE),
            };
            ready(Ok::<_, Infallible>(next))
        });
        run.wake(0, Ask::News);
        assert_eq!(run.next().await.1, Ask::News);
        assert_eq!(run.next().await.1, Ask::Check);
        assert_eq!(began.elapsed().as_secs(), 60);

        run.wake(0, Ask::Change);
        assert_eq!(run.next().await.1, Ask::Change);
        assert_eq!(run.next().await.1, Ask::Check);
        assert_eq!(began.elapsed().as_secs(), 60 + 600);
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_and_what_is_gone_is_forgotten() {
        let mut run = Run::of(hubs(1), due(2), |call, _| {
            ready(match call {
                0 => Err("the API server is away"),
                _ => Ok(Requeue::await_change()),
            })
        });
        for _ in 0..2 {
            assert_eq!(run.next().await.0, "hub-0");
        }
        let more = tokio::time::timeout(60 * MINUTE, run.next()).await;
        assert!(more.is_err(), "{more:?}");
    }

    #[tokio::test]
    async fn news_for_all_reach_every_hub() {
        let mut run = Run::of(hubs(20), due(0), |_, _| {
            ready(Ok::<_, Infallible>(Requeue::as_before()))
        });
        run.wakes.unbounded_send(Wake::All(Ask::News)).unwrap();
        let mut told = Vec::new();
        for _ in 0..20 {
            told.push(run.next().await.0);
        }
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 20);
    }

    #[tokio::test]
    async fn what_was_begun_before_the_stop_is_ended_and_nothing_is_begun_after_it() {
        let (finish, finished) = tokio::sync::watch::channel(false);
        let mut run = Run::of(hubs(20), due(20), move |_, _| {
            let mut finished = finished.clone();
            async move {
                _ = finished.wait_for(|finished| *finished).await;
                Ok::<_, Infallible>(Requeue::await_change())
            }
        });
        for _ in 0..6 {
            run.next().await;
        }
        run.stop.cancel();
        finish.send_replace(true);
        run.ended.await.unwrap();
        assert_eq!(run.begun.recv().await, None);
    }
}
