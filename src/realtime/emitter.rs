//! Events that another program sends to sockets with the stock `@socket.io/redis-emitter`, if `SLOTCAST_EMITTER` allows it.
//!
//! The emitter publishes `[uid, packet, options]` in msgpack. Every node hears every message, and sends it to its own
//! sockets. A message has no version and is not kept. Anybody who can publish in Redis can send one, so it is parsed
//! with bounds on length and depth. No name of the protocol passes except `slots_freed`, which old jobs send.

use std::collections::HashSet;

use rmpv::ValueRef;
use serde::ser::{Serialize, SerializeTuple, Serializer};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::Realtime;
use super::session::Session;
use crate::calls::messages::MAX_EVENT_BYTES;
use crate::domain::event::to_raw_json;
use crate::domain::wire::is_reserved;
use crate::domain::{SpaceKey, StoreTime};
use crate::store::ForeignMessage;

/// The longest message that is parsed, in bytes.
const LONGEST_MESSAGE: usize = 256 * 1024;

/// How deep a message may nest, including the emitter's own three levels.
const MAX_DEPTH: usize = 64;

/// The emitter's name in its messages. The stock servers' adapters use the channel, too, under other names.
const EMITTER: &str = "emitter";

/// The packet type of an event without attachments.
const EVENT: u64 = 2;

/// The only namespace.
const NAMESPACE: &str = "/";

/// The only name of the protocol that another program may send. Cron jobs sent it before slotcast replaced them.
const SLOTS_FREED: &str = "slots_freed";

/// The msgpack extension that the emitter writes for `undefined`.
const UNDEFINED: i8 = 0;

/// The msgpack extension of an instant.
const TIMESTAMP: i8 = -1;

/// The parts of a message.
#[derive(Debug)]
pub(super) struct Emission {
    event: String,
    arguments: Arguments,
    /// The rooms; empty for all sockets.
    rooms: Vec<String>,
    except: Vec<String>,
}

/// The arguments of an event, each as JSON.
#[derive(Debug)]
pub(super) struct Arguments(Vec<Box<RawValue>>);

/// Why a message is dropped. Its name is the label in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    TooLarge,
    Malformed,
    Binary,
    Foreign,
    Reserved,
}

impl Dropped {
    const fn as_str(self) -> &'static str {
        match self {
            Dropped::TooLarge => "too_large",
            Dropped::Malformed => "malformed",
            Dropped::Binary => "binary",
            Dropped::Foreign => "foreign",
            Dropped::Reserved => "reserved",
        }
    }
}

/// Sends emitters' messages to the sockets of this node. Runs as long as the node.
pub(super) async fn run(realtime: Realtime, mut messages: mpsc::Receiver<ForeignMessage>) {
    while let Some(message) = messages.recv().await {
        let outcome = match message {
            ForeignMessage::Emitted(bytes) => match read(&bytes) {
                Ok(emission) => {
                    send(&realtime, &emission);
                    "sent"
                }
                Err(dropped) => {
                    tracing::debug!(reason = dropped.as_str(), "dropped an emitter's message");
                    dropped.as_str()
                }
            },
            // These are requests to join, leave and disconnect. Other programs may not move sockets here.
            ForeignMessage::Request => "request",
        };
        realtime.app.metrics.emitter_messages.with_label_values(&[outcome]).inc();
    }
    // The sender lives as long as the store's subscriptions, so this is never reached.
    std::future::pending().await
}

fn send(realtime: &Realtime, emission: &Emission) {
    let Emission { event, arguments, rooms, except } = emission;
    let spaces = |rooms: &[String]| rooms.iter().filter_map(|room| SpaceKey::of_room(room)).collect::<HashSet<_>>();
    let (wanted, unwanted) = (spaces(rooms), spaces(except));
    let is_in_any = |session: &Session, spaces: &HashSet<SpaceKey>| spaces.iter().any(|space| session.is_in(*space));
    let sessions = realtime.sessions.all();
    let recipients = sessions.iter().filter(|session| {
        let is_wanted = if rooms.is_empty() { session.hears_broadcast(event) } else { is_in_any(session, &wanted) };
        is_wanted && !is_in_any(session, &unwanted) && session.emit_all(event, arguments)
    });
    let recipients = recipients.count();
    tracing::debug!(recipients, rooms = rooms.len(), "broadcast an emitter's event");
}

/// Takes a message apart.
pub(super) fn read(bytes: &[u8]) -> Result<Emission, Dropped> {
    if bytes.len() > LONGEST_MESSAGE {
        return Err(Dropped::TooLarge);
    }
    let mut rest = bytes;
    let message = rmpv::decode::read_value_ref_with_max_depth(&mut rest, MAX_DEPTH).map_err(|_| Dropped::Malformed)?;
    let (ValueRef::Array(parts), true) = (message, rest.is_empty()) else { return Err(Dropped::Malformed) };
    let [uid, packet, options] = parts.as_slice() else { return Err(Dropped::Malformed) };
    if text_of(uid) != Some(EMITTER) {
        return Err(Dropped::Foreign);
    }
    let namespace = field(packet, "nsp").map_or(Some(NAMESPACE), text_of);
    if namespace != Some(NAMESPACE) {
        return Err(Dropped::Foreign);
    }
    // An event with attachments has another packet type.
    if field(packet, "type").and_then(unsigned) != Some(EVENT) {
        return Err(Dropped::Binary);
    }
    let Some(ValueRef::Array(data)) = field(packet, "data") else { return Err(Dropped::Malformed) };
    let (name, arguments) = data.split_first().ok_or(Dropped::Malformed)?;
    let event = text_of(name).filter(|name| (1..=MAX_EVENT_BYTES).contains(&name.len())).ok_or(Dropped::Malformed)?;
    if is_reserved(event) && event != SLOTS_FREED {
        return Err(Dropped::Reserved);
    }
    Ok(Emission {
        event: event.to_owned(),
        arguments: Arguments(arguments.iter().map(json_of).collect::<Result<_, _>>()?),
        rooms: names_in(options, "rooms")?,
        except: names_in(options, "except")?,
    })
}

fn field<'a, 'b>(map: &'a ValueRef<'b>, name: &str) -> Option<&'a ValueRef<'b>> {
    let ValueRef::Map(fields) = map else { return None };
    fields.iter().find(|(key, _)| text_of(key) == Some(name)).map(|(_, value)| value)
}

fn text_of<'a>(value: &'a ValueRef<'_>) -> Option<&'a str> {
    match value {
        ValueRef::String(text) => text.as_str(),
        _ => None,
    }
}

fn unsigned(value: &ValueRef<'_>) -> Option<u64> {
    match value {
        ValueRef::Integer(number) => number.as_u64(),
        _ => None,
    }
}

/// A list of names in the options; empty if it is missing. No room's name is a number, but a number stays in the list.
/// Otherwise a message for such rooms alone would go to everybody.
fn names_in(options: &ValueRef<'_>, name: &str) -> Result<Vec<String>, Dropped> {
    match field(options, name) {
        None | Some(ValueRef::Nil) => Ok(Vec::new()),
        Some(ValueRef::Array(names)) => Ok(names.iter().map(|name| text_of(name).unwrap_or_default().into()).collect()),
        Some(_) => Err(Dropped::Malformed),
    }
}

fn json_of(value: &ValueRef<'_>) -> Result<Box<RawValue>, Dropped> {
    let mut json = String::new();
    write_json(value, &mut json)?;
    RawValue::from_string(json).map_err(|_| Dropped::Malformed)
}

/// Writes a value as JavaScript's `JSON.stringify` would write the emitter's argument.
fn write_json(value: &ValueRef<'_>, json: &mut String) -> Result<(), Dropped> {
    match value {
        ValueRef::Nil => json.push_str("null"),
        ValueRef::Boolean(flag) => json.push_str(if *flag { "true" } else { "false" }),
        ValueRef::Integer(number) => json.push_str(&number.to_string()),
        ValueRef::F32(number) => write_float(f64::from(*number), json),
        ValueRef::F64(number) => write_float(*number, json),
        ValueRef::String(text) => write_text(text.as_str().ok_or(Dropped::Malformed)?, json),
        ValueRef::Binary(_) => return Err(Dropped::Binary),
        ValueRef::Array(items) => write_all(items, ('[', ']'), json, |item, json| write_json(item, json))?,
        ValueRef::Map(fields) => {
            let is_there = |(_, value): &&(ValueRef<'_>, ValueRef<'_>)| !matches!(value, ValueRef::Ext(UNDEFINED, _));
            write_all(fields.iter().filter(is_there), ('{', '}'), json, |(key, value), json| {
                write_text(text_of(key).ok_or(Dropped::Malformed)?, json);
                json.push(':');
                write_json(value, json)
            })?;
        }
        ValueRef::Ext(UNDEFINED, _) => json.push_str("null"),
        ValueRef::Ext(TIMESTAMP, bytes) => write_text(&instant_of(bytes).ok_or(Dropped::Malformed)?.rfc3339(), json),
        ValueRef::Ext(..) => return Err(Dropped::Binary),
    }
    Ok(())
}

fn write_all<T>(
    items: impl IntoIterator<Item = T>,
    (start, end): (char, char),
    json: &mut String,
    mut write: impl FnMut(T, &mut String) -> Result<(), Dropped>,
) -> Result<(), Dropped> {
    json.push(start);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        write(item, json)?;
    }
    json.push(end);
    Ok(())
}

fn write_float(number: f64, json: &mut String) {
    // Not-a-number and the infinities become `null`, as in JavaScript. A whole number gets no fraction.
    let written = match serde_json::Number::from_f64(number) {
        Some(_) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
        Some(number) => number.to_string(),
        None => "null".into(),
    };
    json.push_str(&written);
}

fn write_text(text: &str, json: &mut String) {
    json.push_str(to_raw_json(&text).get());
}

/// The instant of a timestamp extension of 4, 8 or 12 bytes.
fn instant_of(bytes: &[u8]) -> Option<StoreTime> {
    const LONGEST: i64 = 8_640_000_000_000;
    let (seconds, nanoseconds) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            (i64::try_from(both & ((1 << 34) - 1)).ok()?, i64::try_from(both >> 34).ok()?)
        }
        12 => {
            let (nanoseconds, seconds) = bytes.split_at_checked(4)?;
            let nanoseconds = u32::from_be_bytes(nanoseconds.try_into().ok()?);
            (i64::from_be_bytes(seconds.try_into().ok()?), i64::from(nanoseconds))
        }
        _ => return None,
    };
    // JavaScript's instants reach this far.
    let is_known = (-LONGEST..=LONGEST).contains(&seconds);
    is_known.then(|| StoreTime::from_millis(seconds * 1_000 + nanoseconds / 1_000_000))
}

impl Arguments {
    /// The length of the arguments as JSON, including the commas.
    pub(super) fn length(&self) -> usize {
        self.0.iter().map(|argument| argument.get().len() + 1).sum()
    }
}

/// The library takes each element of a tuple as an argument.
impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|argument| tuple.serialize_element(argument))?;
        tuple.end()
    }
}

/// Parses a message, and answers its JSON. For the fuzzers.
pub(crate) fn read_for_fuzzing(bytes: &[u8]) -> Option<String> {
    let emission = read(bytes).ok()?;
    let arguments: Vec<&str> = emission.arguments.0.iter().map(|argument| argument.get()).collect();
    Some(format!("[{}]", arguments.join(",")))
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;

    fn pack(value: &Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, value).unwrap();
        bytes
    }

    fn map(fields: Vec<(&str, Value)>) -> Value {
        Value::Map(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// A message as the emitter makes it.
    fn message(uid: &str, kind: u64, namespace: &str, data: Vec<Value>, rooms: &[&str]) -> Vec<u8> {
        let packet = map(vec![("type", kind.into()), ("data", Value::Array(data)), ("nsp", namespace.into())]);
        let rooms = Value::Array(rooms.iter().map(|room| (*room).into()).collect());
        let options = map(vec![("rooms", rooms), ("flags", map(vec![])), ("except", Value::Array(vec![]))]);
        pack(&Value::Array(vec![uid.into(), packet, options]))
    }

    fn event(data: Vec<Value>) -> Result<Emission, Dropped> {
        read(&message(EMITTER, EVENT, NAMESPACE, data, &[]))
    }

    fn json(argument: Value) -> Result<String, Dropped> {
        let emission = event(vec!["news".into(), argument])?;
        Ok(emission.arguments.0[0].get().to_owned())
    }

    #[test]
    fn what_was_emitted_comes_out_as_json() {
        let value = map(vec![
            ("z", 1.into()),
            ("a", Value::Array(vec![Value::Nil, true.into(), (-3).into(), 1.5.into(), "è\"".into()])),
            ("gone", Value::Ext(UNDEFINED, vec![0])),
            ("at", Value::Ext(TIMESTAMP, 1_764_496_800_u32.to_be_bytes().to_vec())),
        ]);
        assert_eq!(json(value).unwrap(), r#"{"z":1,"a":[null,true,-3,1.5,"è\""],"at":"2025-11-30T10:00:00.000Z"}"#);
        for (number, text) in [(f64::NAN, "null"), (2.0, "2"), (1e300, "1e+300"), (-0.25, "-0.25")] {
            assert_eq!(json(number.into()).unwrap(), text);
        }
        assert_eq!(json(u64::MAX.into()).unwrap(), "18446744073709551615");
        let several = event(vec!["news".into(), 1.into(), "two".into()]).unwrap();
        assert_eq!((several.event.as_str(), several.arguments.0.len()), ("news", 2));
        assert_eq!(event(vec!["news".into()]).unwrap().arguments.length(), 0);
    }

    #[test]
    fn rooms_and_what_is_not_of_the_emitter_are_told_apart() {
        let data = || vec!["news".into(), 1.into()];
        let rooms = read(&message(EMITTER, EVENT, "/", data(), &["spazio_5_sede_1", "other"])).unwrap().rooms;
        assert_eq!(rooms, ["spazio_5_sede_1", "other"]);
        assert_eq!(read(&message("kQ3", EVENT, "/", data(), &[])).unwrap_err(), Dropped::Foreign);
        assert_eq!(read(&message(EMITTER, EVENT, "/admin", data(), &[])).unwrap_err(), Dropped::Foreign);
        assert_eq!(read(&message(EMITTER, 5, "/", data(), &[])).unwrap_err(), Dropped::Binary);
        assert_eq!(json(Value::Binary(vec![1])).unwrap_err(), Dropped::Binary);
        assert_eq!(json(Value::Ext(7, vec![1])).unwrap_err(), Dropped::Binary);
    }

    #[test]
    fn of_the_names_of_the_protocol_only_slots_freed_passes() {
        assert!(event(vec![SLOTS_FREED.into(), map(vec![("count", 2.into())])]).is_ok());
        for reserved in
            ["slot_update", "slots_status_update", "connect", "space_error", "slot_taken", "stats", "disconnect"]
        {
            assert_eq!(event(vec![reserved.into()]).unwrap_err(), Dropped::Reserved, "{reserved}");
        }
        for bad in [Value::from(""), "x".repeat(MAX_EVENT_BYTES + 1).into(), 7.into(), Value::Nil] {
            assert_eq!(event(vec![bad.clone()]).unwrap_err(), Dropped::Malformed, "{bad}");
        }
        assert_eq!(event(vec![]).unwrap_err(), Dropped::Malformed);
    }

    #[test]
    fn what_lies_about_its_length_or_nests_without_end_is_dropped() {
        let good = message(EMITTER, EVENT, "/", vec!["news".into(), 1.into()], &[]);
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "{end}");
        }
        assert_eq!(read(&[good.clone(), vec![0xc0]].concat()).unwrap_err(), Dropped::Malformed);
        for lie in
            [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xdb, 0xff, 0xff, 0xff, 0xff]]
        {
            assert_eq!(read(lie).unwrap_err(), Dropped::Malformed);
        }
        assert_eq!(read(&vec![0x91; LONGEST_MESSAGE]).unwrap_err(), Dropped::Malformed, "arrays in arrays");
        assert_eq!(read(&vec![0x81; LONGEST_MESSAGE]).unwrap_err(), Dropped::Malformed);
        assert_eq!(read(&vec![0x91; LONGEST_MESSAGE + 1]).unwrap_err(), Dropped::TooLarge);
    }

    #[test]
    fn instants_have_three_forms_and_bounds() {
        let at = |bytes: &[u8]| instant_of(bytes).map(StoreTime::as_millis);
        assert_eq!(at(&[0, 0, 0, 1]), Some(1_000));
        let both = (500_000_000_u64 << 34) | 2;
        assert_eq!(at(&both.to_be_bytes()), Some(2_500));
        let long = [&[0; 4][..], &(-1_i64).to_be_bytes()].concat();
        assert_eq!(at(&long), Some(-1_000));
        assert_eq!(at(&[&[0; 4][..], &i64::MAX.to_be_bytes()].concat()), None);
        assert_eq!(at(&[0; 5]), None);
    }
}
