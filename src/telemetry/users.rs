//! How log lines name users. A number alone tells nothing about a person. Any other id may be an e-mail address or a
//! name, which is personal data and does not belong in a log.

use std::fmt;
use std::sync::OnceLock;

use aws_lc_rs::hmac;

use crate::domain::UserId;
use crate::random;

/// How many digits of a digest are logged. With 16, no two of a million users share them.
const DIGITS: usize = 16;

/// What is logged instead of an id with [`LogUsers::None`].
const NOBODY: &str = "-";

/// A guest's name in the log.
const GUEST: &str = "guest";

/// Separates this use of the secret from the signing of tokens.
const PURPOSE: &[u8] = b"slotcast log users";

static IN_FORCE: OnceLock<Shown> = OnceLock::new();

/// `SLOTCAST_LOG_USERS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogUsers {
    /// Numbers unchanged, other ids as their digest.
    #[default]
    NumbersPlain,
    /// Every id unchanged.
    Plain,
    /// Every id as its digest.
    Digest,
    /// No id.
    None,
}

struct Shown {
    how: LogUsers,
    key: hmac::Key,
}

/// Sets how users are logged from now on. Only the first call counts. Nodes with the same `secret` log the same digest of a
/// user. Without a secret, each process has digests of its own.
pub fn init(how: LogUsers, secret: Option<&[u8]>) {
    let _ = IN_FORCE.set(Shown::new(how, secret));
}

/// A user's id in the form in which it may be logged.
pub fn logged(user: &UserId) -> impl fmt::Display {
    IN_FORCE.get_or_init(|| Shown::new(LogUsers::default(), None)).show(user)
}

impl Shown {
    fn new(how: LogUsers, secret: Option<&[u8]>) -> Self {
        // Without random bytes anybody can compute the digest. Even then it is not an address or a name.
        let own = random::bytes::<32>().unwrap_or_default();
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.unwrap_or(&own)), PURPOSE);
        Self { how, key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    fn show(&self, user: &UserId) -> String {
        if user.is_guest() {
            return GUEST.into();
        }
        let is_number = user.as_str().bytes().all(|byte| byte.is_ascii_digit());
        match self.how {
            LogUsers::None => NOBODY.into(),
            LogUsers::Plain => user.as_str().into(),
            LogUsers::NumbersPlain if is_number => user.as_str().into(),
            LogUsers::NumbersPlain | LogUsers::Digest => self.digest(user),
        }
    }

    fn digest(&self, user: &UserId) -> String {
        let tag = hmac::sign(&self.key, user.as_str().as_bytes());
        let digits: String = tag.as_ref().iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
        format!("digest-{digits}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(how: LogUsers, secret: &str, user: &str) -> String {
        Shown::new(how, Some(secret.as_bytes())).show(&UserId::new(user).unwrap())
    }

    #[test]
    fn numbers_are_plain_and_anything_else_is_a_digest() {
        let by_default = |user| shown(LogUsers::default(), "one", user);
        assert_eq!(by_default("7"), "7");
        let digest = by_default("anna@example.org");
        assert!(digest.starts_with("digest-") && digest.len() == 7 + DIGITS, "{digest}");
        assert_eq!(by_default("anna@example.org"), digest, "lines of one user can be found");
        assert_ne!(by_default("anna@example.com"), digest);
        assert_ne!(
            shown(LogUsers::default(), "two", "anna@example.org"),
            digest,
            "nobody without the secret can try names"
        );
        for user in ["-7", "7a", "+39 333 1234567", "٣"] {
            assert!(by_default(user).starts_with("digest-"), "{user}");
        }
    }

    #[test]
    fn the_operator_may_choose() {
        for user in ["7", "anna@example.org"] {
            assert_eq!(shown(LogUsers::Plain, "s", user), user);
            assert!(shown(LogUsers::Digest, "s", user).starts_with("digest-"));
            assert_eq!(shown(LogUsers::None, "s", user), "-");
        }
    }

    #[test]
    fn a_guest_is_one_whatever_was_chosen() {
        for how in [LogUsers::NumbersPlain, LogUsers::Plain, LogUsers::Digest, LogUsers::None] {
            assert_eq!(Shown::new(how, Some(b"s")).show(&UserId::guest()), "guest");
        }
        assert!(!UserId::new("guest").unwrap().is_guest());
        assert_eq!(UserId::new(UserId::guest().as_str()), None, "no token can carry it");
    }

    #[test]
    fn without_a_secret_the_digest_is_of_this_process() {
        let show = || Shown::new(LogUsers::Digest, None).show(&UserId::new("7").unwrap());
        assert_ne!(show(), show());
    }
}
