//! The address of Redis and the login, as `REDIS_URL` has them:
//!
//! ```text
//! redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]                      one server; rediss:// with TLS
//! redis-cluster://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT],..          any nodes of a cluster; rediss-cluster://
//! redis-sentinel://[[USER]:PASSWORD@]HOST[:PORT],..[/MASTER][/DATABASE] sentinels; rediss-sentinel://
//! ```
//!
//! Ports default to 6379, those of sentinels to 26379. Parameters, after `?` and separated by `&`:
//!
//! - `ca=/PATH/TO/FILE.pem`: with TLS, trust these certificates in place of the system's.
//! - `master=NAME`: the name under which the sentinels know the servers. It may also be in the path.
//! - `sentinel_user=`, `sentinel_password=`: for the sentinels themselves, where they ask for a login.
//!
//! A user or password with one of `@ / ? # % : ,` has it percent-encoded.

use std::fmt;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

const DEFAULT_PORT: u16 = 6_379;

const DEFAULT_SENTINEL_PORT: u16 = 26_379;

/// Parameters of other Redis clients. A URL with one of these names is not taken for a password with a `?`.
const OTHERS_PARAMETERS: [&str; 15] = [
    "family",
    "db",
    "protocol",
    "password",
    "username",
    "user",
    "tls",
    "ssl",
    "ssl_cert_reqs",
    "timeout",
    "connectTimeout",
    "client_name",
    "sentinelMasterId",
    "maxRetriesPerRequest",
    "keyPrefix",
];

/// A parsed `REDIS_URL`. Printing it shows no login.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// How the servers form one deployment.
    pub topology: Topology,
    /// Servers, or with [`Topology::Sentinel`] the sentinels; at least one, and with [`Topology::Standalone`] exactly one.
    pub nodes: Vec<Node>,
    /// Whether connections are encrypted, and which certificates are trusted.
    pub tls: Option<Tls>,
    /// The login at the servers.
    pub login: Login,
    /// The number of the database; 0 on a cluster.
    pub database: u8,
}

/// How the servers form one deployment.
#[derive(Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server, or a name that leads to the present primary.
    Standalone,
    /// A cluster, found through any of its nodes.
    Cluster,
    /// The primary that sentinels name.
    Sentinel {
        /// The name under which the sentinels know the servers.
        master: String,
        /// The login at the sentinels.
        login: Login,
    },
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// A name or an address, an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Encryption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The PEM file of the certificates to trust; `None` for the system's.
    pub ca: Option<PathBuf>,
}

/// A user and a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// `None` for the default user.
    pub username: Option<String>,
    /// The password; `None` if none is asked for.
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

/// The fault of a `REDIS_URL`. The text follows "REDIS_URL ", and never quotes a possible secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointError(String);

impl Endpoint {
    /// Parses a `REDIS_URL`.
    ///
    /// # Errors
    ///
    /// The URL does not have the form that the module's documentation shows.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(unknown_scheme)?;
        let (is_encrypted, kind) = match scheme {
            "redis" => (false, Kind::Standalone),
            "rediss" => (true, Kind::Standalone),
            "redis-cluster" => (false, Kind::Cluster),
            "rediss-cluster" => (true, Kind::Cluster),
            "redis-sentinel" => (false, Kind::Sentinel),
            "rediss-sentinel" => (true, Kind::Sentinel),
            _ => return Err(unknown_scheme()),
        };
        if rest.contains('#') {
            return wrong("must not have a fragment: write a # in a password as %23");
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let default_port = if kind == Kind::Sentinel { DEFAULT_SENTINEL_PORT } else { DEFAULT_PORT };
        let nodes: Vec<Node> = hosts.split(',').map(|host| parse_node(host, default_port)).collect::<Result<_, _>>()?;
        if kind == Kind::Standalone && nodes.len() > 1 {
            return wrong("names several hosts: use redis-cluster:// or redis-sentinel:// for those");
        }
        let login = parse_login(login)?;
        let parameters = Parameters::parse(query)?;
        parameters.check(is_encrypted, kind)?;
        let path = path.trim_end_matches('/');
        let (topology, database) = match kind {
            Kind::Standalone => (Topology::Standalone, parse_database(path)?),
            Kind::Cluster => match parse_database(path)? {
                0 => (Topology::Cluster, 0),
                _ => return wrong("names a database, but a cluster has only 0"),
            },
            Kind::Sentinel => {
                let (master, database) = parse_master(path, parameters.master)?;
                (Topology::Sentinel { master, login: parameters.sentinel_login }, database)
            }
        };
        Ok(Self { topology, nodes, tls: is_encrypted.then_some(Tls { ca: parameters.ca }), login, database })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Standalone,
    Cluster,
    Sentinel,
}

#[derive(Default)]
struct Parameters {
    ca: Option<PathBuf>,
    master: Option<String>,
    sentinel_login: Login,
}

impl Parameters {
    fn parse(query: &str) -> Result<Self, EndpointError> {
        let mut parameters = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match name.as_ref() {
                _ if value.is_empty() => return wrong("has a parameter without a value"),
                "ca" => parameters.ca = Some(value.into()),
                "master" => parameters.master = Some(value),
                "sentinel_user" => parameters.sentinel_login.username = Some(value),
                "sentinel_password" => parameters.sentinel_login.password = Some(value),
                known if OTHERS_PARAMETERS.contains(&known) => {
                    return wrong(&format!(
                        "has the parameter {known}, which other programs know: here it may have ca, master, sentinel_user \
                         and sentinel_password",
                    ));
                }
                // The name is not quoted: if the `?` belongs to a password, the name is a part of the password.
                _ => {
                    return wrong(
                        "has an unknown parameter: it may have ca, master, sentinel_user and sentinel_password (write \
                         a ? in a password as %3F)",
                    );
                }
            }
        }
        Ok(parameters)
    }

    fn check(&self, is_encrypted: bool, kind: Kind) -> Result<(), EndpointError> {
        if self.ca.is_some() && !is_encrypted {
            return wrong("has the parameter ca, which only TLS uses: write rediss:// with two s");
        }
        if kind != Kind::Sentinel && (self.master.is_some() || self.sentinel_login != Login::default()) {
            return wrong("has a parameter that only redis-sentinel:// uses");
        }
        Ok(())
    }
}

fn parse_node(text: &str, default_port: u16) -> Result<Node, EndpointError> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("none"))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|port| *port != 0));
    match port {
        Some(port) if !host.is_empty() => Ok(Node { host: host.into(), port }),
        _ => wrong("must name each host as HOST or HOST:PORT, the port from 1 to 65535"),
    }
}

fn parse_login(text: &str) -> Result<Login, EndpointError> {
    let (username, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(Some(text.into_owned()).filter(|text| !text.is_empty())),
        Err(_) => wrong("has a user or password that is not UTF-8"),
    };
    let login = Login { username: decode(username)?, password: decode(password)? };
    if login.username.is_some() && login.password.is_none() {
        return wrong("has a user without a password: it is USER:PASSWORD@HOST, or :PASSWORD@HOST");
    }
    Ok(login)
}

fn parse_database(path: &str) -> Result<u8, EndpointError> {
    match path {
        "" => Ok(0),
        path => path.parse().or_else(|_| wrong("must have nothing but the number of a database after the host")),
    }
}

/// `/MASTER/DATABASE`, both optional. The name may come as a parameter instead.
fn parse_master(path: &str, parameter: Option<String>) -> Result<(String, u8), EndpointError> {
    let (first, second) = path.split_once('/').unwrap_or((path, ""));
    match parameter {
        Some(master) => Ok((master, parse_database(path)?)),
        None if first.is_empty() || first.bytes().all(|byte| byte.is_ascii_digit()) => {
            wrong("must name what the sentinels watch: redis-sentinel://HOST:26379/mymaster")
        }
        None => match percent_decode_str(first).decode_utf8() {
            Ok(master) => Ok((master.into_owned(), parse_database(second)?)),
            Err(_) => wrong("has a master's name that is not UTF-8"),
        },
    }
}

fn unknown_scheme() -> EndpointError {
    EndpointError(
        "must be SCHEME://HOST:PORT, the scheme one of redis, rediss, redis-cluster, rediss-cluster, redis-sentinel, \
         rediss-sentinel"
            .into(),
    )
}

fn wrong<T>(text: &str) -> Result<T, EndpointError> {
    Err(EndpointError(text.into()))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.topology {
            Topology::Standalone => "",
            Topology::Cluster => "-cluster",
            Topology::Sentinel { .. } => "-sentinel",
        };
        write!(f, "redis{}{kind}://", if self.tls.is_some() { "s" } else { "" })?;
        for (index, node) in self.nodes.iter().enumerate() {
            write!(f, "{}{node}", if index > 0 { "," } else { "" })?;
        }
        if let Topology::Sentinel { master, .. } = &self.topology {
            write!(f, "/{master}")?;
        }
        if self.database > 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        Endpoint::parse(url).unwrap_or_else(|error| panic!("{url}: {error}")).to_string()
    }

    fn node(host: &str, port: u16) -> Node {
        Node { host: host.into(), port }
    }

    #[test]
    fn each_kind_is_read() {
        assert_eq!(shown("redis://localhost"), "redis://localhost:6379");
        assert_eq!(shown("redis://localhost:7000/"), "redis://localhost:7000");
        assert_eq!(shown("rediss://:p@[::1]:7000/3"), "rediss://[::1]:7000/3");
        assert_eq!(shown("redis://[::1]"), "redis://[::1]:6379");
        assert_eq!(shown("redis-cluster://a:1,b"), "redis-cluster://a:1,b:6379");
        assert_eq!(shown("rediss-cluster://a:1/0"), "rediss-cluster://a:1");
        assert_eq!(shown("redis-sentinel://a,b:2/main"), "redis-sentinel://a:26379,b:2/main");
        assert_eq!(shown("redis-sentinel://a:1/main/2"), "redis-sentinel://a:1/main/2");
        assert_eq!(shown("rediss-sentinel://a:1/2?master=main"), "rediss-sentinel://a:1/main/2");
    }

    #[test]
    fn logins_are_decoded_and_never_shown() {
        let endpoint =
            Endpoint::parse("redis-sentinel://an%40na:hun%2Fter2@h/main?sentinel_password=t%26op&sentinel_user=s")
                .unwrap();
        assert_eq!(endpoint.nodes, [node("h", 26_379)]);
        assert_eq!(endpoint.login.username.as_deref(), Some("an@na"));
        assert_eq!(endpoint.login.password.as_deref(), Some("hun/ter2"));
        let Topology::Sentinel { login, .. } = &endpoint.topology else { panic!("sentinels") };
        assert_eq!((login.username.as_deref(), login.password.as_deref()), (Some("s"), Some("t&op")));
        let shown = format!("{endpoint} {endpoint:?}");
        for secret in ["an@na", "hun", "ter2", "t&op"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let password_alone = Endpoint::parse("redis://:p@ss@h").unwrap();
        assert!(password_alone.login == Login { username: None, password: Some("p@ss".into()) });
    }

    #[test]
    fn the_file_of_certificates_is_a_parameter() {
        let endpoint = Endpoint::parse("rediss://h?ca=/etc/my%20ca.pem").unwrap();
        assert_eq!(endpoint.tls, Some(Tls { ca: Some("/etc/my ca.pem".into()) }));
        assert_eq!(Endpoint::parse("rediss://h").unwrap().tls, Some(Tls { ca: None }));
        assert_eq!(Endpoint::parse("redis://h").unwrap().tls, None);
    }

    #[test]
    fn what_is_wrong_is_said_without_quoting_it() {
        for (url, about) in [
            ("hunter2", "scheme"),
            ("http://hunter2", "scheme"),
            ("redis://", "HOST"),
            ("redis://:hunter2@", "HOST"),
            ("redis://h:hunter2", "the port"),
            ("redis://h:0", "the port"),
            ("redis://[::1]hunter2", "the port"),
            ("redis://a,hunter2", "several hosts"),
            ("redis://hunter2@h", "without a password"),
            ("redis://h/hunter2", "the number of a database"),
            ("redis://h/256", "the number of a database"),
            ("redis-cluster://h/1", "has only 0"),
            ("redis-sentinel://h", "what the sentinels watch"),
            ("redis-sentinel://h/1", "what the sentinels watch"),
            ("redis-sentinel://h/main/hunter2", "the number of a database"),
            ("redis://h?hunter2=1", "unknown parameter"),
            ("redis://h?family=0", "the parameter family"),
            ("redis://h?ca=", "without a value"),
            ("redis://h?ca=/hunter2", "rediss://"),
            ("redis://h?master=hunter2", "redis-sentinel://"),
            ("redis://:p#hunter2@h", "%23"),
        ] {
            let error = Endpoint::parse(url).expect_err(url).to_string();
            assert!(error.contains(about), "{url}: {error}");
            assert!(!error.contains("hunter2"), "{url}: {error}");
        }
    }
}
