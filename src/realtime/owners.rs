//! The addresses of the nodes that have polling sessions, so that polling works without sticky sessions.
//!
//! A session's id names its node ([`super::engine_ids`]). A request that reaches another node is sent on to the named
//! node, at the address in that node's lease. A request may carry a token, so an address is used only if the node
//! itself has signed it. Otherwise a program that writes to Redis could have tokens sent elsewhere. A session that
//! begins on a websocket needs none of this.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::app::App;
use crate::auth::NodeKey;
use crate::clock;
use crate::net::proxy::Proxy;
use crate::store::{NodeReport, StoreError};

/// How long the other nodes' addresses are remembered.
const ADDRESSES_LAST: Duration = Duration::from_secs(2);

/// How soon the addresses are read again for a node that is missing among them. It may have started since.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(250);

const PURPOSE: &str = "address";

/// The known addresses of other nodes.
pub struct Owners {
    key: Arc<NodeKey>,
    pub(super) proxy: Proxy,
    /// Held during a read of the addresses, so that one request reads them for all.
    known: Mutex<Option<Addresses>>,
}

struct Addresses {
    read: Instant,
    of_nodes: HashMap<String, String>,
}

/// A node's signature of its own address; `None` if nodes share no key.
pub fn prove_address(key: &NodeKey, node_id: &str, address: &str) -> Option<String> {
    key.is_shared().then(|| key.sign(PURPOSE, &[node_id, address]))
}

impl Owners {
    /// Starts without any addresses.
    pub fn new(key: Arc<NodeKey>) -> Self {
        Self { key, proxy: Proxy::default(), known: Mutex::default() }
    }

    /// The address of a live node; `None` if there is no such node, or if it has not signed its address. While the store
    /// does not answer, this is the last known address.
    pub(super) async fn address_of(&self, app: &App, node_id: &str) -> Result<Option<String>, StoreError> {
        let now = clock::instant();
        let mut known = self.known.lock().await;
        if let Some(Addresses { read, of_nodes }) = &*known {
            let address = of_nodes.get(node_id);
            let lasts = if address.is_some() { ADDRESSES_LAST } else { READ_AGAIN_AFTER };
            if now.saturating_duration_since(*read) < lasts {
                return Ok(address.cloned());
            }
        }
        match app.store.nodes().await {
            Ok(nodes) => {
                let of_nodes: HashMap<String, String> =
                    nodes.into_iter().filter(|node| self.is_proven(node)).map(|node| (node.id, node.address)).collect();
                let address = of_nodes.get(node_id).cloned();
                *known = Some(Addresses { read: clock::instant(), of_nodes });
                Ok(address)
            }
            Err(error) => match known.as_ref().and_then(|known| known.of_nodes.get(node_id)) {
                Some(address) => Ok(Some(address.clone())),
                None => Err(error),
            },
        }
    }

    fn is_proven(&self, node: &NodeReport) -> bool {
        let is_proven = || {
            let proof = node.proof.as_deref().unwrap_or_default();
            self.key.is_signed(PURPOSE, &[&node.id, &node.address], proof)
        };
        !self.key.is_shared() || is_proven()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Attack 6.
    #[test]
    fn only_an_address_that_its_node_has_signed_is_believed() {
        let key = Arc::new(NodeKey::shared(&[7; 32]));
        let owners = Owners::new(key.clone());
        let node = |address: &str, proof: Option<String>| NodeReport {
            id: "a1".into(),
            address: address.into(),
            proof,
            version: String::new(),
            started_at: String::new(),
            sockets: 0,
            users: 0,
            rooms: Default::default(),
        };
        let proof = prove_address(&key, "a1", "10.0.0.1:3000");
        assert!(owners.is_proven(&node("10.0.0.1:3000", proof.clone())));
        assert!(!owners.is_proven(&node("10.6.6.6:3000", proof)));
        assert!(!owners.is_proven(&node("10.0.0.1:3000", None)));
        assert!(
            !owners.is_proven(&node("10.0.0.1:3000", prove_address(&NodeKey::shared(&[8; 32]), "a1", "10.0.0.1:3000")))
        );
        let alone = NodeKey::own().unwrap();
        assert_eq!(prove_address(&alone, "a1", "10.0.0.1:3000"), None);
        assert!(Owners::new(Arc::new(alone)).is_proven(&node("10.0.0.1:3000", None)));
    }
}
