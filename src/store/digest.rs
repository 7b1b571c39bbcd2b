//! A short stand-in for a text that is only compared.

use aws_lc_rs::digest;

/// How many bytes of SHA-256 are kept. Nobody can find two texts that share 16 bytes.
const BYTES: usize = 16;

/// 32 hexadecimal digits that stand for a text.
pub(crate) fn digest_of(text: &str) -> String {
    let whole = digest::digest(&digest::SHA256, text.as_bytes());
    whole.as_ref().iter().take(BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_digests_of_one_length() {
        assert_eq!(digest_of(""), "e3b0c44298fc1c149afbf4c8996fb924");
        assert_eq!(digest_of(&"x".repeat(1_000)).len(), 32);
        assert_ne!(digest_of("a"), digest_of("b"));
    }
}
