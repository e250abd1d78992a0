//! Builds the plugins in the working directory, in a process of its own: whoever stops `dev` stops the compilers too.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use arcyou_platform::env::{Process, Source as _};
use arcyou_plugin_host::tool::build::has_plugins;
use tokio::process::Command;

use super::progress::step;

/// Where the sources stand, and where the plugins go.
const SOURCES: &str = "plugins";
const BUILT: &str = "target/plugins";

/// Builds the plugins whose sources stand in `./plugins`. Where they are then; none: there are none, or `PLUGINS_DIR`
/// says where. Dropped, it ends the compilers.
pub(super) async fn build() -> anyhow::Result<Option<PathBuf>> {
    if Process.get("PLUGINS_DIR").is_some() || !has_plugins(Path::new(SOURCES)) {
        return Ok(None);
    }
    let this = std::env::current_exe().context("the program that builds plugins is not to be found")?;
    let mut command = Command::new(this);
    command.args(["plugin", "build", SOURCES, "--out", BUILT, "--mirror"]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut builder = command.process_group(0).spawn().context("the plugins could not be built")?;
    let group = Group(builder.id());
    let status = step("building plugins", builder.wait()).await.context("the plugins could not be built")?;
    // What it has started may be anybody's by now.
    group.has_ended();
    ensure!(status.success(), "the plugins could not be built; see above, or set PLUGINS_DIR");
    Ok(Some(PathBuf::from(BUILT)))
}

/// A process and all that it has started. Dropped, it is told to end.
struct Group(Option<u32>);

impl Group {
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(id) = self.0 else { return };
        // The shell's own `kill` knows groups on every system.
        let mut kill = std::process::Command::new("/bin/sh");
        kill.args(["-c", "kill -s KILL -- \"-$1\"", "sh", &id.to_string()]).stderr(Stdio::null());
        let _ = kill.status();
    }
}
