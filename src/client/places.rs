//! Where the inputs and outputs of a command lie, checked before anything is touched.
//!
//! No output may ever land among the inputs: not by naming one folder inside the other, not through links, not by
//! an output that has its input's very path. Nothing is created here.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use sr3_coordinator::Source;
use sr3_proto::{FormatChoice, Key, Naming, OutputFormat, Store, StoreError, layout, store::Staging};

use crate::exit::CommandError;

/// Checked places.
#[derive(Debug)]
pub struct Places {
    /// The inputs.
    pub source: Source,
    /// Their real path, by which a later run recognises them.
    pub source_name: String,
    /// The outputs.
    pub destination: Destination,
}

/// Where outputs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Into a folder, which keeps the state of its jobs.
    Folder(PathBuf),
    /// Into one file of this name in this folder, with no state beside it.
    File(PathBuf, Key),
}

impl Destination {
    /// How outputs are named there.
    pub fn naming(&self) -> Naming {
        match self {
            Self::Folder(_) => Naming::Mirror,
            Self::File(_, key) => Naming::Exact(key.clone()),
        }
    }

    /// Creates the folder if need be, and opens the store of the outputs and that of the state.
    pub fn open(&self) -> Result<(Store, Store), StoreError> {
        let (folder, staging) = match self {
            Self::Folder(folder) => (folder, Staging::StateFolder),
            Self::File(folder, _) => (folder, Staging::Beside),
        };
        fs::create_dir_all(folder).map_err(|e| StoreError::at(folder, e))?;
        let outputs = Store::folder(folder, staging)?;
        let state = match self {
            Self::Folder(_) => outputs.clone(),
            Self::File(..) => Store::in_memory(),
        };
        Ok((outputs, state))
    }
}

/// Checks SRC and DST as given on the command line.
pub fn resolve(
    source: &str,
    destination: &str,
    format: FormatChoice,
    overwrite: bool,
) -> Result<Places, CommandError> {
    for location in [source, destination] {
        if location.contains("://") {
            let reason = "it is a URL, and without --coordinator only folders are read and written".into();
            return Err(StoreError::Unsupported { location: location.to_string(), reason }.into());
        }
        if location.is_empty() {
            return Err(CommandError::usage("SRC and DST must not be empty"));
        }
    }
    let real_source = Path::new(source).canonicalize().map_err(|e| {
        CommandError::usage(match e.kind() {
            io::ErrorKind::NotFound => {
                format!("`{source}` does not exist: name an image or a folder of images")
            }
            _ => format!("`{source}` cannot be opened ({e}): check its permissions"),
        })
    })?;
    let real_destination = real_path(Path::new(destination)).map_err(|e| {
        CommandError::usage(format!("`{destination}` cannot be opened ({e}): choose another place"))
    })?;
    if real_source == real_destination {
        return Err(CommandError::usage(format!(
            "SRC and DST are both `{source}`: results would replace their inputs; choose another destination"
        )));
    }
    let source_name = real_source.display().to_string();
    if real_source.is_dir() {
        let destination = folder_for_folder(source, &real_source, destination, real_destination)?;
        let store = Store::folder(&real_source, Staging::StateFolder)?;
        return Ok(Places { source: Source::All(store), source_name, destination });
    }
    if !real_source.is_file() {
        return Err(CommandError::usage(format!("`{source}` is neither a file nor a folder")));
    }
    let input = last_name(&real_source)?;
    let store = Store::folder(real_source.parent().unwrap_or(Path::new("/")), Staging::Beside)?;
    let destination = for_file(destination, &real_source, real_destination, &input, format, overwrite)?;
    Ok(Places { source: Source::One(store, input), source_name, destination })
}

fn folder_for_folder(
    source: &str,
    real_source: &Path,
    destination: &str,
    real_destination: PathBuf,
) -> Result<Destination, CommandError> {
    if real_destination.starts_with(real_source) {
        return Err(CommandError::usage(format!(
            "DST `{destination}` lies inside SRC `{source}`: the results would be inputs of the next run; choose a folder beside it"
        )));
    }
    if real_source.starts_with(&real_destination) {
        return Err(CommandError::usage(format!(
            "SRC `{source}` lies inside DST `{destination}`: results could land among the inputs; choose a folder beside it"
        )));
    }
    if real_destination.exists() && !real_destination.is_dir() {
        return Err(CommandError::usage(format!(
            "`{destination}` is a file, and SRC is a folder: name a folder as DST"
        )));
    }
    Ok(Destination::Folder(real_destination))
}

/// A file's DST is a folder if it is one, if it is written like one (`out/`), or if its name has no extension of an
/// image that can be written; otherwise it names the output.
fn for_file(
    destination: &str,
    real_source: &Path,
    real_destination: PathBuf,
    input: &Key,
    format: FormatChoice,
    overwrite: bool,
) -> Result<Destination, CommandError> {
    let is_folder = real_destination.is_dir() || destination.ends_with(['/', std::path::MAIN_SEPARATOR]);
    let extension = real_destination.extension().and_then(|e| e.to_str());
    let named = extension.and_then(OutputFormat::from_extension);
    if !is_folder && named.is_none() && real_destination.exists() {
        return Err(CommandError::usage(format!(
            "`{destination}` is a file without an extension of png, jpg, webp or tif: name such a file, or a folder"
        )));
    }
    let (Some(named), false) = (named, is_folder) else {
        // Where a name cannot be made the item is reported; here only a clash with the input matters.
        if let Ok((output, _)) = layout::output_key(input, format)
            && real_destination.join(output.as_str()) == real_source
        {
            return Err(CommandError::usage(format!(
                "the result would replace `{}` itself: choose another folder or name the output file",
                real_source.display()
            )));
        }
        return Ok(Destination::Folder(real_destination));
    };
    if let FormatChoice::Fixed(asked) = format
        && asked != named
    {
        return Err(CommandError::usage(format!(
            "`{destination}` and --format {format} say different formats: leave --format out, or change the name"
        )));
    }
    if !overwrite && real_destination.exists() {
        return Err(CommandError::usage(format!(
            "`{destination}` exists: pass --overwrite to replace it, or name another file"
        )));
    }
    let key = last_name(&real_destination)?;
    let folder = real_destination.parent().unwrap_or(Path::new("/")).to_path_buf();
    Ok(Destination::File(folder, key))
}

fn last_name(path: &Path) -> Result<Key, CommandError> {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| Key::new(name).ok());
    name.ok_or_else(|| {
        CommandError::usage(format!("the name of `{}` is not valid UTF-8: rename it", path.display()))
    })
}

/// The path with every link resolved, of something that may not exist yet: the part that exists is asked of the
/// system, the rest is taken as written.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut rest = Vec::new();
    let absolute = std::path::absolute(path)?;
    let mut existing = absolute.as_path();
    loop {
        match existing.canonicalize() {
            Ok(mut real) => {
                for part in rest.into_iter().rev() {
                    match part {
                        Component::ParentDir => {
                            real.pop();
                        }
                        part => real.push(part),
                    }
                }
                return Ok(real);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                // A link to nothing: creating it would write wherever it points.
                if fs::symlink_metadata(existing).is_ok_and(|meta| meta.is_symlink()) {
                    return Err(io::Error::other("it is a link to something that does not exist"));
                }
                let (Some(parent), Some(last)) = (existing.parent(), existing.components().next_back())
                else {
                    return Err(e);
                };
                rest.push(last);
                existing = parent;
            }
            Err(e) => return Err(e),
        }
    }
}
