//! The endpoints that are told of acts: any number of `[[webhooks]]` in the file, and one in the environment.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use url::{Host, Url};

use super::error::Problem;
use super::load::{Noted, Reader};
use super::parse::Parsed;
use super::source::{Source, WEBHOOKS, nearest};
use crate::domain::ids::parse_id;
use crate::domain::{JournalAct, SiteId};

/// The name of the endpoint that the environment describes.
const OF_ENVIRONMENT: &str = "environment";

/// The variable that makes that endpoint, and the variables that describe it.
const URL: &str = "SLOTCAST_WEBHOOK_URL";
const SECRET: &str = "SLOTCAST_WEBHOOK_SECRET";
const TYPES: &str = "SLOTCAST_WEBHOOK_TYPES";
const SITES: &str = "SLOTCAST_WEBHOOK_SITES";

/// The keys of a `[[webhooks]]`.
const KEYS: &[&str] = &["name", "url", "secret", "types", "sites", "insecure"];

/// The acts that an endpoint is told of if its configuration names none.
const USUAL_ACTS: [JournalAct; 3] = [JournalAct::Book, JournalAct::Cancel, JournalAct::Update];

/// The beginning of a secret.
const SECRET_PREFIX: &str = "whsec_";

/// How many bytes a secret may have, by Standard Webhooks.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How many secrets sign at most.
const MOST_SECRETS: usize = 2;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;

/// Base64 with or without its padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An endpoint that hears of acts.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The endpoint's name in logs, metrics and the store: 1 to 64 letters, digits, `.`, `_` or `-`. Every endpoint has
    /// a name of its own.
    pub name: String,
    /// Where entries are sent. It is never shown whole; see [`Self::shown_url`].
    pub url: Url,
    /// One secret or two. Each message is signed with each of them.
    pub secrets: Vec<Secret>,
    /// The acts that it is told of.
    pub acts: BTreeSet<JournalAct>,
    /// The sites whose acts it is told of; `None` for all.
    pub sites: Option<BTreeSet<SiteId>>,
}

impl Webhook {
    /// Its URL as logs may show it: without user, password, query and fragment.
    pub fn shown_url(&self) -> String {
        let mut shown = self.url.clone();
        // Neither call can fail for an http or https URL.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        shown.set_query(None);
        shown.set_fragment(None);
        shown.into()
    }
}

/// A secret that signs: 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The key.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads `whsec_` and base64. The error never quotes it.
    ///
    /// # Errors
    ///
    /// The text is not a secret. The error is the rest of a sentence that begins with the field's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|text| BASE64.decode(text).ok());
        bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len())).map(Self).ok_or_else(|| {
            format!(
                "must be {SECRET_PREFIX} and the base64 of {} to {} bytes, which `echo whsec_$(openssl rand -base64 32)` makes",
                SECRET_BYTES.start(),
                SECRET_BYTES.end()
            )
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Reads all endpoints.
pub(super) fn read_webhooks(reader: &mut Reader) -> Result<Vec<Webhook>, Noted> {
    let of_environment = read_environment(reader);
    let of_file = read_file(reader);
    let mut webhooks = of_file?;
    webhooks.extend(of_environment?);
    let mut names = BTreeSet::new();
    for webhook in &webhooks {
        if !names.insert(&webhook.name) {
            let message = format!(
                "[[{WEBHOOKS}]] {:?}: name must be another one: two endpoints have it{}",
                webhook.name,
                if webhook.name == OF_ENVIRONMENT {
                    format!(", and {URL} is the URL of one of them")
                } else {
                    String::new()
                }
            );
            reader.layers.problems.push(Problem::new(WEBHOOKS, message));
            return Err(Noted);
        }
    }
    Ok(webhooks)
}

/// The endpoint of the environment, if there is one.
fn read_environment(reader: &mut Reader) -> Result<Option<Webhook>, Noted> {
    let url = reader.read_optional(URL, |text| parse_url(text, false));
    let secrets = reader.read_optional(SECRET, |text| parse_secrets(&words(text)));
    let acts = reader.read_optional(TYPES, |text| parse_types(&words(text)));
    let sites = reader.read_optional(SITES, |text| parse_sites(&words(text)));
    let (url, secrets, acts, sites) = (url?, secrets?, acts?, sites?);
    let Some(url) = url else {
        for (name, is_set) in [(SECRET, secrets.is_some()), (TYPES, acts.is_some()), (SITES, sites.is_some())] {
            if is_set {
                reader.contradict([name, URL], &format!("needs {URL}"));
            }
        }
        return Ok(None);
    };
    let Some(secrets) = secrets else {
        return Err(reader.contradict([SECRET, URL], &format!("must be set with {URL}: each message is signed")));
    };
    Ok(Some(Webhook { name: OF_ENVIRONMENT.into(), url, secrets, acts: acts.unwrap_or_else(usual_acts), sites }))
}

fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn usual_acts() -> BTreeSet<JournalAct> {
    USUAL_ACTS.into()
}

/// The endpoints of the file.
fn read_file(reader: &mut Reader) -> Result<Vec<Webhook>, Noted> {
    let Some((webhooks, source)) = reader.layers.webhooks.take() else { return Ok(Vec::new()) };
    let problems = &mut reader.layers.problems;
    let tables = webhooks.as_array().map(|items| items.iter().map(toml::Value::as_table).collect::<Option<Vec<_>>>());
    let Some(Some(tables)) = tables else {
        let message = format!("{WEBHOOKS} must be tables, each under a line [[{WEBHOOKS}]] of its own ({source})");
        problems.push(Problem::new(WEBHOOKS, message));
        return Err(Noted);
    };
    // All endpoints are read before the first error is returned, so that the faults of all are noted.
    let read: Vec<Result<Webhook, Noted>> =
        (1..).zip(tables).map(|(number, table)| Fields::new(number, table, &source, problems).read()).collect();
    read.into_iter().collect()
}

/// One `[[webhooks]]` that is being read.
struct Fields<'a> {
    /// The name of the endpoint in problems.
    label: String,
    table: &'a toml::Table,
    source: &'a Source,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Fields<'a> {
    fn new(number: usize, table: &'a toml::Table, source: &'a Source, problems: &'a mut Vec<Problem>) -> Self {
        let name = table.get("name").and_then(toml::Value::as_str).filter(|name| is_name(name));
        let label = name.map_or_else(|| format!("number {number}"), |name| format!("{name:?}"));
        Self { label, table, source, problems }
    }

    fn read(mut self) -> Result<Webhook, Noted> {
        self.refuse_unknown_keys();
        let insecure = self.optional("insecure", |value| value.as_bool().ok_or("must be true or false".into()));
        let insecure = insecure.map(Option::unwrap_or_default);
        let name = self.required("name", |value| {
            let name = value.as_str().filter(|name| is_name(name)).map(str::to_owned);
            name.ok_or_else(|| format!("must be 1 to {LONGEST_NAME} letters, digits, `.`, `_` or `-`"))
        });
        let url =
            self.required("url", |value| parse_url(value.as_str().unwrap_or_default(), matches!(insecure, Ok(true))));
        let secrets = self.required("secret", |value| parse_secrets(&texts(value)?));
        let acts = self.optional("types", |value| parse_types(&texts(value)?));
        let sites = self.optional("sites", |value| parse_sites(&texts(value)?));
        let (name, url, secrets) = (name?, url?, secrets?);
        insecure?;
        Ok(Webhook { name, url, secrets, acts: acts?.unwrap_or_else(usual_acts), sites: sites? })
    }

    fn refuse_unknown_keys(&mut self) {
        let unknown: Vec<&String> = self.table.keys().filter(|key| !KEYS.contains(&key.as_str())).collect();
        for key in unknown {
            let hint = nearest(key, KEYS)
                .map_or_else(|| format!("an endpoint has {}", KEYS.join(", ")), |near| format!("did you mean {near}?"));
            self.problem(key, &format!("is not a field of an endpoint; {hint}"));
        }
    }

    fn required<T>(&mut self, key: &str, parse: impl FnOnce(&toml::Value) -> Parsed<T>) -> Result<T, Noted> {
        self.optional(key, parse)?.ok_or_else(|| self.problem(key, "must be set"))
    }

    fn optional<T>(&mut self, key: &str, parse: impl FnOnce(&toml::Value) -> Parsed<T>) -> Result<Option<T>, Noted> {
        let parsed = self.table.get(key).map(parse).transpose();
        parsed.map_err(|otherwise| self.problem(key, &otherwise))
    }

    fn problem(&mut self, key: &str, otherwise: &str) -> Noted {
        let message = format!("[[{WEBHOOKS}]] {}: {key} {otherwise} ({})", self.label, self.source);
        self.problems.push(Problem::new(WEBHOOKS, message));
        Noted
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_allowed)
}

/// The texts of a list, or of a string with commas; numbers count as their digits.
fn texts(value: &toml::Value) -> Parsed<Vec<String>> {
    let text = |item: &toml::Value| match item {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        _ => None,
    };
    let texts = match value {
        toml::Value::Array(items) => items.iter().map(text).collect(),
        value => text(value).map(|text| words(&text)),
    };
    texts.ok_or_else(|| "must be a list, or one value".into())
}

/// The URL of an endpoint. `http://` may only name this machine, unless the operator allows others. The error never quotes
/// the URL.
fn parse_url(text: &str, is_insecure: bool) -> Parsed<Url> {
    let url = Url::parse(text).ok().filter(Url::has_host);
    match url.as_ref().map(Url::scheme) {
        Some("https") => {}
        Some("http") if is_insecure || url.as_ref().is_some_and(is_loopback) => {}
        _ => {
            return Err(
                "must be an https:// URL; http:// is for loopback addresses, or for an endpoint of the file with \
                        insecure = true"
                    .into(),
            );
        }
    }
    url.ok_or_else(|| "must be a URL".into())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

fn parse_secrets(texts: &[String]) -> Parsed<Vec<Secret>> {
    if texts.is_empty() || texts.len() > MOST_SECRETS {
        return Err(format!("must be one secret, or {MOST_SECRETS}: the new one and the one that it replaces"));
    }
    texts.iter().map(|text| Secret::parse(text)).collect()
}

fn parse_types(texts: &[String]) -> Parsed<BTreeSet<JournalAct>> {
    let all = || JournalAct::ALL.map(JournalAct::event_type).join(", ");
    if texts.is_empty() {
        return Err(format!("must name one of {}", all()));
    }
    let of_type = |text: &String| {
        let act = JournalAct::ALL.into_iter().find(|act| act.event_type() == text);
        act.ok_or_else(|| format!("must be some of {}; {text:?} is not one of them", all()))
    };
    texts.iter().map(of_type).collect()
}

fn parse_sites(texts: &[String]) -> Parsed<BTreeSet<SiteId>> {
    if texts.is_empty() {
        return Err("must name a site; leave it out for all".into());
    }
    let site = |text: &String| {
        parse_id(text).and_then(SiteId::new).ok_or_else(|| format!("must be ids of sites; {text:?} is not an id"))
    };
    texts.iter().map(site).collect()
}
