//! The way to a directory: which names lead to it, of links and of the directory itself. If one of them changes, the
//! directory may be another one.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many links are followed as Linux follows.
const MAX_LINKS: usize = 40;

/// A directory, and how it is reached.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// The directory, with all links followed. It may be missing.
    pub(super) dir: PathBuf,
    /// Each link on the way, and last the directory; no link leads to any of them.
    pub(super) names: Vec<PathBuf>,
}

/// A part of a path.
enum Step {
    Root,
    Up,
    Into(OsString),
}

impl Way {
    pub(super) fn to(dir: &Path) -> Self {
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let mut steps: VecDeque<Step> = steps(&absolute).collect();
        let (mut here, mut names) = (PathBuf::from("/"), Vec::new());
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Root => here = PathBuf::from("/"),
                Step::Up => drop(here.pop()),
                Step::Into(name) => {
                    let path = here.join(name);
                    match fs::read_link(&path) {
                        Ok(target) if names.len() < MAX_LINKS => {
                            self::steps(&target).rev().for_each(|step| steps.push_front(step));
                            names.push(path);
                        }
                        _ => here = path,
                    }
                }
            }
        }
        names.push(here.clone());
        Self { dir: here, names }
    }

    /// The directories in which changes are of interest: the directory, and those that hold the names.
    pub(super) fn places(&self) -> impl Iterator<Item = &Path> {
        self.names.iter().filter_map(|name| name.parent()).chain([self.dir.as_path()])
    }

    /// Whether a change of this path may change what the directory holds.
    pub(super) fn concerns(&self, changed: &Path) -> bool {
        changed.starts_with(&self.dir) || self.names.iter().any(|name| name == changed)
    }
}

fn steps(path: &Path) -> impl DoubleEndedIterator<Item = Step> {
    path.components().filter_map(|component| match component {
        Component::RootDir => Some(Step::Root),
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Into(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_wherever_they_stand() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("releases/2/plugins")).unwrap();
        symlink("releases/2", top.join("current")).unwrap();
        symlink("../current/plugins", top.join("releases/live")).unwrap();
        let way = Way::to(&top.join("releases/live"));
        assert_eq!(way.dir, top.join("releases/2/plugins"));
        assert_eq!(way.names, [top.join("releases/live"), top.join("current"), top.join("releases/2/plugins")]);
        assert!(way.concerns(&top.join("current")) && way.concerns(&way.dir.join("a.wasm")));
        assert!(!way.concerns(&top.join("releases/other")));
        symlink("round", top.join("round")).unwrap();
        assert_eq!(Way::to(&top.join("round")).names.len(), MAX_LINKS + 1);
    }
}
