//! A limit on messages that a guest can cause: it must not fill the host's log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PER_INTERVAL: u32 = 10;
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct State {
    since: Option<Instant>,
    used: u32,
    suppressed: u64,
}

/// Lets 10 messages through in 5 seconds.
#[derive(Debug)]
pub struct RateLimit(Mutex<State>);

impl RateLimit {
    /// A limit of which nothing is used.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State { since: None, used: 0, suppressed: 0 }))
    }

    /// Whether one more message may be written: the number of those that were held back since the last one, or `None`.
    pub fn allow(&self) -> Option<u64> {
        self.allow_at(Instant::now())
    }

    fn allow_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.is_none_or(|since| now.duration_since(since) >= INTERVAL) {
            state.since = Some(now);
            state.used = 0;
        }
        if state.used == PER_INTERVAL {
            state.suppressed += 1;
            return None;
        }
        state.used += 1;
        Some(std::mem::take(&mut state.suppressed))
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eleventh_message_waits_for_the_next_interval() {
        let limit = RateLimit::new();
        let start = Instant::now();
        assert!((0..10).all(|_| limit.allow_at(start) == Some(0)));
        assert_eq!(limit.allow_at(start), None);
        assert_eq!(limit.allow_at(start + Duration::from_secs(4)), None);
        assert_eq!(limit.allow_at(start + INTERVAL), Some(2));
    }
}
