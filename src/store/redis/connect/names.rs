//! Looks a host name up again and again. If a failover moves the name to another server, no node may stay connected to
//! the old server.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;

use super::aim::{Aim, Target};
use crate::store::redis::endpoint::Node;

/// How often a name is looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(2);

/// How long one lookup may take.
const LOOK_UP_TIME: Duration = Duration::from_millis(1_500);

/// How many lookups in a row must miss an address before its connection is given up. Some names give only a part of their
/// addresses at a time.
const LOOKS_WITHOUT: u32 = 2;

/// The server under one name. The name is looked up in the background as long as somebody listens.
pub(super) fn follow(node: Node) -> watch::Receiver<Aim> {
    if node.host.parse::<IpAddr>().is_ok() {
        return watch::channel(Aim::At(Target::fixed(node))).1;
    }
    let (aim, listener) = watch::channel(Aim::Unknown { failure: None });
    tokio::spawn(look_up_for_ever(node, aim));
    listener
}

async fn look_up_for_ever(node: Node, aim: watch::Sender<Aim>) {
    let mut known = Known::default();
    while !aim.is_closed() {
        match look_up(&node).await {
            Ok(addresses) => {
                let target = Target { node: node.clone(), addresses: known.learn(&addresses) };
                aim.send_if_modified(|old| replace(old, Aim::At(target)));
            }
            // The last known addresses are all that there is.
            Err(error) if known.is_empty() => {
                let why = format!("cannot look up {}: {error}", node.host);
                aim.send_if_modified(|old| replace(old, Aim::Unknown { failure: Some(why.into()) }));
            }
            Err(_) => {}
        }
        let pause = if known.is_empty() { LOOK_UP_EVERY / 10 } else { LOOK_UP_EVERY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = aim.closed() => return,
        }
    }
}

fn replace(old: &mut Aim, new: Aim) -> bool {
    let is_new = *old != new;
    *old = new;
    is_new
}

/// The addresses of a name, at least one.
///
/// # Errors
///
/// The name leads nowhere, or the answer takes too long.
pub(super) async fn look_up(node: &Node) -> io::Result<Vec<SocketAddr>> {
    let looking = tokio::net::lookup_host((node.host.as_str(), node.port));
    let found = tokio::time::timeout(LOOK_UP_TIME, looking).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addresses) }
}

/// The addresses that a name had lately, each with the number of lookups that have missed it since.
#[derive(Default)]
struct Known(HashMap<SocketAddr, u32>);

impl Known {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the result of a lookup. Answers the usable addresses, those of this lookup first.
    fn learn(&mut self, found: &[SocketAddr]) -> Vec<SocketAddr> {
        self.0.values_mut().for_each(|looks| *looks += 1);
        self.0.extend(found.iter().map(|address| (*address, 0)));
        self.0.retain(|_, looks| *looks < LOOKS_WITHOUT);
        let mut addresses: Vec<(u32, SocketAddr)> = self.0.iter().map(|(address, looks)| (*looks, *address)).collect();
        addresses.sort_unstable();
        addresses.into_iter().map(|(_, address)| address).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_left_when_two_looks_miss_it() {
        let [old, new] = ["127.0.0.1:1", "127.0.0.2:1"].map(|text| text.parse::<SocketAddr>().unwrap());
        let mut known = Known::default();
        assert_eq!(known.learn(&[old]), [old]);
        // Connections go to the new address first, and the old one is not given up yet.
        assert_eq!(known.learn(&[new]), [new, old]);
        assert_eq!(known.learn(&[new]), [new]);
        // The name now gives one of its addresses at a time.
        assert_eq!(known.learn(&[old]), [old, new]);
        assert_eq!(known.learn(&[new]), [new, old]);
        assert_eq!(known.learn(&[old]), [old, new]);
    }
}
