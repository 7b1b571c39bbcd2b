//! Reads files that an operator names: the configuration, a secret, a certificate.
//!
//! The name may lead to something other than a plain file. A device without an end would fill the memory, and a pipe
//! without a writer would block the program silently.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long a file may take to be read. A pipe of a shell may have a slow command at its other end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The content of a file of at most `longest` bytes.
///
/// # Errors
///
/// The file cannot be read, is longer, or gives nothing for 30 s. The text is for the operator, and has nothing of the
/// content.
pub fn read_bounded(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    read_within(path.to_owned(), longest, PATIENCE)
}

fn read_within(path: PathBuf, longest: u64, patience: Duration) -> io::Result<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    // Opening a pipe waits for a writer, and only the end of the process can end that wait.
    std::thread::spawn(move || sender.send(read_up_to(&path, longest)));
    receiver.recv_timeout(patience).unwrap_or_else(|_| {
        let text = format!("it gave nothing for {} s: is it a pipe that nobody writes to?", patience.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// Reads at most one byte more than the content may have.
fn read_up_to(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(longest + 1).read_to_end(&mut content)?;
    if content.len() as u64 > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {longest} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    // An operator may name anything.
    #[cfg(unix)]
    #[test]
    fn what_has_no_end_and_what_says_nothing_are_errors_that_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let silent = read_within(pipe.clone(), 8, Duration::from_millis(50)).unwrap_err();
        assert!(silent.to_string().contains("a pipe that nobody writes to"), "{silent}");
        let endless = read_bounded(Path::new("/dev/zero"), 8).unwrap_err();
        assert_eq!(endless.to_string(), "it is longer than 8 bytes");
        let written = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "12345678")
        });
        // The reader that gave up still waits at the pipe, and may get this text instead.
        written.join().unwrap().unwrap();
    }

    #[test]
    fn a_file_of_the_longest_content_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345678").unwrap();
        assert_eq!(read_bounded(&path, 8).unwrap(), b"12345678");
        assert_eq!(read_bounded(&path, 7).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        let missing = read_bounded(&folder.path().join("missing"), 8).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
