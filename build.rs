//! Tells the program the commit that it is built from: `SLOTCAST_REVISION` if it is set (an image is built without the
//! repository), else git's. Packs the page that a node serves.

use std::path::Path;
use std::process::Command;

/// The number of digits of a commit that are kept.
const DIGITS: usize = 12;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-env-changed=SLOTCAST_REVISION");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=SLOTCAST_COMMIT={}", find_commit());
    #[cfg(feature = "server")]
    page::pack()?;
    Ok(())
}

/// The files of the page, which `npm run build` in `web/` makes. Without them the node serves a notice that says how to get
/// them, so Rust alone builds a whole node.
#[cfg(feature = "server")]
mod page {
    use std::fs;
    use std::io;
    use std::path::{Path, PathBuf};

    /// The folder that `npm run build` makes for the node.
    const BUILT: &str = "web/dist/node";

    /// The folder that replaces it. A build of the page touches the file in it, so that Cargo runs this again.
    const ABSENT: &str = "web/absent";

    pub fn pack() -> io::Result<()> {
        // Cargo takes a folder that does not exist for changed, and would compile anew each time. So it must not be
        // watched.
        let source = if Path::new(BUILT).join("index.html").exists() { BUILT } else { ABSENT };
        println!("cargo:rerun-if-changed={source}");
        let folder = PathBuf::from(std::env::var("OUT_DIR").map_err(io::Error::other)?).join("page");
        // The files are copied, because a later build of the page may remove one while the program compiles.
        copy(Path::new(source), &folder)?;
        memory_serve::load_directory_with_embed(folder, true);
        Ok(())
    }

    fn copy(from: &Path, to: &Path) -> io::Result<()> {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        copy_folder(from, to)
    }

    fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
        // The order is the same on every machine, so that builds are the same.
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                copy_folder(&entry.path(), &target)?;
            } else {
                fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    }
}

fn find_commit() -> String {
    let told = std::env::var("SLOTCAST_REVISION").ok().and_then(|text| shortened(&text));
    if let Some(commit) = told {
        return commit;
    }
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if is_release {
        // A development build is not repeated for each commit, which would cost a minute each time.
        ["HEAD", "logs/HEAD"].into_iter().filter_map(path_in_git).for_each(watch);
    }
    match git(&["rev-parse", "HEAD"]).as_deref().and_then(shortened) {
        Some(commit) if is_release => commit,
        Some(commit) => format!("{commit}+"),
        None => "unknown".into(),
    }
}

/// The first digits of a commit; `None` for anything else.
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
