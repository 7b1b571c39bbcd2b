//! Finds what people and tools add to a value by mistake: a newline at its end, quotes around it. Also finds secrets
//! that are not secret.

/// What surrounds a value and probably does not belong to it, as the object of "it has"; `None` if nothing does.
pub(super) fn surroundings(text: &str) -> Option<&'static str> {
    let quotes = ['"', '\'', '`'];
    let bare = text.trim();
    let is_quoted = bare.len() > 1 && quotes.iter().any(|quote| bare.starts_with(*quote) && bare.ends_with(*quote));
    match text {
        _ if is_quoted => Some("quotes around it"),
        _ if text.ends_with(['\n', '\r']) => Some("a newline at its end"),
        _ if bare.len() < text.len() => Some("white space around it"),
        _ if text.starts_with('\u{feff}') => Some("a byte order mark before it"),
        _ => None,
    }
}

/// Why anybody could guess a secret, as the predicate of "JWT_SECRET"; `None` if nobody could.
pub(super) fn why_guessable(secret: &str) -> Option<&'static str> {
    let secret = secret.trim_matches(|char: char| char.is_whitespace() || "\"'`".contains(char));
    if is_placeholder(secret) {
        return Some("must not be a placeholder");
    }
    if is_template(secret) {
        return Some("must not be a template that nothing has filled in");
    }
    if count_distinct(secret) < FEWEST_CHARACTERS || is_repeated(secret) || is_counted(secret) {
        return Some("must not be one that anybody can guess: it repeats or counts");
    }
    None
}

/// The fewest different characters of a secret. 32 random digits have fewer less than once in 10,000 million times.
const FEWEST_CHARACTERS: usize = 5;

/// Words of placeholders, in lower case and with only letters and digits.
const PLACEHOLDERS: &[&str] = &[
    "changeme",
    "changethis",
    "changeit",
    "pleasechange",
    "replaceme",
    "replacethis",
    "replacewith",
    "yoursecret",
    "yourjwtsecret",
    "yoursupersecret",
    "yourverysecret",
    "your256bitsecret",
    "your32",
    "yourkey",
    "supersecretjwt",
    "supersecretkey",
    "mysecret",
    "mysupersecret",
    "jwtsecret",
    "secretkey",
    "stringsecretatleast256bits",
    "placeholder",
    "insertsecret",
    "inserthere",
    "putyour",
    "setme",
    "opensslrand",
    "qwertyuiop",
    "examplesecret",
    "samplesecret",
    "dummysecret",
    "secrethere",
    "keyhere",
    "testsecret",
    "devsecret",
    "defaultsecret",
    "verysecret",
    "topsecret",
    "notasecret",
    "notsosecret",
    "thisisasecret",
    "thisisnot",
    "donotuse",
    "dontuse",
    "notforproduction",
    "forproduction",
    "inproduction",
    "onlyfordevelopment",
    "developmentonly",
    "tobereplaced",
    "tobechanged",
    "tobedefined",
    "tobefilled",
    "fillmein",
    "fillthisin",
    "generatewith",
    "generateme",
    "atleast32",
    "32bytes",
    "32random",
    "32characters",
    "dacambiare",
    "dasostituire",
    "sostituiscimi",
    "cambiami",
    "cambiaquesto",
    "iltuosegreto",
    "segretodacambiare",
];

/// What placeholders say in a word of their own, in lower case. Inside a longer word a random secret may have as few letters.
const PLACEHOLDER_WORDS: &[&str] =
    &["todo", "fixme", "tbd", "xxx", "example", "esempio", "sample", "dummy", "insecure", "undefined", "foobar"];

fn is_placeholder(secret: &str) -> bool {
    let is_placeholder = |word: &str| PLACEHOLDER_WORDS.contains(&word.to_ascii_lowercase().as_str());
    if secret.split(|char: char| !char.is_ascii_alphanumeric()).any(is_placeholder) {
        return true;
    }
    let plain: String = secret.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    PLACEHOLDERS.iter().any(|placeholder| plain.contains(placeholder))
}

/// Whether a shell or a template should have replaced the text: `${NAME}`, `$(command)`, `{{name}}`, `<name>`, `__NAME__`.
fn is_template(secret: &str) -> bool {
    let pairs = [
        ("${", "}"),
        ("$(", ")"),
        ("{", "}"),
        ("<", ">"),
        ("[", "]"),
        ("%", "%"),
        ("%(", ")s"),
        ("#{", "}#"),
        ("__", "__"),
        ("@@", "@@"),
        ("***", "***"),
    ];
    pairs.iter().any(|(start, end)| secret.starts_with(start) && secret.ends_with(end))
}

fn count_distinct(text: &str) -> usize {
    text.chars().collect::<std::collections::BTreeSet<char>>().len()
}

/// Whether the secret repeats a shorter text.
fn is_repeated(secret: &str) -> bool {
    let bytes = secret.as_bytes();
    (1..=bytes.len() / 2).any(|period| bytes.iter().zip(&bytes[period..]).all(|(one, later)| one == later))
}

/// Whether nearly all characters follow each other, as in `abcdefgh` and `87654321`.
fn is_counted(secret: &str) -> bool {
    let bytes = secret.as_bytes();
    let follows = |pair: &[u8]| pair[0].abs_diff(pair[1]) == 1;
    bytes.len() > 1 && bytes.windows(2).filter(|pair| follows(pair)).count() * 10 >= (bytes.len() - 1) * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_a_value_is_seen() {
        for (text, seen) in [
            ("\"abc\"", Some("quotes around it")),
            ("'abc'\n", Some("quotes around it")),
            ("abc\n", Some("a newline at its end")),
            ("abc\r\n", Some("a newline at its end")),
            (" abc", Some("white space around it")),
            ("abc\t", Some("white space around it")),
            ("\u{feff}abc", Some("a byte order mark before it")),
            ("a'b c\"", None),
            ("\"", None),
            ("", None),
        ] {
            assert_eq!(surroundings(text), seen, "{text:?}");
        }
    }

    #[test]
    fn what_anybody_can_guess_is_no_secret() {
        for weak in [
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "00000000000000000000000000000000",
            "abababababababababababababababab",
            "password-password-password-password-",
            "0123456789012345678901234567890123456789",
            "abcdefghijklmnopqrstuvwxyz0123456789",
            "change-me-change-me-change-me-please",
            "CHANGE_ME_TO_A_LONG_RANDOM_STRING_0",
            "your-256-bit-secret-0123456789-abc",
            "a-string-secret-at-least-256-bits-long",
            "replace this with 32 random bytes ok",
            "TODO: generate one before we go live",
            "FIXME-before-the-first-real-deployment",
            "todo_todo_fill_this_in_before_golive",
            "changeme-0123456789-abcdef-changeme!",
            "replace-me-0123456789-abcdef-xyz-qrs",
            "example-of-a-key-of-thirty-two-bytes!",
            "an example key, thirty-two bytes long",
            "questo e' un esempio di chiave lunga!",
            "This-Is-A-Secret-For-Development-Only",
            "do-not-use-this-one-in-production-1234",
            "put the real secret here, 32 or longer",
            "must be at least 32 characters long!!!",
            "set it to at least 32 random bytes, such as openssl rand -base64 48",
            "<secret>",
            "[put a long random text in this place]",
            "__JWT_KEY_OF_THE_PRODUCTION_CLUSTER__",
            "%JWT_KEY_OF_THE_PRODUCTION_CLUSTER_1%",
            "{jwt_key_of_the_production_cluster_12}",
            "${JWT_SECRET_OF_THE_PRODUCTION_NODES}",
            "$(openssl rand -base64 48) ",
            "{{ .Values.slotcast.jwt.secret.value }}",
            "<a secret of at least thirty-two bytes>",
            "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\n",
        ] {
            assert!(why_guessable(weak).is_some(), "{weak}");
        }
        for good in [
            "a-secret-of-more-than-thirty-two-bytes",
            "the end-to-end tests share this one secret",
            "a1b2c3d4e5f60718293a4b5c6d7e8f9012345678deadbeef",
            "83920174650918273645546372819009",
            "kTodoXw3mexampleQz8dummyLp0fixmeVb7n",
            "wharf-mantis-change-replace-here-quilt",
            "q7J3m+0oYkq1cVh0bq2n1v9w5hXrA8lZ/4dTg6sUeEo=",
        ] {
            assert_eq!(why_guessable(good), None, "{good}");
        }
    }
}
