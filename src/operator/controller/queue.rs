//! What is reconciled next: who waits for it goes first.
//!
//! Three lanes, each first come, first served. An object is in a lane at most once, and is never
//! reconciled twice at a time. Pure: slots and order, no clock and no tasks.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Why an object is looked at, the most pressing first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// It is new, was edited, is being deleted, or somebody asked for a check: somebody waits.
    /// Covers the other two.
    Change,
    /// Something else changed that its status tells of; the store is not asked.
    News,
    /// It is to be compared with the world again. Covers the news.
    Check,
}

/// Slots that checks leave to the other lanes: an outage that makes every check slow, and every hub
/// due, leaves these for whoever edits one.
const KEPT_FROM_CHECKS: usize = 2;

/// Slots that the other lanes leave to checks: nothing keeps drift from being noticed.
const KEPT_FOR_CHECKS: usize = 1;

/// The queue of one kind.
#[derive(Debug)]
pub struct Queue<K> {
    slots: usize,
    changes: VecDeque<K>,
    news: VecDeque<K>,
    checks: VecDeque<K>,
    running: HashMap<K, Ask>,
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// An empty queue, from which so many objects at most are reconciled at once.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            changes: VecDeque::new(),
            news: VecDeque::new(),
            checks: VecDeque::new(),
            running: HashMap::new(),
        }
    }

    /// Asks for an object. One that waits for as much already keeps its place.
    pub fn add(&mut self, object: K, ask: Ask) {
        if self.changes.contains(&object) || self.lane(ask).contains(&object) {
            return;
        }
        if ask == Ask::Change {
            self.news.retain(|other| *other != object);
            self.checks.retain(|other| *other != object);
        }
        self.lane(ask).push_back(object);
    }

    /// Takes the object whose turn it is, if there is a slot for it; it runs until [`Self::ended`].
    pub fn next(&mut self) -> Option<(K, Ask)> {
        [Ask::Change, Ask::News, Ask::Check]
            .into_iter()
            .find_map(|ask| Some((self.take(ask)?, ask)))
    }

    /// The reconcile of an object has ended.
    pub fn ended(&mut self, object: &K) {
        self.running.remove(object);
    }

    fn take(&mut self, ask: Ask) -> Option<K> {
        if !self.has_slot(ask) {
            return None;
        }
        let idle = |object: &K| !self.running.contains_key(object);
        let lane = match ask {
            Ask::Change => &self.changes,
            Ask::News => &self.news,
            Ask::Check => &self.checks,
        };
        let at = lane.iter().position(idle)?;
        let object = self.lane(ask).remove(at)?;
        if ask == Ask::Check {
            self.news.retain(|other| *other != object);
        }
        self.running.insert(object.clone(), ask);
        Some(object)
    }

    fn has_slot(&self, ask: Ask) -> bool {
        let is_check = |ask: &Ask| *ask == Ask::Check;
        let checks = self.running.values().filter(|ask| is_check(ask)).count();
        let others = self.running.len() - checks;
        let (alike, kept) = match ask {
            Ask::Check => (checks, KEPT_FROM_CHECKS),
            Ask::Change | Ask::News => (others, KEPT_FOR_CHECKS),
        };
        self.running.len() < self.slots && alike + kept < self.slots
    }

    fn lane(&mut self, ask: Ask) -> &mut VecDeque<K> {
        match ask {
            Ask::Change => &mut self.changes,
            Ask::News => &mut self.news,
            Ask::Check => &mut self.checks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ask::{Change, Check, News};

    const SLOTS: usize = 8;

    fn queue(asked: impl IntoIterator<Item = (u32, Ask)>) -> Queue<u32> {
        let mut queue = Queue::new(SLOTS);
        for (object, ask) in asked {
            queue.add(object, ask);
        }
        queue
    }

    fn all_due() -> Queue<u32> {
        queue((0..500).map(|object| (object, Check)))
    }

    fn taken(queue: &mut Queue<u32>) -> Vec<(u32, Ask)> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn an_edited_object_starts_while_five_hundred_checks_are_due_and_none_ends() {
        let mut queue = all_due();
        let started = taken(&mut queue);
        assert_eq!(started.len(), SLOTS - KEPT_FROM_CHECKS);

        queue.add(499, Change);
        assert_eq!(queue.next(), Some((499, Change)));
        queue.add(1000, Change);
        assert_eq!(queue.next(), Some((1000, Change)));
    }

    #[test]
    fn edited_objects_take_every_slot_that_comes_free_before_a_check_does() {
        let mut queue = all_due();
        let started = taken(&mut queue);
        for object in 600..610 {
            queue.add(object, Change);
        }
        assert_eq!(taken(&mut queue), [(600, Change), (601, Change)]);
        queue.ended(&started[0].0);
        assert_eq!(taken(&mut queue), [(602, Change)]);
    }

    #[test]
    fn checks_go_on_while_many_objects_are_edited() {
        let mut queue = queue((0..100).map(|object| (object, Change)));
        queue.add(500, Check);
        queue.add(501, Check);
        let started = taken(&mut queue);
        assert_eq!(started.len(), SLOTS);
        assert_eq!(started.last(), Some(&(500, Check)));
    }

    #[test]
    fn news_go_before_checks_and_after_changes() {
        let mut queue = queue([(1, Check), (2, News), (3, Change)]);
        assert_eq!(taken(&mut queue), [(3, Change), (2, News), (1, Check)]);
    }

    #[test]
    fn within_a_lane_who_came_first_is_first() {
        let mut queue = queue([(3, Check), (1, Check), (2, Check), (1, Check)]);
        assert_eq!(taken(&mut queue), [(3, Check), (1, Check), (2, Check)]);
    }

    #[test]
    fn an_object_that_waits_for_a_check_and_is_edited_waits_once_and_in_front() {
        let mut queue = queue([(1, Check), (2, Check), (2, News), (2, Change)]);
        assert_eq!(taken(&mut queue), [(2, Change), (1, Check)]);
        queue.ended(&2);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn news_of_an_object_that_is_due_are_told_and_do_not_put_off_its_check() {
        let mut queue = queue([(1, Check), (1, News)]);
        assert_eq!(taken(&mut queue), [(1, News)]);
        queue.ended(&1);
        assert_eq!(taken(&mut queue), [(1, Check)]);
    }

    #[test]
    fn what_changes_while_it_runs_runs_again_and_never_twice_at_a_time() {
        let mut queue = queue([(1, Check)]);
        assert_eq!(queue.next(), Some((1, Check)));
        queue.add(1, Change);
        queue.add(1, Change);
        assert_eq!(queue.next(), None);
        queue.ended(&1);
        assert_eq!(taken(&mut queue), [(1, Change)]);
    }
}
