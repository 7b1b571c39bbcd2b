//! The one place that asks the system for random bytes: ids, tokens, epochs and secrets are made of them.

/// The system gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system has no random bytes: {0}")]
pub struct NoRandomBytes(#[from] getrandom::Error);

/// `N` random bytes, which nobody can guess.
///
/// # Errors
///
/// [`NoRandomBytes`], which a system in working order never answers.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomBytes> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

/// 16 random bytes as 32 hexadecimal digits.
///
/// # Errors
///
/// Like [`bytes`].
pub fn hex() -> Result<String, NoRandomBytes> {
    Ok(format!("{:032x}", u128::from_be_bytes(bytes()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_the_same_and_leading_zeros_stay() {
        let made: std::collections::BTreeSet<String> = (0..1_000).map(|_| hex().unwrap()).collect();
        assert_eq!(made.len(), 1_000);
        assert!(made.iter().all(|text| text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())));
        assert_ne!(bytes::<48>().unwrap(), [0; 48]);
    }
}
