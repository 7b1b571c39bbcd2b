//! Endpoints of webhooks: the allowed settings, and the errors for others.

use std::collections::BTreeSet;

use super::*;
use crate::domain::JournalAct;

const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn table(fields: &str) -> String {
    format!("[[webhooks]]\nname = \"mail\"\n{fields}\n")
}

fn of_file(content: &str) -> Vec<String> {
    messages(load_file(content, &[]))
}

#[test]
fn without_an_endpoint_there_is_none_and_the_journal_is_what_it_is_set_to() {
    let config = load(&[("SLOTCAST_JOURNAL_DAYS", "0")], Needs::SERVE).unwrap().config;
    assert!(config.webhooks.is_empty());
    assert_eq!((config.journal.days, config.stored_journal().days), (0, 0));
}

#[test]
fn the_environment_describes_one_endpoint() {
    let secrets = format!("{WHSEC}, {OTHER}");
    let pairs = [
        ("SLOTCAST_WEBHOOK_URL", "https://example.org/hooks?key=geheim"),
        ("SLOTCAST_WEBHOOK_SECRET", &secrets),
        ("SLOTCAST_WEBHOOK_TYPES", "slot.booked,space.changed"),
        ("SLOTCAST_WEBHOOK_SITES", "1, 12"),
        ("SLOTCAST_JOURNAL_DAYS", "0"),
    ];
    let loaded = load(&pairs, Needs::SERVE).unwrap();
    let [webhook] = loaded.config.webhooks.as_slice() else { panic!("{:?}", loaded.config.webhooks) };
    assert_eq!((webhook.name.as_str(), webhook.secrets.len()), ("environment", 2));
    assert_eq!(webhook.shown_url(), "https://example.org/hooks");
    assert_eq!(webhook.acts, BTreeSet::from([JournalAct::Book, JournalAct::Space]));
    assert_eq!(webhook.sites.as_ref().map(BTreeSet::len), Some(2));
    assert!(loaded.config.stored_journal().days > 3, "longer than a delivery is tried");
    assert_eq!(loaded.config.journal.days, 0, "and not shown");
    let shown = format!("{:?} {:?}", loaded.settings, webhook.secrets);
    assert!(!shown.contains("geheim") && !shown.contains("MfKQ") && !shown.contains("77, 242"), "{shown}");
}

#[test]
fn the_secret_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{WHSEC}\n")).unwrap();
    let url = ("SLOTCAST_WEBHOOK_URL", "https://example.org/");
    let file = ("SLOTCAST_WEBHOOK_SECRET_FILE", path.to_str().unwrap());
    assert_eq!(load(&[url, file], Needs::SERVE).unwrap().config.webhooks.len(), 1);
    let both = message(&[url, file, ("SLOTCAST_WEBHOOK_SECRET", WHSEC)], Needs::SERVE);
    assert!(both.contains("are both set"), "{both}");
}

#[test]
fn a_file_describes_any_number_beside_it() {
    let file = format!(
        "PORT = 3001\n{}\n[[webhooks]]\nname = \"inner\"\nurl = \"http://10.0.0.7/\"\ninsecure = true\nsecret = [\"{WHSEC}\", \
         \"{OTHER}\"]\ntypes = [\"slot.held\"]\nsites = [3]\n",
        table(&format!("url = \"http://127.0.0.1:8080/\"\nsecret = \"{WHSEC}\""))
    );
    let pairs = [("SLOTCAST_WEBHOOK_URL", "http://localhost/"), ("SLOTCAST_WEBHOOK_SECRET", WHSEC)];
    let config = load_file(&file, &pairs).unwrap().config;
    let names: Vec<&str> = config.webhooks.iter().map(|webhook| webhook.name.as_str()).collect();
    assert_eq!(names, ["mail", "inner", "environment"]);
    assert_eq!(config.webhooks[0].acts, BTreeSet::from([JournalAct::Book, JournalAct::Cancel, JournalAct::Update]));
    assert_eq!(config.webhooks[1].secrets.len(), 2);
    assert_eq!(config.listen.address.port(), 3001);
}

#[test]
fn a_bad_field_is_named_and_no_secret_quoted() {
    let good_url = "url = \"https://example.org/\"";
    let good = format!("{good_url}\nsecret = \"{WHSEC}\"");
    for (fields, told) in [
        (format!("secret = \"{WHSEC}\""), "\"mail\": url must be set"),
        (format!("url = \"http://example.org/\"\nsecret = \"{WHSEC}\""), "\"mail\": url must be an https:// URL"),
        (
            format!("url = \"http://127.0.0.1.example.org/\"\nsecret = \"{WHSEC}\""),
            "\"mail\": url must be an https:// URL",
        ),
        (format!("url = \"example.org\"\nsecret = \"{WHSEC}\""), "\"mail\": url must be"),
        (format!("url = \"ftp://localhost/\"\nsecret = \"{WHSEC}\"\ninsecure = true"), "\"mail\": url must be"),
        (format!("url = 7\nsecret = \"{WHSEC}\""), "\"mail\": url must be"),
        (good_url.into(), "\"mail\": secret must be set"),
        (format!("{good_url}\nsecret = \"geheim\""), "\"mail\": secret must be whsec_"),
        (format!("{good_url}\nsecret = \"whsec_geheim!\""), "\"mail\": secret must be whsec_"),
        (format!("{good_url}\nsecret = \"whsec_Z2VoZWlt\""), "\"mail\": secret must be whsec_"),
        (format!("{good_url}\nsecret = []"), "\"mail\": secret must be one secret, or 2"),
        (
            format!("{good_url}\nsecret = [\"{WHSEC}\", \"{WHSEC}\", \"{WHSEC}\"]"),
            "\"mail\": secret must be one secret, or 2",
        ),
        (format!("{good}\ntypes = [\"slot.eaten\"]"), "\"mail\": types must be some of slot.held"),
        (format!("{good}\ntypes = []"), "\"mail\": types must name one"),
        (format!("{good}\nsites = [0]"), "\"mail\": sites must be ids of sites; \"0\" is not an id"),
        (format!("{good}\nsites = [1.5]"), "\"mail\": sites must be a list"),
        (format!("{good}\ninsecure = \"yes\""), "\"mail\": insecure must be true or false"),
        (format!("{good}\nsecrets = 1"), "\"mail\": secrets is not a field of an endpoint; did you mean secret?"),
    ] {
        let told_messages = of_file(&table(&fields));
        assert!(matches!(&told_messages[..], [message] if message.contains(told)), "{fields}: {told_messages:?}");
        assert!(told_messages[0].contains("my.toml") && !told_messages[0].contains("geheim"), "{told_messages:?}");
    }
    for name in ["", "a b", "grüße", &"x".repeat(65)] {
        let told = of_file(&format!("[[webhooks]]\nname = \"{name}\"\n{good}"));
        assert!(told[0].contains("number 1: name must be 1 to 64"), "{told:?}");
    }
    assert!(of_file("[webhooks]\nname = \"mail\"")[0].contains("[[webhooks]]"));
    assert!(of_file("webhooks = [1]")[0].contains("[[webhooks]]"));
}

#[test]
fn two_endpoints_of_one_name_are_refused() {
    let one = table(&format!("url = \"https://example.org/\"\nsecret = \"{WHSEC}\""));
    assert!(of_file(&format!("{one}{one}"))[0].contains("\"mail\": name must be another one"));
}

#[test]
fn what_is_wrong_with_the_one_of_the_environment_names_its_variable() {
    let url = ("SLOTCAST_WEBHOOK_URL", "https://example.org/");
    let secret = ("SLOTCAST_WEBHOOK_SECRET", WHSEC);
    for (pairs, told) in [
        (
            vec![("SLOTCAST_WEBHOOK_URL", "http://geheim@example.org/"), secret],
            "SLOTCAST_WEBHOOK_URL must be an https://",
        ),
        (
            vec![("SLOTCAST_WEBHOOK_URL", "http://example.org/?geheim"), secret],
            "SLOTCAST_WEBHOOK_URL must be an https://",
        ),
        (vec![("SLOTCAST_WEBHOOK_URL", "geheim@example.org"), secret], "SLOTCAST_WEBHOOK_URL must be an https://"),
        (vec![url], "SLOTCAST_WEBHOOK_SECRET must be set with SLOTCAST_WEBHOOK_URL"),
        (vec![url, ("SLOTCAST_WEBHOOK_SECRET", "geheim")], "SLOTCAST_WEBHOOK_SECRET must be whsec_"),
        (vec![url, secret, ("SLOTCAST_WEBHOOK_TYPES", "slot.booked,x")], "SLOTCAST_WEBHOOK_TYPES must be some of"),
        (vec![url, secret, ("SLOTCAST_WEBHOOK_SITES", "1,x")], "SLOTCAST_WEBHOOK_SITES must be ids of sites"),
        (vec![secret], "SLOTCAST_WEBHOOK_SECRET needs SLOTCAST_WEBHOOK_URL"),
        (vec![("SLOTCAST_WEBHOOK_TYPES", "slot.held")], "SLOTCAST_WEBHOOK_TYPES needs SLOTCAST_WEBHOOK_URL"),
    ] {
        let message = message(&pairs, Needs::SERVE);
        assert!(message.contains(told) && !message.contains("geheim"), "{message}");
    }
}
