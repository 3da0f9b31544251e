//! What is said of many measurements in one number, and how sure that number is.

use std::fmt;
use std::time::Duration;

/// How sure an interval is to be, at least.
const CONFIDENCE: f64 = 0.95;

/// The smallest of `sorted` that is not exceeded by so large a `part` of them (nearest rank).
pub fn quantile<T: Copy + Default>(sorted: &[T], part: f64) -> T {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a slice that is in memory"
    )]
    let rank = (part * sorted.len() as f64).ceil() as usize;
    let index = rank.saturating_sub(1).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

/// A median, and where it would lie with other measurements of the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Median {
    /// Of what was measured.
    pub value: f64,
    /// The interval's ends, both of them measured values.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// How sure it is that the true median is in the interval.
    pub confidence: f64,
}

impl Median {
    /// Of measurements that do not depend on each other, however they are distributed: half of them
    /// lie below the true median, as half of all tosses of a coin are heads. So the interval is that
    /// between two measurements with equally many outside on both sides (the sign test's). Fewer than
    /// six are too few for the confidence that is wanted; then it is from the smallest to the largest.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (outside, confidence) = widest(sorted.len());
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        Self {
            value: f64::midpoint(at(last / 2), at(sorted.len() / 2)),
            low: at(outside),
            high: at(last - outside.min(last)),
            confidence,
        }
    }
}

/// With two decimals, as of a ratio.
impl fmt::Display for Median {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self {
            value, low, high, ..
        } = self;
        write!(f, "{value:.digits$} ({low:.digits$} to {high:.digits$}")?;
        if self.confidence < CONFIDENCE {
            write!(f, ", {:.0} % sure", 100.0 * self.confidence)?;
        }
        f.write_str(")")
    }
}

/// How many of `count` measurements may be outside on each side, and how sure that interval is.
#[allow(
    clippy::cast_precision_loss,
    reason = "counts of measurements are small"
)]
fn widest(count: usize) -> (usize, f64) {
    // Of C(count, k) / 2^count, in logarithms: the power is beyond what a float holds.
    let mut logarithm = -(count as f64) * std::f64::consts::LN_2;
    let mut below = logarithm.exp();
    let mut found = (0, (1.0 - 2.0 * below).max(0.0));
    for k in 1..count / 2 {
        logarithm += ((count - k + 1) as f64 / k as f64).ln();
        below += logarithm.exp();
        let confidence = 1.0 - 2.0 * below;
        if confidence < CONFIDENCE {
            break;
        }
        found = (k, confidence);
    }
    found
}

/// In milliseconds, with two decimals.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", 1000.0 * time.as_secs_f64())
}

/// So many of something in a second, when there were `count` of them in that time.
#[allow(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^52"
)]
pub fn rate(count: usize, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

/// Rounded, with thousands set apart: `12,345`.
pub fn whole(number: f64) -> String {
    set_apart(&format!("{number:.0}"))
}

/// The same of a count.
pub fn thousands(count: usize) -> String {
    set_apart(&count.to_string())
}

fn set_apart(digits: &str) -> String {
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_measured_value() {
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!(quantile(&sorted, 0.5), 100);
        assert_eq!(quantile(&sorted, 0.99), 198);
        assert_eq!(quantile(&sorted, 1.0), 200);
        assert_eq!(quantile(&[7], 0.99), 7);
        assert_eq!(quantile::<u32>(&[], 0.99), 0);
    }

    /// The ranks and confidences stand in tables of the sign test, say for 15: 4th to 12th, 96.5 %.
    #[test]
    fn the_interval_of_a_median_is_that_of_the_sign_test() {
        let of = |count: u32| Median::of(&(1..=count).map(f64::from).collect::<Vec<_>>());

        let fifteen = of(15);
        assert_eq!((fifteen.value, fifteen.low, fifteen.high), (8.0, 4.0, 12.0));
        assert!((fifteen.confidence - 0.9648).abs() < 0.0001);
        let six = of(6);
        assert_eq!((six.value, six.low, six.high), (3.5, 1.0, 6.0));
        assert!((six.confidence - 0.96875).abs() < 0.00001);
        let thousands = of(2000);
        assert_eq!((thousands.low, thousands.high), (956.0, 1045.0));
    }

    #[test]
    fn too_few_measurements_say_how_sure_they_are() {
        let three = Median::of(&[0.9, 1.1, 1.0]);
        assert_eq!(three.to_string(), "1.00 (0.90 to 1.10, 75 % sure)");
        let six = Median::of(&[1.0; 6]);
        assert_eq!(six.to_string(), "1.00 (1.00 to 1.00)");
        assert_eq!(Median::of(&[2.0]).value, 2.0);
    }

    #[test]
    fn the_order_of_measurements_does_not_matter() {
        let forwards: Vec<f64> = (1..=20).map(f64::from).collect();
        let mut backwards = forwards.clone();
        backwards.reverse();
        assert_eq!(Median::of(&forwards), Median::of(&backwards));
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(whole(7.4), "7");
        assert_eq!(whole(1_234.0), "1,234");
        assert_eq!(whole(999.6), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert!((rate(500, Duration::from_millis(250)) - 2000.0).abs() < 1e-9);
    }
}
