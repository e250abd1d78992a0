//! `plugin test`: runs a case file, each case with a new instance.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::args::{PluginArgs, loader};
use super::output::print_line;
use super::plugin_log::PluginLog;
use crate::loading::cases;

/// The arguments of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    plugin: PluginArgs,
    /// The case file; by default the one beside the plugin (name.cases.toml; in a crate cases.toml; or .jsonl)
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let plugin_file = options.plugin.resolve()?;
    let file = match &options.cases {
        Some(file) => file.clone(),
        None => cases::case_file_of(&plugin_file.wasm).with_context(|| no_cases(&plugin_file.wasm))?,
    };
    let cases = cases::read(&file).map_err(|failure| anyhow!("{failure}"))?;
    let plugin_log = PluginLog::capture()?;
    let plugin = plugin_file.load(&loader()?)?;
    plugin_log.take();
    let mut failed = 0;
    for case in cases.cases() {
        let result = cases::run_case(&plugin, &cases, case);
        let lines = plugin_log.take();
        match result {
            Ok(()) => print_line(format_args!("ok      line {}  {}", case.line(), case.name())),
            Err(mismatch) => {
                failed += 1;
                print_line(format_args!("FAILED  {}: {mismatch}", file.display()));
                lines.iter().for_each(|line| print_line(format_args!("    log: {line}")));
            }
        }
    }
    print_line(format_args!("{} passed, {failed} failed", cases.cases().len() - failed));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn no_cases(wasm: &Path) -> String {
    format!("there is no {} (nor .jsonl); --cases names another file", wasm.with_extension("cases.toml").display())
}
