//! The one clock, handed in so that tests move it; and another, by which time is measured that must
//! not stand still.

use std::ops::Add;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The clock of the machine.
pub fn system() -> Clock {
    Arc::new(Timestamp::now)
}

/// A moment, by a clock that nobody sets and that goes on while the machine is suspended. That of
/// [`std::time::Instant`] stands still meanwhile, on Linux: a leader would believe in its lease after the
/// machine has slept through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

/// Elsewhere the monotonic clock is all there is.
#[cfg(target_os = "linux")]
const GOES_ON: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const GOES_ON: ClockId = ClockId::Monotonic;

impl Moment {
    /// The present.
    pub fn now() -> Self {
        let since_boot = clock_gettime(GOES_ON);
        // It counts from the machine's start: it is never before zero.
        Self(since_boot.try_into().unwrap_or_default())
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0 + later)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_present_is_the_machines_uptime_suspension_included() {
        // /proc/uptime counts suspension too, proc_uptime(5), in hundredths that are cut off.
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds = text.split_whitespace().next().unwrap().parse().unwrap();
            Moment(Duration::from_secs_f64(seconds))
        };

        let before = uptime();
        let now = Moment::now();

        assert!(before <= now, "{before:?} is after {now:?}");
        assert!(now <= uptime() + Duration::from_millis(10), "{now:?}");
    }

    #[test]
    fn moments_are_ordered_by_what_is_added() {
        let now = Moment::now();

        assert!(now < now + Duration::from_nanos(1));
        assert_eq!(
            now + Duration::from_secs(1) + Duration::from_secs(2),
            now + Duration::from_secs(3)
        );
    }
}
