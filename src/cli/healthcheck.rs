//! `slotcast healthcheck`: asks the node on this machine for its health, for a container's health check. The image has no
//! shell and no other HTTP client.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::config::ListenConfig;

/// What to ask, and how long to wait.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct HealthcheckArgs {
    /// The path that must answer 200: /healthz (alive) or /readyz (serves now)
    #[arg(long, default_value = "/healthz", value_parser = parse_path)]
    pub path: String,
    /// How many seconds each step may take
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    pub timeout: u64,
}

/// Asks the node that listens at the configured address. Succeeds if the node answers 200.
///
/// # Errors
///
/// The node cannot be reached, or answers another status, which the error names.
pub fn healthcheck(listen: &ListenConfig, args: &HealthcheckArgs) -> anyhow::Result<()> {
    let address = reachable(listen.address);
    let status = ask(address, args).with_context(|| format!("no node answers on {address} (HOST, PORT)"))?;
    anyhow::ensure!(status == 200, "the node on {address} answers {status} to {}", args.path);
    Ok(())
}

/// The address under which this machine reaches a listener. A listener on all addresses is reached over loopback.
fn reachable(mut listener: SocketAddr) -> SocketAddr {
    if listener.ip().is_unspecified() {
        listener.set_ip(match listener.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listener
}

/// The status of the answer.
fn ask(address: SocketAddr, args: &HealthcheckArgs) -> anyhow::Result<u16> {
    let timeout = Duration::from_secs(args.timeout);
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // The request is sent in one piece, because a server that answers at once may close the connection before a second
    // piece comes.
    let request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n", args.path);
    stream.write_all(request.as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    status_of(&line).with_context(|| format!("the answer {line:?} is not HTTP"))
}

/// `HTTP/1.1 200 OK`
fn status_of(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn parse_path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_graphic();
    let is_path = text.starts_with('/') && text.bytes().all(is_plain);
    if is_path { Ok(text.into()) } else { Err("a path begins with / and has no spaces".into()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Starts a server that answers one request with `answer`. Joining the thread gives the request's first line.
    fn answer_once(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines: Vec<String> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).unwrap();
            lines[0].clone()
        });
        (address, asked)
    }

    fn args(path: &str) -> HealthcheckArgs {
        HealthcheckArgs { path: path.into(), timeout: 5 }
    }

    #[test]
    fn the_status_is_that_of_the_answer() {
        let (address, asked) = answer_once("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(ask(address, &args("/readyz")).unwrap(), 503);
        assert_eq!(asked.join().unwrap(), "GET /readyz HTTP/1.1");
    }

    #[test]
    fn what_is_no_http_is_no_answer() {
        let (address, _) = answer_once("+PONG\r\n");
        assert!(ask(address, &args("/healthz")).unwrap_err().to_string().contains("+PONG"));
        let (address, _) = answer_once("");
        assert!(ask(address, &args("/healthz")).is_err());
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_the_loopback() {
        for (listener, expected) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.7:80", "10.0.0.7:80")]
        {
            assert_eq!(reachable(listener.parse().unwrap()), expected.parse().unwrap());
        }
    }

    #[test]
    fn a_path_cannot_carry_another_header() {
        assert!(parse_path("/readyz").is_ok());
        for bad in ["", "readyz", "/a b", "/a\r\nb"] {
            assert!(parse_path(bad).is_err(), "{bad:?}");
        }
    }
}
