//! `plugin new`: writes a crate, or a folder in another language, that builds without changes.

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::output::print_line;
use super::sdk;

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The plugin's name, or a path that ends with it
    name: PathBuf,
    /// Use the SDK in this folder, which is written there if it is missing; by default the plugin gets an SDK of its
    /// own
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
    /// The plugin's language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    language: Language,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
enum Language {
    Rust,
    JavaScript,
    Python,
}

/// A file of a plugin in the repository: every plugin in that language is built in the same way.
macro_rules! shipped {
    ($file:literal) => {
        include_str!(concat!("../../../../plugins/", $file))
    };
}

impl Language {
    /// The files, each with its template.
    const fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &[
                ("Cargo.toml", include_str!("template/Cargo.toml")),
                ("src/lib.rs", include_str!("template/lib.rs")),
                ("cases.toml", include_str!("template/cases.toml")),
                ("plugin.toml", include_str!("template/plugin.toml")),
                ("README.md", include_str!("template/README.md")),
                (".gitignore", "/target\n"),
            ],
            Self::JavaScript => &[
                ("plugin.js", include_str!("template/javascript/plugin.js")),
                ("cases.toml", include_str!("template/cases.toml")),
                ("plugin.toml", include_str!("template/plugin.toml")),
                ("build.sh", shipped!("JavaScript/mention-limit/build.sh")),
                ("package.json", shipped!("JavaScript/mention-limit/package.json")),
                ("package-lock.json", shipped!("JavaScript/mention-limit/package-lock.json")),
                ("README.md", include_str!("template/scripted.md")),
                (".gitignore", "/node_modules\n/target\n"),
            ],
            Self::Python => &[
                ("plugin.py", include_str!("template/python/plugin.py")),
                ("cases.toml", include_str!("template/cases.toml")),
                ("plugin.toml", include_str!("template/python/plugin.toml")),
                ("build.sh", shipped!("Python/script-guard/build.sh")),
                ("requirements.txt", shipped!("Python/script-guard/requirements.txt")),
                ("README.md", include_str!("template/scripted.md")),
                (".gitignore", "/.venv\n/target\n"),
            ],
        }
    }

    /// The file that contains the plugin's rule.
    const fn rule(self) -> &'static str {
        self.files()[if matches!(self, Self::Rust) { 1 } else { 0 }].0
    }

    /// Fills in a template. Files of the repository's plugins contain those plugins' names, which are replaced too.
    fn fill(self, template: &str, name: &str, sdk: &str) -> String {
        let text = template.replace("{{name}}", name).replace("{{type}}", &type_name(name)).replace("{{sdk}}", sdk);
        match self {
            Self::Rust => text,
            Self::JavaScript => text.replace("mention-limit", name),
            Self::Python => text.replace("script-guard", name),
        }
        .replace("sdk=../../../plugin-sdk", &format!("sdk={sdk}"))
    }
}

/// Names of crates that the plugin would hide, or that cargo does not accept.
const TAKEN: [&str; 9] =
    ["arcyou-plugin-cases", "arcyou-plugin-sdk", "alloc", "core", "proc-macro", "serde", "serde-json", "std", "test"];
/// Keywords, which cannot name a crate. `r#` does not help in a file's name.
const KEYWORDS: &str = "abstract as async await become box break const continue crate do dyn else enum extern false \
    final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct \
    super trait true try type typeof unsafe unsized use virtual where while yield";

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let dir = &options.name;
    let name = dir.file_name().and_then(|name| name.to_str()).context("a plugin needs a name")?;
    check(name)?;
    if !sdk::is_empty(dir) {
        bail!("{} is there already, and not empty", dir.display());
    }
    let sdk = match &options.sdk {
        None => {
            sdk::write(&dir.join("sdk"))?;
            PathBuf::from("sdk")
        }
        Some(shared) => {
            if !sdk::is_sdk(shared) {
                sdk::write(shared)?;
            }
            relative(&std::path::absolute(dir)?, &std::path::absolute(shared)?)
        }
    };
    let sdk = sdk.display().to_string();
    for (file, template) in options.language.files() {
        sdk::write_file(&dir.join(file), options.language.fill(template, name, &sdk))?;
    }
    print_line(format_args!(
        "{}: the rule is in {}, what it must do in cases.toml. Next:",
        dir.display(),
        options.language.rule()
    ));
    print_line(format_args!("  cd {} && arcyou-gateway plugin test", dir.display()));
    Ok(ExitCode::SUCCESS)
}

fn check(name: &str) -> anyhow::Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    let ends = name.ends_with(|last: char| last.is_ascii_alphanumeric());
    if name.len() > 64 || !begins || !ends || !name.bytes().all(plain) {
        bail!(
            "{name:?} is not a valid name for a plugin: up to 64 of a-z 0-9 - _, a letter first, no - or _ at the end"
        );
    }
    if TAKEN.contains(&name.replace('_', "-").as_str()) || KEYWORDS.split_whitespace().any(|word| word == name) {
        bail!("{name:?} is not a valid name for a plugin: it means something else to Rust");
    }
    Ok(())
}

/// Converts `no-shouting` to `NoShouting`.
fn type_name(name: &str) -> String {
    let word = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    let name: String = name.split(['-', '_']).filter(|part| !part.is_empty()).map(word).collect();
    // Names that the template's code uses for something else.
    if ["Config", "Filter", "Message", "Plugin", "Result", "Self", "String", "Vec", "Verdict"].contains(&name.as_str())
    {
        name + "Rule"
    } else {
        name
    }
}

/// The relative path from one absolute path to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let same = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(same).map(|_| Component::ParentDir);
    up.chain(to.components().skip(same)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates() {
        assert!(["a", "no-shouting", "rule_2"].iter().all(|name| check(name).is_ok()));
        for name in ["", "A", "2x", "a b", "a/", "한", "-a", "a-", "fn", "std", "serde_json", &"x".repeat(65)] {
            assert!(check(name).is_err(), "{name}");
        }
        let types = ["no-shouting", "a__b", "x2", "filter", "self-"].map(type_name);
        assert_eq!(types, ["NoShouting", "AB", "X2", "FilterRule", "SelfRule"]);
    }

    #[test]
    fn a_shared_sdk_is_found_from_the_crate() {
        let way = |from: &str, to: &str| relative(Path::new(from), Path::new(to)).display().to_string();
        assert_eq!(way("/a/b/rule", "/a/sdk"), "../../sdk");
        assert_eq!(way("/a/rule", "/a/rule/sdk"), "sdk");
    }
}
