//! Checks the Redis that a node is about to use. Each finding is one plain line, for the log and for `slotcast
//! check-config`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind};

use super::call::refuses_writes;
use super::connect::Commands;
use super::endpoint::{Endpoint, Topology};
use super::formats;
use super::keys::{channel, channel_prefix};
use crate::domain::Bucket;
use crate::store::finding::{Finding, Severity};
use crate::store::{StoreError, Topic};

/// The oldest version that runs the scripts.
const OLDEST: (u32, u32) = (7, 0);

/// Tries every command and channel kind.
const SCRIPT: &str = include_str!("lua/check.lua");

static SCRIPT_HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// The result of the checks.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The findings, one line each, including good news.
    pub findings: Vec<Finding>,
    /// Whether scripts can tell that the server was replaced or restored, so that no version is issued twice.
    pub is_fenced: bool,
    /// Whether a server is too old for the scripts, or the data too new. Then nothing would work.
    pub is_too_old: bool,
}

/// Checks the servers of an endpoint, each server of a cluster. `prefix` is the beginning of all names of keys and
/// channels.
/// # Errors
///
/// A server does not answer.
pub async fn check(commands: &Commands, endpoint: &Endpoint, prefix: &str) -> Result<Checked, StoreError> {
    let mut checked = Checked { findings: Vec::new(), is_fenced: true, is_too_old: false };
    check_servers(commands, endpoint, &mut checked).await.map_err(unreachable)?;
    if checked.is_too_old {
        return Ok(checked);
    }
    check_settings(commands, &mut checked).await.map_err(unreachable)?;
    check_rights(commands, prefix, &mut checked).await.map_err(unreachable)?;
    check_subscribing(commands, prefix, &mut checked).await?;
    if let Some(Some(finding)) = unless_refused(formats::check(commands, prefix).await).map_err(unreachable)? {
        // A format that is not known counts like a server that is too old, because no script would work.
        checked.is_too_old |= finding.severity == Severity::Error;
        checked.findings.push(finding);
    }
    Ok(checked)
}

/// Checks the server that `REDIS_URL` names, for `slotcast check-config`. A server that cannot be reached is one of the
/// findings.
pub async fn check_url(url: &str, prefix: &str) -> Vec<Finding> {
    let error = |text: String| vec![Finding { severity: Severity::Error, text }];
    let endpoint = match Endpoint::parse(url) {
        Ok(endpoint) => endpoint,
        Err(wrong) => return error(format!("REDIS_URL {wrong}")),
    };
    let checked = match Commands::start(&endpoint) {
        Ok(commands) => check(&commands, &endpoint, prefix).await,
        Err(failure) => return error(failure.0),
    };
    match checked {
        Ok(checked) => checked.findings,
        Err(failure) => error(describe_unreachable(&endpoint, &failure)),
    }
}

/// What to tell an operator whose Redis does not answer.
pub fn describe_unreachable(endpoint: &Endpoint, failure: &StoreError) -> String {
    format!(
        "{endpoint} does not answer as it should: {failure}. Is it running, can it be reached from here, and are host, \
         port, user and password in REDIS_URL right?"
    )
}

impl Checked {
    fn add(&mut self, severity: Severity, text: String) {
        self.findings.push(Finding { severity, text });
    }
}

/// Checks what each server tells about itself.
async fn check_servers(commands: &Commands, endpoint: &Endpoint, checked: &mut Checked) -> RedisResult<()> {
    let Some(servers) = unless_refused(commands.ask_primaries::<String>(&redis::cmd("INFO")).await)? else {
        checked.add(
            Severity::Warning,
            format!("{endpoint}: INFO is refused, so its version and its persistence are not known"),
        );
        return Ok(());
    };
    for (server, info) in servers {
        check_server(&server, &Info::parse(&info), endpoint, checked);
    }
    Ok(())
}

fn check_server(server: &str, info: &Info<'_>, endpoint: &Endpoint, checked: &mut Checked) {
    let version = info.get("redis_version");
    if is_too_old(version) {
        checked.is_too_old = true;
        let text = format!(
            "{server} is Redis {version}, which does not run the scripts of slotcast: use Redis 7.0 or newer, or Valkey"
        );
        return checked.add(Severity::Error, text);
    }
    // Valkey's `redis_version` is the last version of Redis that it is compatible with.
    let shown = match info.get("valkey_version") {
        "" => format!("Redis {version}"),
        version => format!("Valkey {version}"),
    };
    checked.add(Severity::Good, format!("{server} is {shown}"));
    if info.get("redis_mode") == "cluster" && endpoint.topology != Topology::Cluster {
        let text = format!(
            "{server} is a node of a cluster, which has only a part of the keys: begin REDIS_URL with redis-cluster:// \
             (with TLS rediss-cluster://)"
        );
        checked.add(Severity::Error, text);
    }
    check_keeping(server, info, checked);
}

/// Checks whether the server forgets data.
fn check_keeping(server: &str, info: &Info<'_>, checked: &mut Checked) {
    let policy = info.get("maxmemory_policy");
    if !matches!(policy, "noeviction" | "") {
        checked.add(
            Severity::Error,
            format!(
                "{server} has maxmemory-policy {policy}: when memory is short it deletes holds and bookings; set noeviction"
            ),
        );
    }
    if info.get("aof_enabled") == "0" {
        // Replicas keep what a restart of one server forgets, unless all restart.
        let severity = if info.number("connected_slaves") > 0 { Severity::Warning } else { Severity::Error };
        checked.add(severity, format!("{server} has no AOF: it forgets bookings when it restarts; set appendonly yes"));
    }
}

/// Checks settings that only CONFIG tells.
async fn check_settings(commands: &Commands, checked: &mut Checked) -> RedisResult<()> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(&["appendonly", "appendfsync", "min-replicas-to-write"]);
    let answers = commands.ask_primaries::<BTreeMap<String, String>>(&command).await;
    let Some(servers) = unless_refused(answers)? else {
        checked.add(
            Severity::Warning,
            "CONFIG is refused, as managed Redis often does. So appendfsync (best: always) and min-replicas-to-write \
             (best: 1 where there are replicas) cannot be checked"
                .into(),
        );
        return Ok(());
    };
    let replicas = count_replicas(commands).await?;
    for (server, settings) in servers {
        let get = |name: &str| settings.get(name).map(String::as_str).unwrap_or_default();
        if get("appendonly") == "yes" && get("appendfsync") != "always" {
            checked.add(
                Severity::Warning,
                format!(
                    "{server} has appendfsync {}: a crash may lose the last seconds of bookings; set appendfsync always",
                    get("appendfsync")
                ),
            );
        }
        if get("min-replicas-to-write") == "0" && replicas.get(&server).is_some_and(|count| *count > 0) {
            checked.add(
                Severity::Warning,
                format!(
                    "{server} has replicas and min-replicas-to-write 0: cut off from them it takes bookings that a \
                     failover loses; set min-replicas-to-write 1"
                ),
            );
        }
    }
    Ok(())
}

async fn count_replicas(commands: &Commands) -> RedisResult<BTreeMap<String, u64>> {
    let answers = commands.ask_primaries::<String>(redis::cmd("INFO").arg("replication")).await;
    let servers = unless_refused(answers)?.unwrap_or_default();
    Ok(servers.into_iter().map(|(server, info)| (server, Info::parse(&info).number("connected_slaves"))).collect())
}

/// The rights of our user on one server.
#[derive(Debug, Default)]
pub(super) struct Rights {
    /// The refused commands, each with the server's words.
    pub(super) missing: BTreeMap<String, String>,
    /// The server's words if scripts may not use INFO.
    pub(super) info: Option<String>,
    /// The server's words if it takes no writes now.
    pub(super) writes: Option<String>,
}

impl Rights {
    /// Notes the outcome of a command; `None` if the server refused it.
    fn take<T>(&mut self, command: &str, answer: RedisResult<T>) -> RedisResult<Option<T>> {
        match answer {
            Err(error) if refuses_writes(&error) => {
                self.writes = Some(error.to_string());
                Ok(None)
            }
            answer => match unless_refused_with_words(answer)? {
                Ok(answer) => Ok(Some(answer)),
                Err(words) => {
                    self.missing.insert(command.to_owned(), words);
                    Ok(None)
                }
            },
        }
    }
}

/// Tries what a node needs on a bucket's server: a script with every command and kind of channel, run by its hash, and
/// another one that is sent whole.
pub(super) async fn try_rights(commands: &Commands, prefix: &str, bucket: Bucket) -> RedisResult<Rights> {
    let mut rights = Rights::default();
    let mut by_hash = run_script(commands, "EVALSHA", &SCRIPT_HASH, prefix, bucket).await;
    if by_hash.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
        by_hash = run_script(commands, "EVAL", SCRIPT, prefix, bucket).await;
        rights.take("EVAL", by_hash.as_ref().map(|_| ()).map_err(RedisError::clone))?;
    } else {
        let mut whole = redis::cmd("EVAL");
        whole.arg("return 1").arg(1).arg(format!("{prefix}:{{b{}}}:check", bucket.get()));
        rights.take("EVAL", query::<i64>(commands, &whole).await)?;
    }
    let refused = if rights.missing.contains_key("EVAL") { None } else { rights.take("EVALSHA", by_hash)? };
    // Each refused command is reported once, however often it was tried.
    for (command, words) in refused.unwrap_or_default() {
        match command.as_str() {
            "INFO" => rights.info = Some(words),
            _ => drop(rights.missing.insert(command, words)),
        }
    }
    Ok(rights)
}

async fn check_rights(commands: &Commands, prefix: &str, checked: &mut Checked) -> RedisResult<()> {
    let rights = try_rights(commands, prefix, Bucket::EVERYONE).await?;
    if let Some(words) = &rights.writes {
        // This may pass. A node that starts meanwhile waits until it does, and says so.
        checked.add(Severity::Warning, format!("Redis takes no writes now: {words}"));
    }
    for (command, words) in &rights.missing {
        let text = match command.as_str() {
            "EVAL" => format!("this user may not run scripts on the keys {prefix}:*: {words}"),
            "EVALSHA" => format!("this user may not use EVALSHA: {words}"),
            _ => format!("scripts of this user may not use {command}: {words}"),
        };
        checked.add(Severity::Error, text);
    }
    if let Some(words) = &rights.info {
        checked.is_fenced = false;
        checked.add(
            Severity::Warning,
            format!(
                "scripts may not use INFO replication ({words}), so that nodes cannot tell when Redis has lost writes in a \
                 failover or a restart: clients may then see versions that were used before"
            ),
        );
    }
    Ok(())
}

async fn run_script(
    commands: &Commands,
    command: &str,
    script: &str,
    prefix: &str,
    bucket: Bucket,
) -> RedisResult<Vec<(String, String)>> {
    let name = format!("{prefix}:{{b{}}}:check:{:016x}", bucket.get(), fastrand::u64(..));
    let mut command = redis::cmd(command);
    command.arg(script).arg(4);
    ["hash", "string", "zset", "stream"].iter().for_each(|kind| {
        command.arg(format!("{name}:{kind}"));
    });
    channels(&channel_prefix(prefix, database_of(commands))).iter().for_each(|channel| {
        command.arg(channel);
    });
    query(commands, &command).await
}

fn database_of(commands: &Commands) -> u8 {
    u8::try_from(commands.get_db()).unwrap_or_default()
}

/// The channel of bucket 0, and a space's channel that no space has: a space's numbers begin with 1.
fn channels(prefix: &str) -> [String; 2] {
    let bucket = channel(prefix, Topic::Bucket(Bucket::EVERYONE));
    let space = format!("{bucket}:0:0");
    [bucket, space]
}

async fn query<T: FromRedisValue>(commands: &Commands, command: &Cmd) -> RedisResult<T> {
    command.query_async(&mut commands.clone()).await
}

/// Subscribes to both kinds of channels on a connection of its own, and pings it as a node does.
async fn check_subscribing(commands: &Commands, prefix: &str, checked: &mut Checked) -> Result<(), StoreError> {
    let mut connection = commands.open_another().await.map_err(unreachable)?;
    if let Some(words) = try_subscribing(&mut connection, commands, prefix).await.map_err(unreachable)? {
        checked.add(Severity::Error, words);
        return Ok(());
    }
    let pinged = redis::cmd("PING").query_async::<()>(&mut connection).await;
    if pinged.as_ref().is_err_and(refuses_writes) {
        return Ok(());
    }
    if let Err(words) = unless_refused_with_words(pinged).map_err(unreachable)? {
        let text = format!("this user may not use PING, and a node needs it to hear of changes: {words}");
        checked.add(Severity::Error, text);
    }
    Ok(())
}

/// Subscribes to both kinds of channels, and ends that at once. Answers what is wrong.
pub(super) async fn try_subscribing(
    connection: &mut MultiplexedConnection,
    commands: &Commands,
    prefix: &str,
) -> RedisResult<Option<String>> {
    for channel in channels(&channel_prefix(prefix, database_of(commands))) {
        if let Err(words) = unless_refused_with_words(connection.subscribe(&channel).await)? {
            return Ok(Some(format!("this user may not subscribe to the channels {prefix}:*: {words}")));
        }
        if let Err(words) = unless_refused_with_words(connection.unsubscribe(&channel).await)? {
            return Ok(Some(format!("this user may not unsubscribe from the channels {prefix}:*: {words}")));
        }
    }
    Ok(None)
}

/// The answer; `None` if the server refused.
fn unless_refused<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    Ok(unless_refused_with_words(answer)?.ok())
}

/// The server's words if it refused; an error if it did not answer.
fn unless_refused_with_words<T>(answer: RedisResult<T>) -> RedisResult<Result<T, String>> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) => match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::ResponseError) | ErrorKind::Extension => {
                Ok(Err(words_of(&error)))
            }
            _ => Err(error),
        },
    }
}

fn words_of(error: &RedisError) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

fn unreachable(error: RedisError) -> StoreError {
    StoreError(error.to_string())
}

fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    // An unreadable version is not refused.
    parts.next().is_some_and(|major| (major, parts.next().unwrap_or(0)) < OLDEST)
}

/// The answer to INFO, as `name:value` lines.
struct Info<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Info<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    /// The value, or an empty text.
    fn get(&self, name: &str) -> &'a str {
        self.0.get(name).copied().unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (version, expected) in
            [("6.2.14", true), ("7.0.0", false), ("7.0.15", false), ("10.1", false), ("", false), ("unstable", false)]
        {
            assert_eq!(is_too_old(version), expected, "{version}");
        }
    }

    #[test]
    fn a_redis_that_cannot_serve_is_named() {
        let check = |url: &str, info: &str| {
            let mut checked = Checked { findings: Vec::new(), is_fenced: true, is_too_old: false };
            check_server("h:1", &Info::parse(info), &Endpoint::parse(url).unwrap(), &mut checked);
            let shown =
                checked.findings.iter().map(|finding| format!("{}: {}", finding.severity.as_str(), finding.text));
            (checked.is_too_old, shown.collect::<Vec<_>>())
        };
        let (is_too_old, lines) = check("redis://h", "redis_version:6.2.14\r\nredis_mode:standalone\r\n");
        assert!(
            is_too_old && lines.len() == 1 && lines[0].starts_with("error: h:1 is Redis 6.2.14, which"),
            "{lines:?}"
        );
        let valkey = "server_name:valkey\r\nredis_version:7.2.4\r\nvalkey_version:8.1.8\r\nredis_mode:cluster\r\n";
        assert_eq!(check("redis-cluster://h", valkey), (false, vec!["ok: h:1 is Valkey 8.1.8".to_owned()]));
        let (_, lines) = check("redis://h", valkey);
        assert!(lines[1].starts_with("error: h:1 is a node of a cluster"), "{lines:?}");
    }

    #[test]
    fn what_redis_forgets_is_said_as_badly_as_it_is() {
        let lines = |info: &str| {
            let mut checked = Checked { findings: Vec::new(), is_fenced: true, is_too_old: false };
            check_keeping("h:1", &Info::parse(info), &mut checked);
            checked.findings.into_iter().map(|finding| (finding.severity, finding.text)).collect::<Vec<_>>()
        };
        assert_eq!(lines("maxmemory_policy:noeviction\r\naof_enabled:1\r\nconnected_slaves:0\r\n"), []);
        let no_aof = "h:1 has no AOF: it forgets bookings when it restarts; set appendonly yes";
        assert_eq!(lines("aof_enabled:0\r\nconnected_slaves:0\r\n"), [(Severity::Error, no_aof.into())]);
        assert_eq!(lines("aof_enabled:0\r\nconnected_slaves:1\r\n"), [(Severity::Warning, no_aof.into())]);
        assert_eq!(lines("maxmemory_policy:allkeys-lru\r\n").len(), 1);
    }

    /// The script that tries commands must try every command of the other scripts.
    #[test]
    fn every_command_of_the_scripts_is_tried() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/lua");
        // A node does not need the commands that only `slotcast migrate` uses.
        let is_of_a_node = |file: &std::fs::DirEntry| !file.file_name().to_string_lossy().starts_with("migrate_");
        for file in std::fs::read_dir(folder).unwrap().filter(|file| file.as_ref().is_ok_and(is_of_a_node)) {
            let text = std::fs::read_to_string(file.as_ref().unwrap().path()).unwrap();
            for call in text.split("redis.call('").skip(1).chain(text.split("redis.pcall('").skip(1)) {
                let command = call.split('\'').next().unwrap();
                assert!(SCRIPT.contains(&format!("try('{command}'")), "{command} of {file:?}");
            }
        }
        assert!(SCRIPT.contains("try('INFO'"));
    }
}
