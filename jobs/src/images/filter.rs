//! Which paths a job takes: include and exclude globs.
//!
//! A glob is matched against the path relative to the source, and `*` also matches `/`, so `*.jpg` means every such
//! file at any depth. A glob that matches a folder speaks for everything in it.
//!
//! Case counts, as it does on most systems, but in a file's extension: cameras write `.JPG`, people `*.jpg`. A glob
//! matches a file if it matches its path under any case of the extension, so `*.jpg` takes `A.JPG`, and `A*.jpg`
//! does not take `a.jpg`.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use sr3_proto::key::extension_of;

use super::GlobError;

/// Extensions up to this many letters are tried in every case, longer ones as they are, in small letters and in capitals.
const LETTERS_MAX: usize = 5;

/// Compiled globs.
#[derive(Clone, Debug)]
pub struct Filter {
    include: Option<Globs>,
    exclude: Globs,
}

#[derive(Clone, Debug)]
struct Globs {
    exact: GlobSet,
    /// The same without case: what it does not match need not be looked at closely.
    any_case: GlobSet,
}

impl Filter {
    /// Compiles the globs; no include globs mean that everything is included.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, GlobError> {
        let include = if include.is_empty() { None } else { Some(Globs::new(include)?) };
        Ok(Self { include, exclude: Globs::new(exclude)? })
    }

    /// Whether the job takes the file at `path`.
    pub fn takes(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|globs| globs.match_path(path)) && !self.exclude.match_path(path)
    }
}

impl Globs {
    fn new(globs: &[String]) -> Result<Self, GlobError> {
        Ok(Self { exact: compile(globs, false)?, any_case: compile(globs, true)? })
    }

    fn match_path(&self, path: &str) -> bool {
        with_folders(path).any(|part| self.exact.is_match(part))
            || (self.any_case.is_match(path)
                && cases_of_extension(path).iter().any(|path| self.exact.is_match(path)))
    }
}

/// `a`, `a/b`, `a/b/c.png`.
fn with_folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain([path])
}

/// The path with its extension in other cases.
fn cases_of_extension(path: &str) -> Vec<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some(extension) = extension_of(name) else { return Vec::new() };
    // In ASCII, which is all that changes case here, the extension is as long in either.
    let (stem, _) = path.split_at(path.len() - extension.len());
    let letters: Vec<usize> =
        extension.bytes().enumerate().filter(|(_, b)| b.is_ascii_alphabetic()).map(|(at, _)| at).collect();
    if letters.len() > LETTERS_MAX {
        return vec![format!("{stem}{extension}"), format!("{stem}{}", extension.to_ascii_uppercase())];
    }
    let in_case = |capitals: usize| {
        let capital = |at| letters.iter().position(|l| *l == at).is_some_and(|bit| capitals >> bit & 1 == 1);
        let cased = extension
            .char_indices()
            .map(|(at, letter)| if capital(at) { letter.to_ascii_uppercase() } else { letter });
        stem.chars().chain(cased).collect()
    };
    (0..1 << letters.len()).map(in_case).collect()
}

fn compile(globs: &[String], any_case: bool) -> Result<GlobSet, GlobError> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let compiled = GlobBuilder::new(glob).case_insensitive(any_case).build();
        set.add(compiled.map_err(|source| GlobError { glob: glob.clone(), source })?);
    }
    set.build().map_err(|source| GlobError { glob: globs.join(", "), source })
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
    fn an_extension_counts_in_any_case_and_nothing_else_does() {
        for path in ["A.JPG", "a/b.Jpg", "x.jpg"] {
            for glob in ["*.jpg", "*.JPG", "*.{png,jPg}", "{*.png,*.jpg}", "*.[j]pg", "*.jp?"] {
                assert!(takes(&[glob], &[], path), "{glob} {path}");
                assert!(!takes(&[], &[glob], path), "{glob} {path}");
            }
        }
        assert!(!takes(&["A*.jpg"], &[], "a.jpg") && takes(&["A*.jpg"], &[], "A.JPG"));
        assert!(!takes(&["Holiday/*.jpg"], &[], "holiday/a.jpg"));
        assert!(takes(&[], &["Private"], "private/a.jpg"));
        assert!(takes(&[], &["x.old"], "x.OLD/a.jpg"), "a folder has no extension");
        assert!(takes(&["*.longextension"], &[], "a.LONGEXTENSION"));
        assert!(!takes(&["*.jpg"], &[], "jpg") && !takes(&["*.jpg"], &[], "a.jpeg"));
        assert!(takes(&["*.é1X"], &[], "a.é1x"));
    }

    #[test]
    fn a_broken_glob_is_named() {
        assert!(matches!(Filter::new(&["a[".into()], &[]), Err(GlobError { glob, .. }) if glob == "a["));
    }
}
