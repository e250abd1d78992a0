//! `arcyou-gateway plugin …`: the commands for authors of plugins.
//!
//! [`new`] writes a new plugin with the [`sdk`] beside it. [`build`] compiles plugins, and [`place`] puts them where a
//! gateway finds them; [`author`] reads what an author says that they need, [`suggest`] says it to operators.
//! [`check`], [`test`], [`run`], [`bench`] and [`replay`] load a plugin with the gateway's own code, [`check_dir`] a
//! whole directory; their common arguments are in [`args`], what the plugin logs in [`plugin_log`], what counts
//! instructions in [`meter`], and the lines that they print in [`output`]. [`status`] queries a running gateway.

mod args;
mod author;
mod bench;
pub mod build;
mod check;
mod check_dir;
pub mod meter;
mod new;
mod output;
mod place;
mod plugin_log;
mod replay;
mod run;
mod sdk;
mod sources;
mod status;
mod suggest;
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
        /// Where the .wasm files go, each with its plugin's cases beside it; no other file there is touched
        #[arg(long, default_value = "target/plugins")]
        out: PathBuf,
        /// For a folder that belongs to this command alone: with the folders' plugins.toml, and without what earlier
        /// builds made of sources that are gone
        #[arg(long, hide = true)]
        mirror: bool,
    },
    /// Judge the messages of a case file, and report verdicts that differ
    Test(test::Options),
    /// Judge one message: verdict, log, time, instructions, memory
    Run(run::Options),
    /// Show a plugin's hooks, imports and limits, and whether a gateway would load it; or check a whole plugins
    /// directory
    Check(check::Options),
    /// Measure what a plugin costs
    Bench(bench::Options),
    /// Reproduce a failure that a gateway recorded
    Replay(replay::Options),
    /// Show the status of a running gateway's plugins; fails if one of them does not work, or if changed files are
    /// refused
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
            Self::Build { dirs, out, mirror } => {
                let plugins = build::build(&dirs, &out).context("the plugins could not be built")?;
                anyhow::ensure!(
                    !plugins.is_empty(),
                    "there is no plugin in {}: neither a crate nor a build.sh",
                    output::join_paths(&dirs)
                );
                plugins.iter().flat_map(|plugin| &plugin.files).for_each(|file| output::print_line(file.display()));
                if mirror {
                    build::mirror(&dirs, &plugins, &out)?;
                }
                for plugin in &plugins {
                    suggest::missing_entry(plugin, &out)?.iter().for_each(|text| output::print_note(text));
                }
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
