//! Signatures between nodes: on the ids of polling sessions, and on the addresses at which nodes are reached.
//!
//! The key is derived from `JWT_SECRET`, which all nodes have and Redis does not. So a program that writes to Redis
//! cannot invent a node or divert a client's requests. A signature with the key of `JWT_SECRET_PREVIOUS` is accepted,
//! too, so that nodes understand each other while the secret changes. Without a `JWT_SECRET` (tokens are checked by a
//! key set), each process signs with a random key: it knows its own sessions, and takes the addresses of other nodes on
//! trust.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use crate::random::{self, NoRandomBytes};

/// Makes this key differ from the key of tokens: no signature of a node is ever a valid signature of a token.
const DERIVED_FOR: &[u8] = b"slotcast: what nodes tell each other";

/// The length of a random key.
const OWN_KEY_BYTES: usize = 32;

/// The shortest signature that is compared, in hexadecimal digits: 64 bits.
const SHORTEST: usize = 16;

/// The key of this node. Its `Debug` text never shows it.
pub struct NodeKey {
    key: Key,
    /// The previous key, which accepts signatures and makes none.
    previous: Option<Key>,
    is_shared: bool,
}

impl NodeKey {
    /// The key that all nodes with this secret have.
    pub fn shared(secret: &[u8]) -> Self {
        Self { key: derive(secret), previous: None, is_shared: true }
    }

    /// The same key, which also accepts what is signed with the key of the previous secret.
    pub fn with_previous(self, secret: &[u8]) -> Self {
        Self { previous: Some(derive(secret)), ..self }
    }

    /// A random key, which no other process has.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn own() -> Result<Self, NoRandomBytes> {
        let secret = random::bytes::<OWN_KEY_BYTES>()?;
        Ok(Self { key: derive(&secret), previous: None, is_shared: false })
    }

    /// Whether other nodes sign with the same key, so that this node can check what they say.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Signs words for one purpose. The signature has 64 hexadecimal digits.
    pub fn sign(&self, purpose: &str, words: &[&str]) -> String {
        sign_words(&self.key, purpose, words)
    }

    /// Whether `signature` is the signature of these words, or at least its first 16 digits.
    pub fn is_signed(&self, purpose: &str, words: &[&str], signature: &str) -> bool {
        let keys = [Some(&self.key), self.previous.as_ref()].into_iter().flatten();
        signature.len() >= SHORTEST
            && keys.map(|key| sign_words(key, purpose, words)).any(|expected| begins_with(&expected, signature))
    }
}

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeKey").field("is_shared", &self.is_shared).finish_non_exhaustive()
    }
}

fn sign_words(key: &Key, purpose: &str, words: &[&str]) -> String {
    let mut message = purpose.to_owned();
    for word in words {
        // A length stands before each word, so that no two lists of words are the same message.
        message.push_str(&format!("\n{} {word}", word.len()));
    }
    hexadecimal(sign(key, message.as_bytes()).as_ref())
}

/// Compares in the same time for every signature of one length.
fn begins_with(expected: &str, signature: &str) -> bool {
    let expected = expected.as_bytes().get(..signature.len());
    expected.is_some_and(|expected| verify_slices_are_equal(expected, signature.as_bytes()).is_ok())
}

fn derive(secret: &[u8]) -> Key {
    let derived = sign(&Key::new(HMAC_SHA256, secret), DERIVED_FOR);
    Key::new(HMAC_SHA256, derived.as_ref())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_one_secret_check_each_other_and_nobody_else_can() {
        let (one, other) = (NodeKey::shared(&[7; 32]), NodeKey::shared(&[7; 32]));
        let signed = one.sign("address", &["node", "10.0.0.1:3000"]);
        assert_eq!(signed.len(), 64);
        assert!(other.is_signed("address", &["node", "10.0.0.1:3000"], &signed));
        assert!(other.is_signed("address", &["node", "10.0.0.1:3000"], &signed[..16]));
        assert!(!other.is_signed("address", &["node", "10.0.0.1:3000"], &signed[..15]), "too short");
        assert!(!other.is_signed("address", &["node", "10.0.0.1:3000"], &format!("{signed}0")));
        assert!(!other.is_signed("address", &["node", "10.0.0.2:3000"], &signed));
        assert!(!other.is_signed("session", &["node", "10.0.0.1:3000"], &signed));
        assert!(!other.is_signed("address", &["node1", "0.0.0.1:3000"], &signed));
        assert!(!NodeKey::shared(&[8; 32]).is_signed("address", &["node", "10.0.0.1:3000"], &signed));
        let (old, new) = (NodeKey::shared(&[7; 32]), NodeKey::shared(&[9; 32]).with_previous(&[7; 32]));
        assert!(new.is_signed("address", &["node"], &old.sign("address", &["node"])));
        assert!(!old.is_signed("address", &["node"], &new.sign("address", &["node"])), "nothing is signed with it");
        assert!(old.with_previous(&[9; 32]).is_signed("address", &["node"], &new.sign("address", &["node"])));
        let own = NodeKey::own().unwrap();
        assert!(own.is_signed("a", &[], &own.sign("a", &[])));
        assert!(!NodeKey::own().unwrap().is_signed("a", &[], &own.sign("a", &[])));
    }
}
