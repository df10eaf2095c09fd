//! Many times of one thing, and what is told of them.

use std::time::Duration;

use serde::Serialize;

/// What is measured before the first sample counts.
pub(super) const WARM_UP: u32 = 32;

/// What is told of many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub samples: usize,
    /// Half of them are not longer, in nanoseconds.
    pub median_ns: u64,
    /// All but one in a hundred are not longer, in nanoseconds.
    pub p99_ns: u64,
}

impl Spread {
    /// Of `times`, in any order; none if there are none.
    #[must_use]
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let nanoseconds = |rank: usize| {
            let time = times.get(rank.min(times.len().checked_sub(1)?))?;
            Some(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        Some(Self {
            samples: times.len(),
            median_ns: nanoseconds(times.len() / 2)?,
            p99_ns: nanoseconds(times.len() * 99 / 100)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_long_ones_are_told() {
        let times = (1..=200).rev().map(Duration::from_nanos).collect();
        assert_eq!(Spread::of(times), Some(Spread { samples: 200, median_ns: 101, p99_ns: 199 }));
        let one = Spread::of(vec![Duration::from_nanos(7)]).unwrap();
        assert_eq!((one.median_ns, one.p99_ns), (7, 7));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
