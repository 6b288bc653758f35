//! What may be agreed on, as users say it: the words of GnuTLS for what there is here.
//!
//! ```text
//! NORMAL | PERFORMANCE | SECURE128 | SECURE192 | SECURE256     then, each behind a colon
//! -AES-128-GCM  +AES-256-GCM  -CIPHER-ALL …                    ciphers
//! -VERS-ALL  +VERS-TLS1.3  -VERS-TLS1.2 …                      versions: TLS 1.3 has to be left
//! ```
//!
//! Words for what TLS 1.3 has not (key exchanges by name, compatibility with old programs) change nothing. What is not known is
//! refused: it may have been meant to forbid something.

use crate::records::Suite;
use block::{BlockError, Result};

/// Words that change nothing here.
const WITHOUT_EFFECT: &[&str] = &[
    "%COMPAT",
    "%SAFE_RENEGOTIATION",
    "%SERVER_PRECEDENCE",
    "+DHE-PSK",
    "+ECDHE-PSK",
    "+PSK",
    "-VERS-DTLS-ALL",
    "-VERS-DTLS1.0",
    "-VERS-DTLS1.2",
    "-VERS-SSL3.0",
    "-VERS-TLS1.0",
    "-VERS-TLS1.1",
    "-VERS-TLS1.2",
    "+VERS-TLS1.0",
    "+VERS-TLS1.1",
    "+VERS-TLS1.2",
];

/// The ciphers that a priority allows, the first choice first.
///
/// # Errors
/// A word has no meaning here, or nothing is left.
pub(crate) fn parse(text: &str) -> Result<Vec<Suite>> {
    let refused = |why: String| BlockError::invalid(format!("priority '{text}': {why}"));
    let mut words = text.split(':');
    let mut suites = match words.next().unwrap_or_default() {
        "NORMAL" | "PERFORMANCE" | "SECURE128" => Suite::ALL.to_vec(),
        "SECURE192" | "SECURE256" => vec![Suite::Aes256, Suite::ChaCha20],
        other => {
            let known = "it begins with NORMAL, PERFORMANCE, SECURE128, SECURE192 or SECURE256";
            return Err(refused(format!("{known}, not '{other}'")));
        }
    };
    let mut speaks = true;
    for word in words {
        match word {
            "-VERS-ALL" | "-VERS-TLS-ALL" | "-VERS-TLS1.3" => speaks = false,
            "+VERS-ALL" | "+VERS-TLS-ALL" | "+VERS-TLS1.3" => speaks = true,
            "-CIPHER-ALL" => suites.clear(),
            "+CIPHER-ALL" => suites = Suite::ALL.to_vec(),
            known if WITHOUT_EFFECT.contains(&known) => {}
            other => {
                let unknown = || refused(format!("'{other}' has no meaning here"));
                let (sign, name) = other.split_at_checked(1).ok_or_else(unknown)?;
                let suite = suite(name).ok_or_else(unknown)?;
                match sign {
                    "-" | "!" => suites.retain(|other| *other != suite),
                    "+" if !suites.contains(&suite) => suites.push(suite),
                    "+" => {}
                    _ => return Err(unknown()),
                }
            }
        }
    }
    match suites.as_slice() {
        _ if !speaks => Err(refused("TLS 1.3 is the only version here, and it is taken away".into())),
        [] => Err(refused("no cipher is left".into())),
        _ => Ok(suites),
    }
}

fn suite(name: &str) -> Option<Suite> {
    match name {
        "AES-128-GCM" => Some(Suite::Aes128),
        "AES-256-GCM" => Some(Suite::Aes256),
        "CHACHA20-POLY1305" => Some(Suite::ChaCha20),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Suite::{Aes128, Aes256, ChaCha20};

    #[test]
    fn words_for_what_there_is_here_choose_ciphers() {
        for (text, suites) in [
            ("NORMAL", &[Aes128, Aes256, ChaCha20][..]),
            ("SECURE256", &[Aes256, ChaCha20]),
            ("NORMAL:-AES-128-GCM", &[Aes256, ChaCha20]),
            ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:+AES-128-GCM", &[ChaCha20, Aes128]),
            ("NORMAL:-VERS-ALL:+VERS-TLS1.3", &[Aes128, Aes256, ChaCha20]),
            ("NORMAL:-VERS-TLS1.2:%COMPAT:+PSK", &[Aes128, Aes256, ChaCha20]),
        ] {
            assert_eq!(parse(text).unwrap(), suites, "{text}");
        }
    }

    #[test]
    fn what_can_t_be_done_is_refused_by_its_name() {
        for (text, why) in [
            ("", "begins with NORMAL"),
            ("@SYSTEM", "'@SYSTEM'"),
            ("NORMAL:-VERS-TLS1.3", "only version"),
            ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "only version"),
            ("NORMAL:+ANON-DH", "'+ANON-DH' has no meaning"),
            ("NORMAL:-GROUP-X25519", "'-GROUP-X25519'"),
            ("NORMAL:", "'' has no meaning"),
            ("NORMAL:-CIPHER-ALL", "no cipher"),
            ("NORMAL:?AES-128-GCM", "no meaning"),
        ] {
            let error = parse(text).unwrap_err().message();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
