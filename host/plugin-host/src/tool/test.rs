//! `plugin test`: a case file, each case by a new instance.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::lines::Lines;
use super::subject::{Subject, loader, report};
use crate::loading::cases;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    subject: Subject,
    /// The cases, if they are not those beside the plugin (name.cases.toml; in a crate cases.toml; or .jsonl)
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let found = options.subject.find()?;
    let file = match &options.cases {
        Some(file) => file.clone(),
        None => cases::beside(&found.wasm).with_context(|| no_cases(&found.wasm))?,
    };
    let cases = cases::read(&file).map_err(|failure| anyhow!("{failure}"))?;
    let lines = Lines::collect()?;
    let plugin = found.load(&loader()?)?;
    lines.take();
    let mut failed = 0;
    for case in cases.cases() {
        let held = cases::hold(&plugin, &cases, case);
        let lines = lines.take();
        match held {
            Ok(()) => report(format_args!("ok      line {}  {}", case.line(), case.name())),
            Err(mismatch) => {
                failed += 1;
                report(format_args!("FAILED  {}: {mismatch}", file.display()));
                lines.iter().for_each(|line| report(format_args!("    log: {line}")));
            }
        }
    }
    report(format_args!("{} passed, {failed} failed", cases.cases().len() - failed));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn no_cases(wasm: &Path) -> String {
    format!("there is no {} (nor .jsonl); --cases names another file", wasm.with_extension("cases.toml").display())
}
