//! Limits the acts of each user, so that one user cannot keep the others from the store.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::domain::{Code, Refusal, UserId};

/// After how many checks idle users are forgotten.
const CHECKS_BETWEEN_PRUNES: u32 = 4_096;

/// Acts per second of each user, on this node.
pub struct UserRates {
    limiter: Option<DefaultKeyedRateLimiter<UserId>>,
    checks: AtomicU32,
}

impl UserRates {
    /// Allows each user `rate` acts a second and a burst of twice that; `None` for any number.
    pub fn new(rate: Option<NonZeroU32>) -> Self {
        let quota = |rate: NonZeroU32| Quota::per_second(rate).allow_burst(rate.saturating_add(rate.get()));
        Self { limiter: rate.map(|rate| RateLimiter::keyed(quota(rate))), checks: AtomicU32::new(0) }
    }

    /// Counts one act of the user, or refuses it as `rate_limited`.
    pub fn check(&self, user: &UserId) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_BETWEEN_PRUNES == CHECKS_BETWEEN_PRUNES - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(user).map_err(|_| Code::RateLimited.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn a_user_has_a_burst_of_twice_the_rate_and_others_are_not_touched() {
        let rates = UserRates::new(NonZeroU32::new(1));
        assert_eq!(rates.check(&user("7")), Ok(()));
        assert_eq!(rates.check(&user("7")), Ok(()));
        assert_eq!(rates.check(&user("7")).unwrap_err().code, Code::RateLimited);
        assert_eq!(rates.check(&user("8")), Ok(()));
    }

    #[test]
    fn without_a_limit_nothing_is_refused() {
        let rates = UserRates::new(None);
        assert!((0..1_000).all(|_| rates.check(&user("7")).is_ok()));
    }

    #[test]
    fn idle_users_are_forgotten() {
        // At this rate each act is forgotten within a microsecond, so every prune finds only idle users.
        let rates = UserRates::new(NonZeroU32::new(1_000_000));
        for number in 0..CHECKS_BETWEEN_PRUNES * 4 {
            rates.check(&user(&number.to_string())).unwrap();
        }
        let kept = rates.limiter.as_ref().unwrap().len();
        assert!(kept < CHECKS_BETWEEN_PRUNES as usize, "{kept}");
    }
}
