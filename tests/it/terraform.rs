//! The promises of `terraform/` that can be checked without Terraform: by reading the files, and by giving the users
//! that they make to a real Redis. Where Terraform is installed, `terraform test` checks more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use slotcast::config::function::FunctionConfig;
use slotcast::domain::{Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, UserId};
use slotcast::store::finding::Severity;
use slotcast::store::redis::checks;
use slotcast::store::redis::endpoint::{Endpoint, Topology};
use slotcast::store::redis::formats::Formats;
use slotcast::store::redis::positions::Positions;
use slotcast::store::redis::{Fence, RedisOptions, RedisStore};
use slotcast::store::{SlotStore, Subscriptions, Topic};
use slotcast::{clock, sweeper};

use crate::support::redis_server::{Cluster, RedisServer};

const PASSWORD: &str = "a-password";

/// A lease that is longer than a test.
const LEASE: Duration = Duration::from_secs(60);

#[test]
fn valkey_loses_nothing_and_is_closed() {
    let valkey = Folder::read("modules/valkey");
    let cluster = valkey.resource("aws_elasticache_replication_group", "this");
    for (name, expected) in [
        ("durability", Value::from("sync")),
        ("engine", "valkey".into()),
        ("cluster_mode", "enabled".into()),
        ("multi_az_enabled", true.into()),
        ("automatic_failover_enabled", true.into()),
        ("transit_encryption_enabled", true.into()),
        ("transit_encryption_mode", "required".into()),
        ("at_rest_encryption_enabled", true.into()),
        ("parameter_group_name", "${aws_elasticache_parameter_group.this.name}".into()),
    ] {
        assert_eq!(cluster[name], expected, "{name}");
    }
    let parameters = valkey.resource("aws_elasticache_parameter_group", "this")["parameter"].as_array().unwrap();
    let has = |name, value| parameters.iter().any(|parameter| parameter["name"] == name && parameter["value"] == value);
    assert!(has("maxmemory-policy", "noeviction") && has("cluster-enabled", "yes"), "{parameters:?}");
}

#[test]
fn the_sweep_runs_each_minute_alone_and_is_never_repeated() {
    let sweeper = Folder::read("modules/sweeper");
    let function = sweeper.resource("aws_lambda_function", "sweeper");
    assert_eq!(function["reserved_concurrent_executions"], 1);
    assert_eq!(function["runtime"], "provided.al2023");
    let invocations = sweeper.resource("aws_lambda_function_event_invoke_config", "sweeper");
    let schedule = sweeper.resource("aws_scheduler_schedule", "sweeper");
    assert_eq!(schedule["schedule_expression"], "rate(1 minute)");
    assert_eq!(schedule["flexible_time_window"]["mode"], "OFF");
    for retries in [invocations, &schedule["target"]["retry_policy"]] {
        assert_eq!(
            (&retries["maximum_retry_attempts"], &retries["maximum_event_age_in_seconds"]),
            (&0.into(), &60.into())
        );
    }
    let failures = "${aws_sqs_queue.failures.arn}";
    assert_eq!(invocations["destination_config"]["on_failure"]["destination"], failures);
    assert_eq!(schedule["target"]["dead_letter_config"]["arn"], failures);
    assert_eq!(sweeper.resource("aws_sqs_queue", "failures")["sqs_managed_sse_enabled"], true);
}

#[test]
fn a_sweep_that_is_missing_late_or_fails_raises_an_alarm() {
    let sweeper = Folder::read("modules/sweeper");
    let alarms = &sweeper.locals["alarms"];
    let missing_data =
        |name: &str| (alarms[name]["metric"].as_str().unwrap(), alarms[name]["missing"].as_str().unwrap());
    assert_eq!(missing_data("missing"), ("Invocations", "breaching"));
    assert_eq!(missing_data("errors"), ("Errors", "notBreaching"));
    assert_eq!(missing_data("lateness"), ("${local.lateness_metric}", "breaching"));
    let alarm = sweeper.resource("aws_cloudwatch_metric_alarm", "this");
    assert_eq!(alarm["treat_missing_data"], "${each.value.missing}");
    assert_eq!(alarm["alarm_actions"], "${var.alarm_topic_arns}");
}

/// The metric filter reads the field that the function logs.
#[test]
fn lateness_is_read_from_the_line_of_a_sweep() {
    let filter = Folder::read("modules/sweeper");
    let filter = filter.resource("aws_cloudwatch_log_metric_filter", "lateness");
    assert_eq!(filter["pattern"], r#"{ $.message = "swept" && $.oldest_late_ms >= 0 }"#);
    assert_eq!(filter["metric_transformation"]["value"], "$.oldest_late_ms");
    let source = fs::read_to_string(root().join("src/function.rs")).unwrap();
    assert!(source.contains(r#"tracing::info!(freed, spaces, oldest_late_ms, took_ms, "swept")"#));
}

#[test]
fn the_function_understands_the_environment_that_it_gets() {
    let sweeper = Folder::read("modules/sweeper");
    let variables = sweeper.resource("aws_lambda_function", "sweeper")["environment"]["variables"].as_object().unwrap();
    let default = |name: &str| sweeper.variable(name)["default"].as_str().unwrap().to_owned();
    let mut environment = BTreeMap::new();
    for (name, value) in variables {
        let value = match value.as_str().unwrap() {
            "${var.redis_url}" => url_of_the_example(),
            "${var.redis_prefix}" => default("redis_prefix"),
            "${var.log_filter}" => default("log_filter"),
            other => panic!("{name} = {other}"),
        };
        environment.insert(name.clone(), value);
    }
    let config = FunctionConfig::load(&environment).unwrap();
    let alone = FunctionConfig::load(&BTreeMap::from([("REDIS_URL".to_owned(), config.redis_url.clone())])).unwrap();
    assert_eq!(config, alone, "the defaults of the module are those of the function");
    let endpoint = Endpoint::parse(&config.redis_url).unwrap();
    assert!(endpoint.topology == Topology::Cluster && endpoint.tls.is_some(), "{endpoint}");
    assert_eq!(endpoint.login.username.as_deref(), Some("slotcast-sweeper"));
    assert_eq!(endpoint.login.password.as_deref(), Some(PASSWORD));
}

/// REDIS_URL, as the example for AWS makes it.
fn url_of_the_example() -> String {
    let example = Folder::read("examples/aws");
    let mut url = example.block("module", "sweeper")["redis_url"].as_str().unwrap().to_owned();
    for (name, value) in [
        ("${local.sweeper_user}", "slotcast-sweeper"),
        ("${var.sweeper_password}", PASSWORD),
        ("${module.valkey.host}", "clustercfg.slotcast.abc.euw1.cache.amazonaws.com"),
        ("${module.valkey.port}", "6379"),
    ] {
        assert!(url.contains(name), "{url}");
        url = url.replace(name, value);
    }
    url
}

#[test]
fn nothing_comes_in_from_an_address() {
    for (path, folder) in all_folders() {
        for rule in folder.resources("aws_vpc_security_group_ingress_rule") {
            assert!(rule.get("cidr_ipv4").is_none() && rule.get("cidr_ipv6").is_none(), "{path}");
            assert!(rule.get("prefix_list_id").is_none(), "{path}");
            assert!(rule["referenced_security_group_id"].is_string(), "{path}");
        }
        for kind in ["aws_security_group", "aws_default_security_group"] {
            for group in folder.resources(kind) {
                assert!(group.get("ingress").is_none() && group.get("egress").is_none(), "{path}: rules are resources");
            }
        }
        for subnet in folder.resources("aws_subnet") {
            assert_eq!(subnet["map_public_ip_on_launch"], false, "{path}");
        }
    }
}

/// Each right names its resources. The statements that cannot name them are listed here.
#[test]
fn rights_name_their_resources() {
    let mut without = Vec::new();
    for (path, folder) in all_folders() {
        assert_eq!(folder.resources("aws_iam_role_policy_attachment").len(), 0, "{path}: no policies of others");
        for (kind, name) in [("aws_iam_role_policy", "policy"), ("aws_kms_key", "policy")] {
            for policy in folder.resources(kind) {
                let text = policy[name].as_str().unwrap();
                for statement in text.split("Sid").skip(1) {
                    assert!(
                        !statement.contains(r#"Action = "*""#) && !statement.contains(":*\"]"),
                        "{path}: {statement}"
                    );
                    if statement.contains(r#"Resource = "*""#) {
                        without.push(statement.split('"').nth(1).unwrap().to_owned());
                    }
                }
            }
        }
    }
    without.sort();
    // The two statements of a key's policy mean that key alone.
    assert_eq!(without, ["BeInTheVpc", "ButNotByItsCode", "LogsOfThisAccount", "ThisAccount"]);
}

#[test]
fn everything_is_described() {
    for (path, folder) in all_folders() {
        for (name, variable) in folder.all("variable") {
            assert!(variable["description"].is_string() && variable.get("type").is_some(), "{path}: variable {name}");
            let is_secret =
                ["password", "passwords", "url"].iter().any(|word| name.split('_').next_back() == Some(word));
            assert_eq!(is_secret, variable.get("sensitive").is_some(), "{path}: variable {name}");
        }
        for (name, output) in folder.all("output") {
            assert!(output["description"].is_string(), "{path}: output {name}");
        }
        assert!(folder.has_tests, "{path} has no tests");
    }
}

/// The users have exactly the commands that the scripts call.
#[test]
fn users_have_the_commands_of_the_scripts() {
    let valkey = Folder::read("modules/valkey");
    let scripts = Scripts::read();
    assert_eq!(valkey.words("script_commands"), scripts.commands_of_all());
    assert_eq!(
        valkey.words("sweep_script_commands"),
        scripts.commands_of(&["due", "expire", "notify", "open_bucket", "old_nodes", "trim_journal"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_server_the_users_do_all_that_they_have_to() {
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let url = |user| format!("redis://{user}:{PASSWORD}@127.0.0.1:{}", server.port);
    work_as_the_users(&[&server], &url("node"), &url("sweeper")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_the_users_do_all_that_they_have_to() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let servers: Vec<&RedisServer> = cluster.servers.iter().collect();
    let url = |user| format!("redis-cluster://{user}:{PASSWORD}@127.0.0.1:{}", servers[0].port);
    work_as_the_users(&servers, &url("node"), &url("sweeper")).await;
}

/// Makes the users, works as each of them, and checks what the servers refused.
async fn work_as_the_users(servers: &[&RedisServer], node: &str, sweeper: &str) {
    for server in servers {
        make_user(server, "node", &access_string(&["script_commands", "connection_commands", "subscription_commands"]));
        make_user(
            server,
            "sweeper",
            &access_string(&["sweep_script_commands", "sweep_commands", "connection_commands"]),
        );
    }
    work_as_a_node(node).await;
    sweep_as_the_sweeper(servers, node, sweeper).await;
    for server in servers {
        let refused = refused_commands(server);
        // A node asks for the server's settings, which a managed Valkey does not tell. The library asks for the
        // connection's number.
        let harmless = BTreeSet::from(["client|id".to_owned(), "config|get".to_owned()]);
        assert!(refused.is_subset(&harmless), "{refused:?}");
    }
}

/// The access string `on ~slotcast:* .. +command ..`, as `users.tf` makes it.
fn access_string(lists: &[&str]) -> Vec<String> {
    let valkey = Folder::read("modules/valkey");
    let form = fs::read_to_string(root().join("terraform/modules/valkey/users.tf")).unwrap();
    let beginning = r#"["on", "~${var.redis_prefix}:*", "resetchannels", "&${var.redis_prefix}:*", "-@all"]"#;
    assert!(form.contains(beginning) && form.contains(r#"for command in sort(commands) : "+${command}""#));
    let prefix = valkey.variable("redis_prefix")["default"].as_str().unwrap().to_owned();
    let mut rules: Vec<String> = serde_json::from_str(&beginning.replace("${var.redis_prefix}", &prefix)).unwrap();
    rules.extend(lists.iter().flat_map(|list| valkey.words(list)).map(|command| format!("+{command}")));
    rules
}

fn make_user(server: &RedisServer, name: &str, rules: &[String]) {
    let password = format!(">{PASSWORD}");
    let mut command = vec!["ACL", "SETUSER", name, &password];
    command.extend(rules.iter().map(String::as_str));
    assert_eq!(server.cli(&command).trim(), "OK");
}

/// The commands that the server refused.
fn refused_commands(server: &RedisServer) -> BTreeSet<String> {
    let log = server.cli(&["ACL", "LOG", "1000"]);
    let lines: Vec<&str> = log.lines().map(str::trim).collect();
    lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1].to_owned()).collect()
}

/// Does once what a node does: the check tries all commands of scripts, and the rest are calls beside the scripts.
async fn work_as_a_node(url: &str) {
    let findings = checks::check_url(url, "slotcast").await;
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let commands = slotcast::store::redis::Commands::start(&Endpoint::parse(url).unwrap()).unwrap();
    let subscriptions = slotcast::store::redis::RedisSubscriptions::connect(
        &commands,
        "slotcast",
        Formats::default(),
        Positions::default(),
    )
    .unwrap();
    let mut watch = subscriptions.watch(Topic::Space(space(1))).await.unwrap();
    let store = open(url);
    let held = store.apply(hold(1, 60_000)).await.unwrap();
    let heard = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    assert!(heard.is_ok(), "a change is heard");
    let user = UserId::new("7").unwrap();
    assert_eq!(store.holds_of(&user).await.unwrap().len(), 1);
    store.read_log(Topic::Space(space(1)), &held.at).await.unwrap();
    store.read_day(space(1), day()).await.unwrap();
    store.read_space(space(1)).await.unwrap();
    store.sites_of(SpaceId::new(1).unwrap()).await.unwrap();
    store.mark_received(&user, 0).await.unwrap();
    store.messages_of(&user, None, usize::MAX).await.unwrap();
    store.nodes().await.unwrap();
    assert_eq!(store.take_sweep_lease("a", LEASE).await.unwrap(), None);
    store.ping().await.unwrap();
}

/// Leaves two holds that have ended, one of them only in the index, and a notice for a user. Then sweeps.
async fn sweep_as_the_sweeper(servers: &[&RedisServer], node: &str, sweeper: &str) {
    let store = open(node);
    store.apply(hold(2, 1)).await.unwrap();
    store.apply(hold(3, 1)).await.unwrap();
    for server in servers {
        let days = server.cli(&["KEYS", "slotcast:*:day:1:3:*"]);
        days.split_whitespace().for_each(|day| assert_eq!(server.cli(&["DEL", day]).trim(), "1"));
    }
    let taken = format!("slotcast:{{b{}}}:taken", space(3).bucket().get());
    let leave = |server: &&&RedisServer| server.cli(&["HSET", &taken, "7\n0-1-3-1", "{}"]).trim() == "1";
    let server = servers.iter().find(leave).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let sweeper: Arc<dyn SlotStore> = Arc::new(open(sweeper));
    let report = sweeper::sweep_all(&sweeper, None).await.unwrap();
    assert_eq!((report.freed, report.spaces), (1, 1), "{report:?}");
    assert_eq!(server.cli(&["EXISTS", &taken]).trim(), "0", "the user is told");
    let ends = store.sweep(space(3).bucket(), 1).await.unwrap();
    assert_eq!((ends.freed, ends.next_end_in_ms), (0, None), "the index has nothing of the lost hold");
}

fn open(url: &str) -> RedisStore {
    let options = RedisOptions { fence: Fence::WhereAllowed, ..RedisOptions::default() };
    RedisStore::open(url, "slotcast", options).unwrap()
}

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

/// A hold of the first slot of a space.
fn hold(in_space: u64, millis: i64) -> SlotAct {
    let start = clock::wall().plus_millis(3_600_000);
    let slot =
        SlotTime { number: SlotNumber::new(1).unwrap(), start, end: start.plus_millis(1), label: "09:00".into() };
    let kind = SlotActKind::Hold {
        user: UserId::new("7").unwrap(),
        token: HoldToken::from_random([7; 16]),
        millis,
        max_holds: None,
        max_held: None,
    };
    SlotAct {
        space: space(in_space),
        day: day(),
        slots: vec![slot],
        revision: None,
        kind,
        idempotency: None,
        origin: None,
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folders of all modules and examples, by their paths.
fn all_folders() -> Vec<(String, Folder)> {
    let mut found = Vec::new();
    for kind in ["modules", "examples"] {
        for entry in fs::read_dir(root().join("terraform").join(kind)).unwrap() {
            let path = format!("{kind}/{}", entry.unwrap().file_name().to_string_lossy());
            found.push((path.clone(), Folder::read(&path)));
        }
    }
    assert_eq!(found.len(), 5, "of which three are modules");
    found
}

/// The `.tf` files of one folder. An expression is a text `${..}`.
struct Folder {
    bodies: Vec<Value>,
    locals: Value,
    has_tests: bool,
}

impl Folder {
    /// Reads a folder of `terraform/`.
    fn read(path: &str) -> Self {
        let folder = root().join("terraform").join(path);
        let files = |folder: &Path| -> Vec<PathBuf> {
            fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
        };
        let has_name = |path: &Path, end: &str| path.to_string_lossy().ends_with(end);
        let bodies: Vec<Value> = files(&folder)
            .iter()
            .filter(|path| has_name(path, ".tf"))
            .map(|path| hcl::from_str(&fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{path:?}: {e}")))
            .collect();
        let mut locals = serde_json::Map::new();
        for body in &bodies {
            if let Some(Value::Object(own)) = body.get("locals") {
                locals.extend(own.clone());
            }
        }
        let has_tests = files(&folder.join("tests")).iter().any(|path| has_name(path, ".tftest.hcl"));
        Self { bodies, locals: locals.into(), has_tests }
    }

    /// The blocks of a kind, by label.
    fn all(&self, kind: &str) -> Vec<(&String, &Value)> {
        self.bodies.iter().filter_map(|body| body.get(kind)?.as_object()).flatten().collect()
    }

    fn block(&self, kind: &str, name: &str) -> &Value {
        let mut found = self.all(kind).into_iter().filter(|(label, _)| *label == name);
        found.next().unwrap_or_else(|| panic!("no {kind} {name}")).1
    }

    fn variable(&self, name: &str) -> &Value {
        self.block("variable", name)
    }

    /// The resources of a type.
    fn resources(&self, kind: &str) -> Vec<&Value> {
        let typed = self.all("resource").into_iter().filter(|(label, _)| *label == kind);
        typed.filter_map(|(_, named)| named.as_object()).flat_map(|named| named.values()).collect()
    }

    fn resource(&self, kind: &str, name: &str) -> &Value {
        let mut found = self.all("resource").into_iter().filter(|(label, _)| *label == kind);
        found.find_map(|(_, named)| named.get(name)).unwrap_or_else(|| panic!("no {kind}.{name}"))
    }

    /// The texts of a local list.
    fn words(&self, name: &str) -> BTreeSet<String> {
        let list = self.locals[name].as_array().unwrap_or_else(|| panic!("{name}"));
        let words: BTreeSet<String> = list.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
        assert_eq!(words.len(), list.len(), "{name} has a word twice");
        words
    }
}

/// The texts of the Lua scripts, by name.
struct Scripts(BTreeMap<String, String>);

impl Scripts {
    fn read() -> Self {
        let folder = root().join("src/store/redis/lua");
        let read = |entry: std::io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        };
        Self(fs::read_dir(folder).unwrap().map(read).collect())
    }

    /// The commands of all scripts of a node.
    fn commands_of_all(&self) -> BTreeSet<String> {
        let scripts = self.0.iter().filter(|(name, _)| *name != "check" && !name.starts_with("migrate_"));
        let mut commands: BTreeSet<String> = scripts.flat_map(|(_, text)| commands_in(text)).collect();
        // The check tries each of these commands, and calls `del` to clean up after itself.
        let tried: BTreeSet<String> = commands_after(&self.0["check"], "try('").collect();
        commands.insert("del".into());
        assert_eq!(commands, tried, "the check tries what the scripts call");
        commands
    }

    /// The commands of some scripts, and of the shared functions that they call.
    fn commands_of(&self, names: &[&str]) -> BTreeSet<String> {
        let shared =
            ["common", "topic", "records", "changes", "indexes", "journal", "calls"].map(|name| &*self.0[name]);
        let shared = shared.concat();
        let mut pieces = shared.split("\nlocal function ");
        let beginning = pieces.next().unwrap();
        // A function ends at the first line `end` without indentation. The text up to the next function belongs to no
        // function.
        let (functions, outside): (Vec<_>, Vec<_>) = pieces
            .map(|piece| {
                let (body, rest) = piece.split_once("\nend\n").unwrap();
                let (name, body) = body.split_once('(').unwrap();
                ((name, body), rest)
            })
            .unzip();
        let mut text = [&[beginning], &outside[..]].concat().concat();
        names.iter().for_each(|name| text.push_str(&self.0[*name]));
        let mut waiting = functions;
        loop {
            let (called, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|(name, _)| text.contains(&format!("{name}(")));
            if called.is_empty() {
                return commands_in(&text).collect();
            }
            called.iter().for_each(|(_, body)| text.push_str(body));
            waiting = others;
        }
    }
}

fn commands_in(text: &str) -> impl Iterator<Item = String> {
    // `forget_all` is a function of `indexes.lua` that takes a command as its argument.
    let callers = ["redis.call('", "redis.pcall('", "forget_all('"];
    callers.into_iter().flat_map(|caller| commands_after(text, caller).collect::<Vec<_>>())
}

fn commands_after<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = String> + 'a {
    text.split(before).skip(1).map(|rest| rest.split('\'').next().unwrap().to_lowercase())
}
