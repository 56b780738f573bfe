//! Which paths a job takes: include and exclude globs.
//!
//! A glob is matched against the path relative to the source, and `*` also matches `/`, so `*.jpg` means every such
//! file at any depth. A glob that matches a folder speaks for everything in it. Case counts.

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::JobError;

/// Compiled globs.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Filter {
    /// Compiles the globs; no include globs mean that everything is included.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, JobError> {
        let include = if include.is_empty() { None } else { Some(compile(include)?) };
        Ok(Self { include, exclude: compile(exclude)? })
    }

    /// Whether the job takes the file at `path`.
    pub fn takes(&self, path: &str) -> bool {
        let matches = |set: &GlobSet| with_folders(path).any(|p| set.is_match(p));
        self.include.as_ref().is_none_or(matches) && !matches(&self.exclude)
    }
}

/// `a`, `a/b`, `a/b/c.png`.
fn with_folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

fn compile(globs: &[String]) -> Result<GlobSet, JobError> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let compiled = Glob::new(glob).map_err(|source| JobError::Glob { glob: glob.clone(), source })?;
        set.add(compiled);
    }
    set.build().map_err(|source| JobError::Glob { glob: globs.join(", "), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(include: &[&str], exclude: &[&str], path: &str) -> bool {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Filter::new(&own(include), &own(exclude)).unwrap().takes(path)
    }

    #[test]
    fn a_star_reaches_into_folders_and_a_folder_stands_for_its_files() {
        assert!(takes(&[], &[], "a/b.png"));
        assert!(takes(&["*.jpg"], &[], "a/b/c.jpg"));
        assert!(!takes(&["*.jpg"], &[], "a/b/c.png"));
        assert!(!takes(&[], &["thumbs"], "thumbs/x/a.png"));
        assert!(takes(&[], &["thumbs"], "my thumbs/a.png"));
        assert!(!takes(&["holiday"], &["*.gif"], "holiday/a.gif"));
        assert!(takes(&["*.{jpg,JPG}"], &[], "A.JPG"));
    }

    #[test]
    fn a_broken_glob_is_named() {
        assert!(matches!(Filter::new(&["a[".into()], &[]), Err(JobError::Glob { glob, .. }) if glob == "a["));
    }
}
