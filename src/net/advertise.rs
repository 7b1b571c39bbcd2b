//! Finds the address at which other nodes reach this one if the operator named none. A node that listens on all addresses
//! must name one of them, and platforms give an instance its address only when it starts.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

/// The private address of a Machine on Fly, which that platform puts into the environment.
const FLY_PRIVATE_IP: &str = "FLY_PRIVATE_IP";

/// The address of a listener for the other nodes. A listener on one address has that address. A listener on all
/// addresses has the one that Fly gave this machine, or else the one from which this machine reaches the shared store
/// (`HOST`, `PORT`). `None` if neither exists. This may wait until the store's name is resolved.
pub fn find_address(
    listener: SocketAddr,
    store: Option<(&str, u16)>,
    environment: impl Fn(&str) -> Option<String>,
) -> Option<SocketAddr> {
    if !listener.ip().is_unspecified() {
        return Some(listener);
    }
    let given = environment(FLY_PRIVATE_IP).and_then(|text| text.parse::<IpAddr>().ok());
    let is_served = |ip: &IpAddr| ip.is_ipv4() || listener.is_ipv6();
    let ip = given.filter(is_served).or_else(|| address_towards(store?, is_served))?;
    Some(SocketAddr::new(ip, listener.port()))
}

/// The address that this machine uses towards a server. Nothing is sent: the system only picks the route.
fn address_towards(server: (&str, u16), is_served: impl Fn(&IpAddr) -> bool) -> Option<IpAddr> {
    let mut targets = server.to_socket_addrs().ok()?;
    targets.find_map(|target| {
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(target).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        is_served(&ip).then_some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(listener: &str, store: Option<(&str, u16)>, fly: Option<&str>) -> Option<String> {
        let environment = |name: &str| (name == FLY_PRIVATE_IP).then(|| fly.map(str::to_owned)).flatten();
        find_address(listener.parse().unwrap(), store, environment).map(|address| address.to_string())
    }

    #[test]
    fn an_address_of_its_own_is_told_as_it_is() {
        let fly = Some("fdaa::7");
        assert_eq!(find("10.0.0.7:3000", Some(("127.0.0.1", 6379)), fly).as_deref(), Some("10.0.0.7:3000"));
    }

    #[test]
    fn one_on_all_addresses_is_reached_as_it_reaches_the_store() {
        let store = Some(("127.0.0.1", 6379));
        assert_eq!(find("0.0.0.0:3000", store, None).as_deref(), Some("127.0.0.1:3000"));
        assert_eq!(find("[::]:3000", store, None).as_deref(), Some("127.0.0.1:3000"));
        assert_eq!(find("0.0.0.0:3000", None, None), None);
    }

    #[test]
    fn fly_names_the_address() {
        let store = Some(("127.0.0.1", 6379));
        assert_eq!(find("[::]:3000", store, Some("fdaa::7")).as_deref(), Some("[fdaa::7]:3000"));
        assert_eq!(find("0.0.0.0:3000", store, Some("fdaa::7")).as_deref(), Some("127.0.0.1:3000"), "not served there");
        assert_eq!(find("[::]:3000", store, Some("nowhere")).as_deref(), Some("127.0.0.1:3000"));
    }
}
