//! The variables of a program, for its `--help`, its documentation, and those who mistype one.

use std::fmt::{self, Write as _};

use super::Source;

/// A variable that a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    pub name: &'static str,
    pub default: WhenUnset,
    /// What it says, in a few words.
    pub meaning: &'static str,
}

/// What counts if a variable is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnset {
    /// The program does not start.
    Required,
    /// This value, as it could be set.
    Value(&'static str),
    /// This, which cannot be set.
    Other(&'static str),
}

impl Variable {
    /// One that must be set.
    pub const fn required(name: &'static str, meaning: &'static str) -> Self {
        Self { name, default: WhenUnset::Required, meaning }
    }

    /// One with a default that could be set.
    pub const fn or(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { name, default: WhenUnset::Value(default), meaning }
    }

    /// One without a default, or with one that has no value of its own.
    pub const fn or_else(name: &'static str, default: &'static str, meaning: &'static str) -> Self {
        Self { name, default: WhenUnset::Other(default), meaning }
    }
}

impl fmt::Display for WhenUnset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Value(value) | Self::Other(value) => value,
        })
    }
}

/// What both programs say about their exit code, below the list of variables.
pub const EXIT_STATUS: &str =
    "Exit status: 0 done (also after SIGTERM), 1 failed, 2 wrong command line or environment.";

/// The part of `--help` that lists the variables.
pub fn help(variables: &[Variable]) -> String {
    let width = variables.iter().map(|variable| variable.name.len()).max().unwrap_or_default();
    let mut text = "Environment (docs/configuration.md says more):\n".to_owned();
    for Variable { name, default, meaning } in variables {
        // Writing to a text does not fail.
        let _ = writeln!(text, "  {name:width$}  {meaning} [{default}]");
    }
    let _ = write!(text, "\n{EXIT_STATUS}");
    text
}

/// Shorter names differ from one another in one or two letters without being meant for one another.
const SHORTEST: usize = 6;
/// So much of two names must be alike, from 0 to 1: a few letters in a long one, one in a short one.
const ALIKE: f64 = 0.75;

/// One line for each variable that is set, is none of `known`, and looks as if one of them was meant. What looks like
/// none of them is another program's.
pub fn look_alikes(source: &dyn Source, known: &[&[Variable]]) -> Vec<String> {
    let names: Vec<&'static str> = known.iter().flat_map(|list| list.iter().map(|variable| variable.name)).collect();
    let mut set = source.names();
    set.sort();
    let line = |name: String| {
        let meant = meant(&name, &names)?;
        Some(format!("{name} is set, and nothing reads it; is {meant} meant?"))
    };
    set.into_iter().filter_map(line).collect()
}

fn meant(set: &str, names: &[&'static str]) -> Option<&'static str> {
    if names.contains(&set) {
        return None;
    }
    let upper = set.to_ascii_uppercase();
    let alike = |name: &&'static str| (strsim::normalized_damerau_levenshtein(&upper, name), *name);
    let (likeness, nearest) = names.iter().map(alike).max_by(|one, other| one.0.total_cmp(&other.0))?;
    // With a word in front it is another program's, such as NIX_SSL_CERT_FILE.
    if upper.ends_with(&format!("_{nearest}")) {
        return None;
    }
    let is_near = upper == nearest || (set.len() >= SHORTEST && likeness >= ALIKE);
    // A name that was cut off, such as RATE_LIMIT.
    let cut_off = || names.iter().copied().find(|name| upper.contains('_') && name.starts_with(&format!("{upper}_")));
    if is_near { Some(nearest) } else { cut_off() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const KNOWN: &[Variable] = &[
        Variable::required("DATABASE_URL", "where PostgreSQL is"),
        Variable::or("PORT", "8080", "port"),
        Variable::or("MAX_CONNECTIONS", "16000", "sockets"),
        Variable::or_else("JWT_AUDIENCE", "any", "the audience"),
        Variable::or_else("ADMIN_ADDR", "none", "where operators ask"),
        Variable::or("RATE_LIMIT_BURST", "200", "frames at once"),
        Variable::or_else("TRUSTED_PROXIES", "none", "load balancers"),
        Variable::or_else("REDIS_URL", "none", "where Redis is"),
        Variable::or_else("JWT_PUBLIC_KEY", "none", "the key"),
        Variable::or_else("JWT_ISSUER", "none", "the issuer"),
    ];

    fn said(name: &str) -> Vec<String> {
        look_alikes(&HashMap::from([(name, "1")]), &[KNOWN])
    }

    #[test]
    fn a_slip_is_noticed() {
        for (slip, meant) in [
            ("MAX_CONECTIONS", "MAX_CONNECTIONS"),
            ("JWT_AUDIENCES", "JWT_AUDIENCE"),
            ("ADMIN_ADDRESS", "ADMIN_ADDR"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("REDIS_URLS", "REDIS_URL"),
            ("RATE_LIMIT", "RATE_LIMIT_BURST"),
            ("jwt_issuer", "JWT_ISSUER"),
            ("port", "PORT"),
        ] {
            let said = said(slip).join("\n");
            assert!(said.starts_with(slip) && said.contains(&format!("is {meant} meant")), "{slip}: {said}");
        }
    }

    #[test]
    fn other_programs_variables_are_their_own_affair() {
        for name in [
            "PORT",
            "PORT0",
            "PORTS",
            "POST",
            "HOST",
            "USER",
            "PATH",
            "JWT_SECRET",
            "JWT_PRIVATE_KEY",
            "JWT_USER",
            "REDIS_HOST",
            "REDIS_PORT",
            "DATABASE_HOST",
            "ADMIN_USER",
            "POSTGRES_PASSWORD",
            "MAX_MEMORY",
            "PGHOST",
            "DATABASE_URL_REPLICA",
            "ARCYOU_GATEWAY_SERVICE_PORT",
            "ARCYOU_GATEWAY_PORT_8080_TCP_ADDR",
            "KUBERNETES_PORT",
            "NIX_MAX_CONNECTIONS",
        ] {
            assert_eq!(said(name), Vec::<String>::new());
        }
    }
}
