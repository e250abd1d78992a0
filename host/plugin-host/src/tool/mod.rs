//! `arcyou-gateway plugin …`: the commands for authors of plugins.
//!
//! [`new`] writes a new plugin with the [`sdk`] beside it. [`build`] compiles plugins. [`check`], [`test`], [`run`],
//! [`bench`] and [`replay`] load a plugin with the gateway's own code; their common arguments are in [`args`], what the
//! plugin logs in [`plugin_log`], what counts instructions in [`meter`], and the lines that they print in [`output`]. [`status`] queries a running gateway.

mod args;
mod bench;
pub mod build;
mod check;
pub mod meter;
mod new;
mod output;
mod plugin_log;
mod replay;
mod run;
mod sdk;
mod sources;
mod status;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

/// The subcommands of `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a new plugin that builds without changes, with cases
    New(new::Options),
    /// Build plugins: crates, and folders with a build.sh, to .wasm files
    Build {
        /// Plugins, or folders of them
        #[arg(default_value = ".")]
        dirs: Vec<PathBuf>,
        /// Where the .wasm files go, each with its plugin's cases beside it
        #[arg(long, default_value = "target/plugins")]
        out: PathBuf,
    },
    /// Judge the messages of a case file, and report verdicts that differ
    Test(test::Options),
    /// Judge one message: verdict, log, time, instructions, memory
    Run(run::Options),
    /// Show a plugin's hooks, imports and limits, and whether a gateway would load it
    Check(check::Options),
    /// Measure what a plugin costs
    Bench(bench::Options),
    /// Reproduce a failure that a gateway recorded
    Replay(replay::Options),
    /// Show the status of a running gateway's plugins; fails if one of them does not work
    Status(status::Options),
    /// Write the SDK that belongs to this gateway to a folder
    Sdk {
        /// The folder; an SDK in it is updated
        dir: PathBuf,
    },
}

impl PluginCommand {
    /// Executes the command. Blocks its thread for as long as compilers take.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::New(options) => new::run(&options),
            Self::Build { dirs, out } => {
                let files = build::build(&dirs, &out).context("the plugins could not be built")?;
                anyhow::ensure!(
                    !files.is_empty(),
                    "there is no plugin in {}: neither a crate nor a build.sh",
                    output::join_paths(&dirs)
                );
                files.iter().for_each(|file| output::print_line(file.display()));
                Ok(ExitCode::SUCCESS)
            }
            Self::Test(options) => test::run(&options),
            Self::Run(options) => run::run(&options),
            Self::Check(options) => check::run(&options),
            Self::Bench(options) => bench::run(&options),
            Self::Replay(options) => replay::run(&options),
            Self::Status(options) => status::run(&options),
            Self::Sdk { dir } => {
                sdk::write(&dir)?;
                output::print_line(dir.display());
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
