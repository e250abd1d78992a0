//! `plugin check` for a plugins directory: whether a gateway would start with it, and everything that is in its way.

use std::path::Path;
use std::process::ExitCode;

use super::args::loader;
use super::output::print_line;
use super::plugin_log::PluginLog;
use crate::chain::plugin::Plugin;
use crate::digest::short;
use crate::loading::cases;
use crate::loading::loader::read_manifest;
use crate::manifest::{FILE_NAME, Manifest};

/// Loads each plugin in the same steps as a gateway, and fails if any of them is refused.
pub(super) fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    let plugin_log = PluginLog::capture()?;
    let loader = loader()?;
    let Manifest { entries, allowed, .. } = read_manifest(dir)?;
    if !dir.join(FILE_NAME).is_file() {
        print_line(format_args!("there is no {FILE_NAME}: each file is loaded with the defaults"));
    }
    let (mut loaded, mut refused) = (0, 0);
    for entry in entries {
        let name = entry.name.clone();
        if !entry.enabled {
            print_line(format_args!("off      {name}"));
            continue;
        }
        match loader.load_entry(dir, entry, allowed.as_ref(), &[]) {
            Ok(plugin) => {
                loaded += 1;
                print_line(format_args!("ok       {name}  {}", summary(dir, &plugin)));
            }
            Err(error) => {
                refused += 1;
                print_line(format_args!("REFUSED  {error}"));
            }
        }
        plugin_log.take().iter().for_each(|line| print_line(format_args!("    log: {line}")));
    }
    let verdict = if refused == 0 { "a gateway would load them" } else { "a gateway would not start with them" };
    print_line(format_args!("{loaded} loaded, {refused} refused: {verdict}"));
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(dir: &Path, plugin: &Plugin) -> String {
    let (entry, status) = (plugin.entry(), plugin.status());
    let version = status.version.map(|version| format!("{version} ")).unwrap_or_default();
    let cases = match cases::case_file_of(&dir.join(&entry.file)) {
        Some(_) if entry.cases && !status.quarantined => ", cases hold",
        Some(_) => ", cases not run",
        None => "",
    };
    let quarantined = if status.quarantined { ", QUARANTINED: a gateway died while it ran this file" } else { "" };
    format!("{version}{}  {}{cases}{quarantined}", short(&status.sha256), status.hooks.join(", "))
}
