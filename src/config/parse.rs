//! Checks the text of a value. An error says what is allowed, in words that follow the variable's name: "must be ...".

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use jsonwebtoken::Algorithm;
use url::Url;

use super::proxies::Network;
pub(super) use super::redis::{Parsed, redis_prefix, redis_url};
use super::source::nearest;

/// The shortest `JWT_SECRET`: as many bytes as a SHA-256 hash has (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;

const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// A whole number within bounds.
pub(super) fn number<T>(range: RangeInclusive<T>) -> impl FnOnce(&str) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from {} to {}", range.start(), range.end())),
    }
}

/// A whole number within bounds; 0 stands for none.
pub(super) fn number_or_zero(range: RangeInclusive<u64>) -> impl FnOnce(&str) -> Parsed<Option<u64>> {
    move |text| match text.parse() {
        Ok(0) => Ok(None),
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => Err(format!("must be 0, or a whole number from {} to {}", range.start(), range.end())),
    }
}

/// One of a list of words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl FnOnce(&str) -> Parsed<T> {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be one of {}", words.join(", "))
        })
    }
}

/// `true` or `false`.
pub(super) fn flag(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| "must be true or false".into())
}

/// An IP address, or `localhost`.
pub(super) fn host(text: &str) -> Parsed<IpAddr> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| "must be an IP address such as 127.0.0.1, 0.0.0.0 or ::, or localhost".into())
}

/// An IP address, or `localhost`, and a port.
pub(super) fn address(text: &str) -> Parsed<SocketAddr> {
    let allowed = || "must be ADDRESS:PORT with an IP address or localhost, such as 127.0.0.1:9090".to_string();
    let (host_text, port) = text.rsplit_once(':').ok_or_else(allowed)?;
    match (text.parse(), host_text, port.parse()) {
        (Ok(address), _, _) => Ok(address),
        (Err(_), "localhost", Ok(port)) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        _ => Err(allowed()),
    }
}

/// A name or an address that others can reach, and a port.
pub(super) fn advertised(text: &str) -> Parsed<String> {
    let is_port = |port: &str| !port.starts_with('+') && port.parse().is_ok_and(|port: u16| port > 0);
    match text.rsplit_once(':') {
        Some((host, port)) if is_reachable(host) && is_port(port) => Ok(text.into()),
        _ => Err("must be HOST:PORT as the other nodes reach this one, such as 10.0.0.7:3000, [fd00::7]:3000 or \
                  node-1.internal:3000"
            .into()),
    }
}

/// Whether others can call a host: it is a name, or the address of a single machine.
fn is_reachable(host: &str) -> bool {
    if let Some(bare) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return bare.parse().is_ok_and(|address: Ipv6Addr| !address.is_unspecified());
    }
    let is_name = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    is_name && host.parse() != Ok(Ipv4Addr::UNSPECIFIED)
}

/// Networks, comma separated.
pub(super) fn networks(text: &str) -> Parsed<Vec<Network>> {
    let named = text.split(',').map(str::trim).filter(|network| !network.is_empty());
    named
        .map(|network| {
            network.parse().map_err(|_| {
                format!("must be networks such as 10.0.0.0/8, comma separated; {network:?} is not a network")
            })
        })
        .collect()
}

/// Origins, comma separated, each as a browser sends it.
pub(super) fn origins(text: &str) -> Parsed<Vec<String>> {
    text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).map(origin).collect()
}

/// Who may show the page in a frame: `self`, and web origins. A policy for frames knows no other schemes.
pub(super) fn frame_ancestors(text: &str) -> Parsed<Vec<String>> {
    let ancestor = |text: &str| match text {
        "self" => Ok(text.to_owned()),
        text => origin(text).and_then(|origin| match origin.starts_with("http") {
            true => Ok(origin),
            false => Err(format!("must be `self` or origins of http:// or https://; {text:?} is neither")),
        }),
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(ancestor).collect()
}

fn origin(text: &str) -> Parsed<String> {
    if text == "*" {
        return Err("must name each origin: browsers refuse `*` where credentials are sent".into());
    }
    let sent = Url::parse(text).ok().and_then(|url| sent_origin(&url));
    if text.contains('*') || sent.as_ref().is_some_and(|sent| sent.contains('*') || sent.contains("://.")) {
        return Err(format!("must name each origin in full: {text:?} is a pattern, and a pattern matches nothing"));
    }
    match sent {
        Some(sent) if sent == text => Ok(sent),
        Some(sent) => Err(format!("must have each origin as browsers send it: write {sent:?} instead of {text:?}")),
        None => {
            Err(format!("must be origins such as https://www.example.org, comma separated; {text:?} is not an origin"))
        }
    }
}

/// The origin that a browser sends for a page at this address. Apps have schemes of their own (`capacitor://localhost`).
fn sent_origin(url: &Url) -> Option<String> {
    match url.scheme() {
        "http" | "https" => Some(url.origin().ascii_serialization()),
        // Pages under these schemes send no origin.
        "ws" | "wss" | "ftp" | "file" | "blob" | "data" => None,
        scheme => {
            let host = url.host_str().filter(|host| !host.is_empty())?;
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            Some(format!("{scheme}://{}{port}", host.to_ascii_lowercase()))
        }
    }
}

/// A secret of enough bytes. The error never quotes it.
pub(super) fn secret(text: &str) -> Parsed<Vec<u8>> {
    if text.len() >= SHORTEST_SECRET {
        return Ok(text.as_bytes().to_vec());
    }
    Err(format!(
        "must have at least {SHORTEST_SECRET} bytes (it has {}); `openssl rand -base64 48` makes one",
        text.len()
    ))
}

/// The URL of a key set.
pub(super) fn jwks_url(is_production: bool) -> impl FnOnce(&str) -> Parsed<String> {
    move |text| {
        let url = Url::parse(text).ok().filter(|url| url.username().is_empty() && url.password().is_none());
        match url.as_ref().map(Url::scheme) {
            Some("https") => Ok(text.into()),
            Some("http") if !is_production => Ok(text.into()),
            _ if is_production => Err("must be an https:// URL without a user name".into()),
            _ => Err("must be an https:// or http:// URL without a user name".into()),
        }
    }
}

/// A tracing filter. A single word that resembles a level is a typing error. As a filter it would silence everything.
pub(super) fn log_filter(text: &str) -> Parsed<String> {
    let allowed = "must be a tracing filter, such as info or info,slotcast::feed=debug";
    if let Some(level) = nearest(text, LOG_LEVELS).filter(|level| !level.eq_ignore_ascii_case(text)) {
        return Err(format!("{allowed}; did you mean {level}?"));
    }
    if has_gap(text) {
        return Err(format!("{allowed}, its parts separated by a comma alone"));
    }
    match crate::telemetry::log::parse_filter(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("{allowed} ({error})")),
    }
}

/// Whether a filter has characters that no target has, outside of a span's brackets. That part would match nothing.
fn has_gap(filter: &str) -> bool {
    let mut depth = 0_usize;
    filter.chars().any(|char| {
        match char {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (char.is_whitespace() || char == ';')
    })
}

/// The names of algorithms.
pub(super) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("HS256", Algorithm::HS256),
    ("RS256", Algorithm::RS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];
