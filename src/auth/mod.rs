//! Who is asking, and what the caller may do.
//!
//! - [`Claims`]: what a verified token says and allows.
//! - [`verifier`]: whether a token is valid.
//! - [`jwks`]: the public keys of an issuer, fetched and kept.
//! - [`mod@issue`]: signing a token, for `slotcast token` and for tests.
//! - [`rates`]: how many acts a second a user may do.
//! - [`NodeKey`]: what nodes sign for each other.

pub mod verifier;
pub mod jwks;
pub mod issue;
pub mod rates;
mod node_key;

pub use issue::{IssueError, issue};
pub use node_key::NodeKey;
pub use verifier::{TokenError, Verifier};

use std::collections::BTreeSet;

use crate::domain::{SiteId, SpaceKey, StoreTime, UserId};

/// The claims of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `id_utente`.
    pub user: UserId,
    /// `ruolo`, if it names a staff role.
    pub role: Option<Role>,
    /// `sedi`. With it, the user may join and book only in these sites, and staff are staff only there.
    pub sites: Option<BTreeSet<SiteId>>,
    /// `exp`.
    pub expires: StoreTime,
}

/// A staff role. Any other `ruolo` is an ordinary user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `responsabile`: staff only within the token's `sedi`.
    SiteManager,
    /// `gestore`.
    Manager,
    /// `amministratore`, `admin`.
    Administrator,
    /// `servizio`: a backend, which may act for a user.
    Service,
}

impl Claims {
    /// Whether the token's `sedi` let it into the site.
    pub fn may_enter(&self, site: SiteId) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(&site))
    }

    /// Whether the caller is staff of this space.
    pub fn is_staff_of(&self, space: SpaceKey) -> bool {
        self.is_staff_of_site(space.site)
    }

    /// Whether the caller is staff of all spaces of this site.
    pub fn is_staff_of_site(&self, site: SiteId) -> bool {
        match self.role {
            None => false,
            Some(Role::SiteManager) => self.sites.as_ref().is_some_and(|sites| sites.contains(&site)),
            Some(_) => self.may_enter(site),
        }
    }

    /// Whether the caller is staff for what concerns all nodes or all users. Staff whose token has `sedi` are not, whatever
    /// their role.
    pub fn is_staff_everywhere(&self) -> bool {
        self.sites.is_none() && matches!(self.role, Some(Role::Manager | Role::Administrator | Role::Service))
    }

    /// Whether the caller may act for another user.
    pub fn is_service(&self) -> bool {
        self.role == Some(Role::Service)
    }
}

impl Role {
    /// Every `ruolo` that is a staff role.
    pub const NAMES: [&'static str; 5] = ["responsabile", "gestore", "amministratore", "admin", "servizio"];

    /// The staff role that a `ruolo` names. `None` is an ordinary user.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "responsabile" => Some(Role::SiteManager),
            "gestore" => Some(Role::Manager),
            "amministratore" | "admin" => Some(Role::Administrator),
            "servizio" => Some(Role::Service),
            _ => None,
        }
    }

    /// The `ruolo` on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::SiteManager => "responsabile",
            Role::Manager => "gestore",
            Role::Administrator => "amministratore",
            Role::Service => "servizio",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SpaceId;

    #[test]
    fn staff_with_sites_are_staff_there_only() {
        let site = |number| SiteId::new(number).unwrap();
        let here = SpaceKey { site: site(1), space: SpaceId::new(5).unwrap() };
        let there = SpaceKey { site: site(2), ..here };
        for name in Role::NAMES {
            let with = |sites: Option<&[u64]>| Claims {
                user: UserId::new("7").unwrap(),
                role: Role::parse(name),
                sites: sites.map(|sites| sites.iter().map(|number| site(*number)).collect()),
                expires: StoreTime::from_millis(0),
            };
            let everywhere = with(None);
            assert_eq!(everywhere.is_staff_everywhere(), name != "responsabile", "{name}");
            for sites in [&[1][..], &[]] {
                let bound = with(Some(sites));
                assert!(!bound.is_staff_everywhere(), "{name}");
                assert_eq!(bound.is_staff_of(here), !sites.is_empty(), "{name}");
                assert!(!bound.is_staff_of(there), "{name}");
            }
        }
    }
}
