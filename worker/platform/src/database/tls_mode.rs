//! `sslmode` and `sslrootcert` of a database URL, as libpq understands them.

use std::path::Path;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::SslMode;

use crate::tls::{Authorities, RootsFileError, Verification, roots_of_file};

/// Why the two cannot be as the URL says. Shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsModeError {
    #[error("sslmode is disable, allow, prefer, require, verify-ca or verify-full")]
    Mode,
    #[error("{0} is there twice")]
    Twice(&'static str),
    #[error("sslrootcert needs sslmode=require, verify-ca or verify-full: with any other, no certificate is looked at")]
    RootsForNothing,
    #[error(
        "sslrootcert=system needs sslmode=verify-full: a name is all that tells apart whose certificates those sign"
    )]
    SystemWithoutName,
    #[error("sslrootcert: {0}")]
    Roots(#[from] RootsFileError),
}

/// Takes both out of the URL, which is then one that the client library knows; it verifies nothing by itself and has no
/// `allow`.
pub(super) fn take(url: &str) -> Result<(String, SslMode, Verification), TlsModeError> {
    // The query begins after the login, in which a question mark may stand as it is.
    let login = url.find('@').unwrap_or_default();
    let Some(query) = url[login..].find('?').map(|at| login + at) else {
        return mode(None, None).map(|(mode, verification)| (url.to_owned(), mode, verification));
    };
    let (mut sslmode, mut sslrootcert, mut others) = (None, None, Vec::new());
    for option in url[query + 1..].split('&') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let (name, taken) = match name {
            "sslmode" => ("sslmode", &mut sslmode),
            "sslrootcert" => ("sslrootcert", &mut sslrootcert),
            _ => {
                others.push(option);
                continue;
            }
        };
        if taken.replace(percent_decode_str(value).decode_utf8_lossy().into_owned()).is_some() {
            return Err(TlsModeError::Twice(name));
        }
    }
    let rest = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
    let (mode, verification) = mode(sslmode.as_deref(), sslrootcert.as_deref())?;
    Ok((format!("{}{rest}", &url[..query]), mode, verification))
}

fn mode(sslmode: Option<&str>, sslrootcert: Option<&str>) -> Result<(SslMode, Verification), TlsModeError> {
    let is_system = sslrootcert == Some("system");
    // As in libpq, the machine's authorities are of use only where the name is verified, and file and `require` mean
    // `verify-ca`.
    let sslmode = sslmode.unwrap_or(if is_system { "verify-full" } else { "prefer" });
    let authorities = match sslrootcert {
        Some(_) if ["disable", "allow", "prefer"].contains(&sslmode) => return Err(TlsModeError::RootsForNothing),
        Some(_) if is_system && sslmode != "verify-full" => return Err(TlsModeError::SystemWithoutName),
        Some(path) if !is_system => Some(Authorities::Listed(Arc::new(roots_of_file(Path::new(path))?))),
        _ => None,
    };
    Ok(match (sslmode, authorities) {
        ("disable", _) => (SslMode::Disable, Verification::Nothing),
        ("allow" | "prefer", _) => (SslMode::Prefer, Verification::Nothing),
        ("require", None) => (SslMode::Require, Verification::Nothing),
        ("require" | "verify-ca", Some(listed)) => (SslMode::Require, Verification::Signer(listed)),
        ("verify-ca", None) => (SslMode::Require, Verification::Signer(Authorities::Machine)),
        ("verify-full", listed) => {
            (SslMode::Require, Verification::SignerAndName(listed.unwrap_or(Authorities::Machine)))
        }
        _ => return Err(TlsModeError::Mode),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(query: &str) -> (String, SslMode, &'static str) {
        let (url, mode, verification) = take(&format!("postgres://u:p@h/d{query}")).unwrap();
        let verification = match verification {
            Verification::Nothing => "nothing",
            Verification::Signer(_) => "signer",
            Verification::SignerAndName(_) => "signer and name",
        };
        (url.strip_prefix("postgres://u:p@h/d").unwrap().to_owned(), mode, verification)
    }

    #[test]
    fn modes_are_those_of_libpq() {
        for (query, rest, mode, verified) in [
            ("", "", SslMode::Prefer, "nothing"),
            ("?sslmode=disable", "", SslMode::Disable, "nothing"),
            ("?sslmode=allow", "", SslMode::Prefer, "nothing"),
            ("?sslmode=prefer", "", SslMode::Prefer, "nothing"),
            ("?sslmode=require", "", SslMode::Require, "nothing"),
            ("?sslmode=verify-ca", "", SslMode::Require, "signer"),
            ("?sslmode=verify-full", "", SslMode::Require, "signer and name"),
            ("?sslmode=verify%2Dfull", "", SslMode::Require, "signer and name"),
            ("?sslrootcert=system", "", SslMode::Require, "signer and name"),
            ("?a=1&sslmode=verify-ca&b=x%20y", "?a=1&b=x%20y", SslMode::Require, "signer"),
            ("?a=1", "?a=1", SslMode::Prefer, "nothing"),
        ] {
            assert_eq!(of(query), (rest.to_owned(), mode, verified), "{query}");
        }
        let (url, mode, _) = take("postgres://u:p?sslmode=x@h/d?sslmode=require").unwrap();
        assert_eq!((url.as_str(), mode), ("postgres://u:p?sslmode=x@h/d", SslMode::Require));
    }

    #[test]
    fn what_would_be_passed_over_is_an_error() {
        for (query, told) in [
            ("?sslmode=verify-most", "verify-ca or verify-full"),
            ("?sslmode=", "verify-ca or verify-full"),
            ("?sslmode=require&sslmode=disable", "sslmode is there twice"),
            ("?sslrootcert=/ca.pem", "needs sslmode=require"),
            ("?sslmode=prefer&sslrootcert=/ca.pem", "needs sslmode=require"),
            ("?sslmode=require&sslrootcert=system", "needs sslmode=verify-full"),
            ("?sslmode=verify-ca&sslrootcert=/no/such/file", "cannot be read"),
            ("?sslmode=verify-ca&sslrootcert=/dev/null", "no PEM certificate"),
        ] {
            let error = take(&format!("postgres://u:hunter2@h/d{query}")).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{query}: {error}");
        }
    }
}
