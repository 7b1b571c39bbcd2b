//! Limits how many calls without a token one address may make.
//!
//! A whole office may share one address, so the limit is for calls that read without a login, and never for handshakes.
//! Behind a proxy the address is the one that the trusted proxies name, read from the right. Anything that a caller
//! writes into the header stands further left.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::error::ApiError;
use crate::config::{Config, ForwardedHeader, Network};
use crate::domain::Code;
use crate::net::server::PeerAddress;

/// How many times its rate an address may call in one burst. A whole office may open a page at the same moment.
const BURST: u32 = 10;

/// Idle addresses are forgotten after this many checks.
const CHECKS_BETWEEN_PRUNES: u32 = 4_096;

/// How many bits of an IPv6 address identify a caller. A caller with one address of a /64 network has all of it.
const IPV6_NETWORK_BITS: u32 = 64;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The limit of calls without a token.
pub(super) struct AnonymousLimit {
    limiter: Option<DefaultKeyedRateLimiter<IpAddr>>,
    checks: AtomicU32,
    proxies: Vec<Network>,
    header: ForwardedHeader,
}

impl AnonymousLimit {
    pub(super) fn new(config: &Config) -> Self {
        let quota = |rate: NonZeroU32| {
            Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MIN)))
        };
        Self {
            limiter: config.limits.anonymous_rate.map(|rate| RateLimiter::keyed(quota(rate))),
            checks: AtomicU32::new(0),
            proxies: config.listen.trusted_proxies.clone(),
            header: config.listen.forwarded_header,
        }
    }

    /// Counts one call of an address. Answers `false` if the address has made too many.
    fn admits(&self, address: IpAddr) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_BETWEEN_PRUNES == CHECKS_BETWEEN_PRUNES - 1 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&network_of(address)).is_ok()
    }

    /// The address of the caller behind `peer`: the first address from the right that no trusted proxy has. If the
    /// header ends earlier, or has something other than an address, the last known proxy counts as the caller.
    fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.is_trusted(peer) {
            return peer;
        }
        let mut caller = peer;
        for named in self.named(headers).into_iter().rev() {
            let Some(address) = named else { return caller };
            caller = address;
            if !self.is_trusted(address) {
                return caller;
            }
        }
        caller
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// The addresses in the header, from the left; `None` for an entry that is not an address.
    fn named(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        let name = match self.header {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let elements = headers.get_all(name).into_iter().flat_map(|value| match value.to_str() {
            Ok(text) => text.split(',').map(|element| Some(element.trim())).collect(),
            Err(_) => vec![None],
        });
        match self.header {
            ForwardedHeader::XForwardedFor => elements.map(|element| address_of(element?)).collect(),
            ForwardedHeader::Forwarded => elements.map(|element| address_of(forwarded_for(element?)?)).collect(),
        }
    }
}

/// The `for` of one element of `Forwarded`: `for="[2001:db8::1]:4711";proto=https`.
fn forwarded_for(element: &str) -> Option<&str> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, node) = pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    Some(node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node))
}

/// An address, perhaps with a port.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let address: Option<IpAddr> = text.parse().ok().or_else(bare).or_else(with_port);
    address.map(|address| address.to_canonical())
}

/// Callers are told apart by IPv4 address, or by IPv6 network.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() >> (128 - IPV6_NETWORK_BITS) << (128 - IPV6_NETWORK_BITS);
            Ipv6Addr::from_bits(network).into()
        }
        address => address,
    }
}

/// Refuses, as `rate_limited`, an address that calls too often without a token.
pub(super) async fn limit(State(limit): State<Arc<AnonymousLimit>>, request: Request, next: Next) -> Response {
    let is_anonymous = !request.headers().contains_key(header::AUTHORIZATION);
    let peer = request.extensions().get::<PeerAddress>().map(|PeerAddress(peer)| peer.ip());
    if let Some(peer) = peer.filter(|_| is_anonymous)
        && !limit.admits(limit.caller(peer, request.headers()))
    {
        return ApiError::from(Code::RateLimited).into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn limit_of(rate: u32, proxies: &[&str], header: ForwardedHeader) -> AnonymousLimit {
        let quota = Quota::per_second(NonZeroU32::new(rate).unwrap());
        AnonymousLimit {
            limiter: Some(RateLimiter::keyed(quota)),
            checks: AtomicU32::new(0),
            proxies: proxies.iter().map(|network| network.parse().unwrap()).collect(),
            header,
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value): (HeaderName, _)| {
            headers.append(name, value);
        });
        headers
    }

    // Attack 5.
    #[test]
    fn the_caller_is_the_first_from_the_right_who_is_no_proxy() {
        let limit = limit_of(1, &["10.0.0.0/8", "fd00::/8"], ForwardedHeader::XForwardedFor);
        let caller =
            |peer: &str, pairs: &[(&str, &str)]| limit.caller(peer.parse().unwrap(), &headers(pairs)).to_string();
        let forwarded = |value: &'static str| [("x-forwarded-for", value)];
        assert_eq!(caller("203.0.113.7", &forwarded("198.51.100.1")), "203.0.113.7", "who is no proxy is not believed");
        assert_eq!(caller("10.0.0.1", &forwarded("198.51.100.1")), "198.51.100.1");
        assert_eq!(caller("10.0.0.1", &forwarded("6.6.6.6, 198.51.100.1, 10.0.0.2")), "198.51.100.1");
        assert_eq!(caller("10.0.0.1", &forwarded("198.51.100.1:4711")), "198.51.100.1");
        assert_eq!(caller("10.0.0.1", &forwarded("[2001:db8::1]:4711, fd00::2")), "2001:db8::1");
        assert_eq!(caller("::ffff:10.0.0.1", &forwarded("198.51.100.1")), "198.51.100.1");
        assert_eq!(caller("10.0.0.1", &forwarded("6.6.6.6, unknown, 10.0.0.2")), "10.0.0.2");
        assert_eq!(caller("10.0.0.1", &forwarded("10.0.0.3, 10.0.0.2")), "10.0.0.3");
        assert_eq!(caller("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(caller("10.0.0.1", &[("forwarded", "for=6.6.6.6")]), "10.0.0.1", "the other header is not read");
        let two = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(caller("10.0.0.1", &two), "198.51.100.1");
    }

    // Attack 5.
    #[test]
    fn the_other_header_is_read_when_it_is_named() {
        let limit = limit_of(1, &["10.0.0.0/8"], ForwardedHeader::Forwarded);
        let caller = |value: &str| {
            let pairs = [("forwarded", value), ("x-forwarded-for", "6.6.6.6")];
            limit.caller("10.0.0.1".parse().unwrap(), &headers(&pairs)).to_string()
        };
        assert_eq!(caller("for=198.51.100.1;proto=https"), "198.51.100.1");
        assert_eq!(caller("for=6.6.6.6, proto=https;For=\"198.51.100.1:80\""), "198.51.100.1");
        assert_eq!(caller("for=\"[2001:db8::1]:4711\", for=10.0.0.2"), "2001:db8::1");
        assert_eq!(caller("for=6.6.6.6, for=_hidden"), "10.0.0.1");
        assert_eq!(caller("by=10.0.0.2"), "10.0.0.1");
    }

    // Attack 5.
    #[test]
    fn each_address_has_a_limit_of_its_own_and_a_network_of_ipv6_is_one() {
        let limit = limit_of(1, &[], ForwardedHeader::XForwardedFor);
        let admits = |address: &str| limit.admits(address.parse().unwrap());
        assert!(admits("203.0.113.7"));
        assert!(!admits("203.0.113.7"));
        assert!(!admits("::ffff:203.0.113.7"));
        assert!(admits("203.0.113.8"));
        assert!(admits("2001:db8:1:1::1"));
        assert!(!admits("2001:db8:1:1:ffff::2"));
        assert!(admits("2001:db8:1:2::1"));
    }
}
