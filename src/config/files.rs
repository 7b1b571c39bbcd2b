//! Values that stand in files of their own, like secrets of Docker and Kubernetes. `REDIS_URL_FILE` names the file
//! whose content is the value of `REDIS_URL`.

use std::path::Path;

use crate::files::read_bounded;

/// The variables whose values may stand in a file, each with the variable that names the file.
pub(super) const FILED: &[(&str, &str)] = &[
    ("JWT_SECRET", "JWT_SECRET_FILE"),
    ("JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS_FILE"),
    ("REDIS_URL", "REDIS_URL_FILE"),
    ("SLOTCAST_WEBHOOK_SECRET", "SLOTCAST_WEBHOOK_SECRET_FILE"),
];

/// The longest value that a file may have, in bytes.
const LONGEST: u64 = 64 * 1024;

/// The content of a file without one newline at its end. An error continues a sentence that begins with the variable's
/// name, and never quotes the content.
pub(super) fn read_value(path: &str) -> Result<String, String> {
    let content = read_bounded(Path::new(path), LONGEST)
        .map_err(|error| format!("names {path:?}, which cannot be read: {error}"))?;
    let text = String::from_utf8(content).map_err(|_| format!("names {path:?}, which is not UTF-8"))?;
    let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text)).unwrap_or(&text);
    if line.is_empty() {
        return Err(format!("names {path:?}, which is empty"));
    }
    Ok(line.to_owned())
}

/// A sentence that says that a variable and the variable that names its file cannot both be set.
pub(super) fn both_set(name: &str, file_name: &str) -> String {
    format!("{name} and {file_name} are both set: leave one of them out")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, content).unwrap();
        read_value(path.to_str().unwrap())
    }

    #[test]
    fn the_value_is_the_content_without_one_newline_at_its_end() {
        for (content, value) in
            [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), ("abc\n\n", "abc\n"), (" abc \r", " abc \r")]
        {
            assert_eq!(read(content.as_bytes()).unwrap(), value, "{content:?}");
        }
    }

    #[test]
    fn a_file_that_has_no_value_is_named_and_never_quoted() {
        for (content, reason) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"geheim\xff", "is not UTF-8"),
            (&[b'x'; LONGEST as usize + 1], "is longer than 65536 bytes"),
        ] {
            let error = read(content).unwrap_err();
            assert!(error.contains(reason) && error.contains("value") && !error.contains("geheim"), "{error}");
        }
        assert!(read(&[b'x'; LONGEST as usize]).is_ok());
        assert!(read_value("/dev/zero").unwrap_err().contains("is longer than"));
        assert!(read_value("/does/not/exist").unwrap_err().contains("cannot be read"));
        assert!(read_value("/").unwrap_err().contains("cannot be read"));
    }
}
