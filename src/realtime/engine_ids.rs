//! The id by which a client names its polling session. It names the node that has the session, and it is signed.
//!
//! The library's own id does not tell where its session lives, and it is also the socket's public id. The gate appends the
//! node and a signature to the id that the client is told, and removes them from the id that the client sends. So any node
//! finds the session's node without asking Redis, and recognizes an invented id at once. Knowing a socket's public id is
//! not enough to poll for it.

use std::sync::Arc;

use crate::auth::NodeKey;

/// The length of the library's id: 96 bits in base64.
const ENGINE_ID: usize = 16;

/// How long a node's id is, in hexadecimal digits.
const NODE_ID: usize = 16;

/// How much of the signature an id carries, in hexadecimal digits.
const SIGNATURE: usize = 24;

const PURPOSE: &str = "session";

/// Makes and reads the ids that clients know.
pub struct EngineIds {
    node_id: String,
    key: Arc<NodeKey>,
}

/// A session as a client named it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A session of this node, by the library's id.
    Own(String),
    /// A session of the node with this id.
    Of(String),
}

impl EngineIds {
    /// Ids for the sessions of a node whose id has 16 hexadecimal digits.
    pub fn new(node_id: String, key: Arc<NodeKey>) -> Self {
        Self { node_id, key }
    }

    /// The id that this node tells the client of one of its sessions.
    pub(super) fn name(&self, engine_id: &str) -> String {
        let signature = self.key.sign(PURPOSE, &[engine_id, &self.node_id]);
        format!("{engine_id}{}{}", self.node_id, &signature[..SIGNATURE])
    }

    /// The session that an id names; `None` for an id that no node has made. Without a shared key the ids of other nodes
    /// are believed, and the other node checks them.
    pub(super) fn read(&self, sid: &str) -> Option<Named> {
        if sid.len() != ENGINE_ID + NODE_ID + SIGNATURE || !sid.is_ascii() {
            return None;
        }
        let (engine_id, rest) = sid.split_at(ENGINE_ID);
        let (node_id, signature) = rest.split_at(NODE_ID);
        let is_own = node_id == self.node_id;
        if (is_own || self.key.is_shared()) && !self.key.is_signed(PURPOSE, &[engine_id, node_id], signature) {
            return None;
        }
        Some(if is_own { Named::Own(engine_id.to_owned()) } else { Named::Of(node_id.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(node_id: &str, key: NodeKey) -> EngineIds {
        EngineIds::new(node_id.to_owned(), Arc::new(key))
    }

    // Attack 5: no other node is asked about an invented id.
    #[test]
    fn an_id_names_its_node_and_cannot_be_invented() {
        let (one, other) =
            (ids("00000000000000a1", NodeKey::shared(&[7; 32])), ids("00000000000000b2", NodeKey::shared(&[7; 32])));
        let sid = one.name("abcdefghijklmno-");
        assert_eq!(one.read(&sid), Some(Named::Own("abcdefghijklmno-".into())));
        assert_eq!(other.read(&sid), Some(Named::Of("00000000000000a1".into())));
        let forged = format!("{}{}", &sid[..32], "0".repeat(24));
        for bad in [
            "",
            "abcdefghijklmno-",
            &forged,
            &sid[1..],
            &format!("{sid}0"),
            &sid.replace("abc", "abd"),
            &"é".repeat(28),
        ] {
            assert_eq!((one.read(bad), other.read(bad)), (None, None), "{bad}");
        }
    }

    #[test]
    fn without_a_shared_key_other_nodes_are_believed_and_this_one_is_not_fooled() {
        let (one, other) =
            (ids("00000000000000a1", NodeKey::own().unwrap()), ids("00000000000000b2", NodeKey::own().unwrap()));
        let sid = one.name("abcdefghijklmno-");
        assert_eq!(other.read(&sid), Some(Named::Of("00000000000000a1".into())));
        assert_eq!(one.read(&other.name("abcdefghijklmno-").replace("b2", "a1")), None);
    }
}
