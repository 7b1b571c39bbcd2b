//! Tells the program the commit that it is built from: `SLOTCAST_REVISION` where the builder knows it (an image is built
//! without the repository), else what git says.

use std::path::Path;
use std::process::Command;

/// How many digits of a commit are told.
const DIGITS: usize = 12;

fn main() {
    println!("cargo:rerun-if-env-changed=SLOTCAST_REVISION");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=SLOTCAST_COMMIT={}", find_commit());
}

fn find_commit() -> String {
    let told = std::env::var("SLOTCAST_REVISION").ok().and_then(|text| shortened(&text));
    if let Some(commit) = told {
        return commit;
    }
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if is_release {
        // A development build is not made anew for each commit: that would cost a minute each time, for nothing but this.
        ["HEAD", "logs/HEAD"].into_iter().filter_map(path_in_git).for_each(watch);
    }
    match git(&["rev-parse", "HEAD"]).as_deref().and_then(shortened) {
        Some(commit) if is_release => commit,
        Some(commit) => format!("{commit}+"),
        None => "unknown".into(),
    }
}

/// The first digits of a commit; `None` for what is none.
fn shortened(text: &str) -> Option<String> {
    let text = text.trim();
    let is_commit = text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_commit.then(|| text[..text.len().min(DIGITS)].to_ascii_lowercase())
}

fn path_in_git(name: &str) -> Option<String> {
    git(&["rev-parse", "--git-path", name])
}

fn watch(path: String) {
    if Path::new(path.trim()).exists() {
        println!("cargo:rerun-if-changed={}", path.trim());
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok())?
}
