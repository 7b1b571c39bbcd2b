//! The owners of a cluster's hash slots, as its servers tell them.

use std::collections::HashMap;

use redis::{Arg, Cmd, Value};

use crate::store::redis::endpoint::Node;

/// How many hash slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// One server's answer: ranges of slots, first and last, each with the primary and its replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) ranges: Vec<(u16, u16, Node)>,
    pub(super) replicas: Vec<Node>,
}

impl View {
    /// Reads the answer to `CLUSTER SLOTS` of a server: `[[first, last, [host, port, ..], replicas ..], ..]`. A server that
    /// does not know its own address leaves it out.
    pub(super) fn read(answer: &Value, told_by: &Node) -> Self {
        let mut view = Self::default();
        for range in items(answer) {
            let [first, last, nodes @ ..] = items(range) else { continue };
            let slot =
                |value: &Value| number(value).and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
            let mut nodes = nodes.iter().filter_map(|node| read_node(node, told_by));
            if let (Some(first), Some(last), Some(primary)) = (slot(first), slot(last), nodes.next()) {
                view.ranges.push((first, last, primary));
                view.replicas.extend(nodes);
            }
        }
        view
    }
}

fn read_node(value: &Value, told_by: &Node) -> Option<Node> {
    let [host, port, ..] = items(value) else { return None };
    let host = match host {
        Value::BulkString(host) => String::from_utf8_lossy(host).into_owned(),
        Value::SimpleString(host) => host.clone(),
        _ => String::new(),
    };
    // An entry without a name is the server that answered. `?` stands for a name that the server does not know.
    let host = if host.is_empty() { told_by.host.clone() } else { host };
    let port = u16::try_from(number(port)?).ok()?;
    (host != "?").then_some(Node { host, port })
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// The owner of each slot by the answers of several servers. If they differ, for example during a failover, the other
/// servers' word outweighs a server's word about itself, because that server may have been away.
pub(super) fn owners(views: &[(Node, View)]) -> Vec<Option<Node>> {
    let mut nodes: Vec<&Node> = Vec::new();
    let mut index: HashMap<&Node, usize> = HashMap::new();
    // For each slot the claims of nodes with their weights. Usually there is one claim.
    let mut claims: Vec<Vec<(usize, u32)>> = vec![Vec::new(); SLOTS.into()];
    for (told_by, view) in views {
        for (first, last, owner) in &view.ranges {
            let weight = if owner == told_by { 1 } else { 2 };
            let owner = *index.entry(owner).or_insert_with(|| {
                nodes.push(owner);
                nodes.len() - 1
            });
            for claims in claims.iter_mut().take(usize::from(*last) + 1).skip((*first).into()) {
                match claims.iter_mut().find(|(node, _)| *node == owner) {
                    Some((_, sum)) => *sum += weight,
                    None => claims.push((owner, weight)),
                }
            }
        }
    }
    let best = |claims: Vec<(usize, u32)>| claims.into_iter().max_by_key(|(_, weight)| *weight);
    claims.into_iter().map(|claims| best(claims).and_then(|(node, _)| nodes.get(node).copied().cloned())).collect()
}

/// The hash slot of a command; `None` if it names no key.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        _ => b"0",
    });
    let name = words.next()?.to_ascii_uppercase();
    let key = match name.as_slice() {
        b"EVAL" | b"EVALSHA" => {
            let count = words.nth(1)?;
            if count == b"0" { None } else { words.next() }
        }
        b"AUTH" | b"CLIENT" | b"CLUSTER" | b"CONFIG" | b"DBSIZE" | b"FLUSHALL" | b"FLUSHDB" | b"INFO" | b"KEYS"
        | b"PING" | b"ROLE" | b"SCRIPT" | b"TIME" | b"WAIT" => None,
        _ => words.next(),
    };
    key.map(slot_of_key)
}

/// The hash slot of a key: of the text in its first braces, if there is any.
pub(super) fn slot_of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..close).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16 as clusters use it (XMODEM: polynomial 0x1021, starting at 0).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "h".into(), port }
    }

    #[test]
    fn slots_are_those_of_a_cluster() {
        // These are the answers of CLUSTER KEYSLOT.
        for (key, slot) in [("foo", 12_182), ("{foo}bar", 12_182), ("a{}b", 13_694), ("123456789", 12_739), ("", 0)] {
            assert_eq!(slot_of_key(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn a_command_is_about_its_first_key() {
        let command = |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            slot_of(&command)
        };
        assert_eq!(command(&["GET", "foo"]), Some(12_182));
        assert_eq!(command(&["EVALSHA", "hash", "2", "foo", "bar", "argument"]), Some(12_182));
        assert_eq!(command(&["EVAL", "return 1", "0", "foo"]), None);
        assert_eq!(command(&["TIME"]), None);
        assert_eq!(command(&["publish", "foo", ""]), Some(12_182));
    }

    #[test]
    fn others_are_believed_before_the_owner_itself() {
        let view = |owner: u16| View { ranges: vec![(0, 9, node(owner)), (10, SLOTS - 1, node(2))], replicas: vec![] };
        let owner = |views: &[(u16, u16)]| {
            let views: Vec<_> = views.iter().map(|(by, owner)| (node(*by), view(*owner))).collect();
            let owners = owners(&views);
            assert_eq!(owners[10], Some(node(2)));
            owners[0].as_ref().map(|node| node.port)
        };
        assert_eq!(owner(&[(1, 1), (2, 1), (3, 1)]), Some(1));
        // Server 1 was frozen, and server 4 has replaced it.
        assert_eq!(owner(&[(1, 1), (2, 4), (3, 4)]), Some(4));
        assert_eq!(owner(&[(1, 1), (2, 4)]), Some(4));
        assert_eq!(owner(&[(1, 1)]), Some(1));
        assert_eq!(super::owners(&[])[0], None);
    }

    #[test]
    fn a_view_is_read_from_what_a_server_answers() {
        let text = |text: &str| Value::BulkString(text.into());
        let at = |host: Value, port: i64| Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(vec![])]);
        let range =
            |first, last, nodes: Vec<Value>| Value::Array([vec![Value::Int(first), Value::Int(last)], nodes].concat());
        let answer = Value::Array(vec![
            range(0, 5, vec![at(text("a"), 1), at(text("b"), 2)]),
            range(6, 7, vec![at(Value::Nil, 3)]),
            range(8, 9, vec![at(text("?"), 4)]),
            range(8, 99_999, vec![at(text("a"), 1)]),
        ]);
        let named = |host: &str, port| Node { host: host.into(), port };
        let view = View::read(&answer, &named("h", 9));
        assert_eq!(view.ranges, [(0, 5, named("a", 1)), (6, 7, named("h", 3))]);
        assert_eq!(view.replicas, [named("b", 2)]);
    }
}
