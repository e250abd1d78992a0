//! `arcyou-gateway plugin …`: what authors of plugins do, from an empty folder to a file for the plugins directory.
//!
//! [`new`] writes one, with the SDK ([`sdk`]) in it; the others take a [`subject`], its folder or a `.wasm` file, and
//! try it by the gateway's own code.

mod args;
mod bench;
pub mod build;
mod check;
mod new;
mod output;
mod plugin_log;
mod replay;
mod run;
mod sdk;
mod status;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a new plugin that builds as it stands, with cases
    New(new::Options),
    /// Build plugins: crates, and folders with a build.sh, to .wasm files
    Build {
        /// Plugins, or folders of them
        #[arg(default_value = ".")]
        dirs: Vec<PathBuf>,
        /// Where the .wasm files go, each plugin's cases beside its own
        #[arg(long, default_value = "target/plugins")]
        out: PathBuf,
    },
    /// Judge the messages of a case file, and say where the verdicts are not as they should be
    Test(test::Options),
    /// Judge one message: verdict, log, time, instructions, memory
    Run(run::Options),
    /// Say what a plugin is: hooks, imports, limits, and whether a gateway would load it
    Check(check::Options),
    /// Measure what a plugin costs
    Bench(bench::Options),
    /// See a failure again that a gateway kept
    Replay(replay::Options),
    /// Ask a running gateway how its plugins are doing; fails if one of them does not work
    Status(status::Options),
    /// Write out the SDK that belongs to this gateway
    Sdk {
        /// Where to; an SDK that stands there is brought up to date
        dir: PathBuf,
    },
}

impl PluginCommand {
    /// Does it. Blocks its thread for as long as compilers take.
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
