//! Finds programs: on `PATH` first, then where packages install them.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::ServiceError;

/// Directories that are often missing from `PATH`.
const FALLBACK_DIRECTORIES: &[&str] = &[
    "/usr/local/bin",
    "/usr/bin",
    "/usr/local/sbin",
    "/usr/sbin",
    "/opt/homebrew/bin",
    "/opt/homebrew/sbin",
    "/opt/local/bin",
];

/// Where packages install the programs of a PostgreSQL server: the parent, the prefix of the entry in it, and the
/// directory in that entry.
const POSTGRES_DIRECTORIES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/opt/local/lib", "postgresql", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// The programs of one PostgreSQL server.
#[derive(Debug, Clone)]
pub(crate) struct PostgresPrograms {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
    /// The major version, as `PG_VERSION` spells it.
    pub(crate) major: String,
}

/// The first of these programs that is installed.
pub(crate) fn program(names: &[&'static str], install: &'static str) -> Result<PathBuf, ServiceError> {
    let found = directories().into_iter().flat_map(|directory| names.iter().map(move |name| directory.join(name)));
    found.into_iter().find(|path| is_program(path)).ok_or_else(|| ServiceError::NotFound {
        program: names[0],
        searched: format!("PATH, {}", FALLBACK_DIRECTORIES.join(", ")),
        install,
    })
}

/// The server with the wanted major version; if that is not installed or none is wanted, the first on `PATH`, else the
/// newest.
pub(crate) fn postgres(wanted: Option<&str>) -> Result<PostgresPrograms, ServiceError> {
    let mut found = Vec::new();
    for directory in directories().into_iter().chain(package_directories()) {
        let (initdb, postgres) = (directory.join("initdb"), directory.join("postgres"));
        if !is_program(&initdb) || !is_program(&postgres) {
            continue;
        }
        let Some(major) = major_version(&postgres) else { continue };
        let programs = PostgresPrograms { initdb, postgres, major };
        if wanted.is_none_or(|wanted| wanted == programs.major) {
            return Ok(programs);
        }
        found.push(programs);
    }
    found.into_iter().next().ok_or_else(|| ServiceError::NotFound {
        program: "PostgreSQL (initdb and postgres)",
        searched: format!(
            "PATH, {}, {}",
            FALLBACK_DIRECTORIES.join(", "),
            POSTGRES_DIRECTORIES
                .iter()
                .map(|(parent, start, end)| format!("{parent}/{start}*/{end}"))
                .collect::<Vec<_>>()
                .join(", ")
        ),
        install: "apt-get install postgresql (Debian, Ubuntu), brew install postgresql (macOS)",
    })
}

/// The version that a program prints: the first word of its output that begins with a digit.
pub(crate) fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned)
}

fn major_version(postgres: &Path) -> Option<String> {
    // "15.18", "17beta1"
    version(postgres).map(|version| version.chars().take_while(char::is_ascii_digit).collect())
}

fn directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all: Vec<PathBuf> = std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
    all.extend(FALLBACK_DIRECTORIES.iter().map(PathBuf::from));
    all
}

/// The newest version first within each place.
fn package_directories() -> Vec<PathBuf> {
    let mut all = Vec::new();
    for (parent, start, end) in POSTGRES_DIRECTORIES {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut versions: Vec<(u32, String)> =
            names.filter(|name| name.starts_with(start)).map(|name| (number_in(&name), name)).collect();
        versions.sort_by_key(|(number, _)| Reverse(*number));
        all.extend(versions.into_iter().map(|(_, name)| Path::new(parent).join(name).join(end)));
    }
    all
}

fn number_in(name: &str) -> u32 {
    let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_highest_number() {
        let mut names = ["postgresql@9", "postgresql@16", "postgresql@14", "postgresql"].map(number_in);
        names.sort_unstable();
        assert_eq!(names, [0, 9, 14, 16]);
    }

    #[test]
    fn a_missing_program_is_named_with_the_line_that_installs_it() {
        let text = program(&["no-such-server"], "apt-get install it").map_err(|error| error.to_string());
        let text = text.err().unwrap_or_default();
        assert!(
            text.contains("no-such-server") && text.contains("PATH") && text.contains("apt-get install it"),
            "{text}"
        );
    }
}
