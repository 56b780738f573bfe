//! Where the inputs and outputs of a command lie, checked before anything is touched.
//!
//! No output may ever land among the inputs: not by naming one folder inside the other, not through links (those that
//! are followed are never followed into DST), not by an output that has its input's very path. Nothing is created here, and no server is asked anything.
//!
//! Either may be a folder or a prefix in a bucket (`s3://bucket/photos`). A prefix is always a "folder": an image in
//! it is chosen by `--include`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use sr3_jobs::images::{FormatChoice, Naming, OutputFormat, Partners, Source, naming};
use sr3_proto::{
    Key, Store, StoreError,
    store::{Location, Settings, Staging, real_path},
};

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
    /// Into a bucket, which keeps the state of its jobs.
    Bucket(Location),
}

impl Destination {
    /// How outputs are named there.
    pub fn naming(&self) -> Naming {
        match self {
            Self::Folder(_) | Self::Bucket(_) => Naming::Mirror,
            Self::File(_, key) => Naming::Exact(key.clone()),
        }
    }

    /// Whether it keeps the state of its jobs.
    pub fn keeps_state(&self) -> bool {
        !matches!(self, Self::File(..))
    }

    /// The store of the outputs and their state, if that exists already.
    pub fn existing(&self) -> Result<Option<Store>, StoreError> {
        let settings = Settings::of_process();
        match self {
            Self::Bucket(location) => Store::open_with(location, &settings).map(Some),
            Self::Folder(folder) if folder.is_dir() => {
                Store::open_with(&Location::folder(folder), &settings).map(Some)
            }
            Self::Folder(_) | Self::File(..) => Ok(None),
        }
    }

    /// Creates the folder if need be, and opens the store of the outputs and that of the state.
    pub fn open(&self) -> Result<(Store, Store), StoreError> {
        let settings = Settings::of_process();
        let outputs = match self {
            Self::Bucket(location) => Store::open_with(location, &settings)?,
            Self::Folder(folder) => {
                fs::create_dir_all(folder).map_err(|e| StoreError::at(folder, e))?;
                Store::open_with(&Location::folder(folder), &settings)?
            }
            Self::File(folder, _) => {
                fs::create_dir_all(folder).map_err(|e| StoreError::at(folder, e))?;
                Store::folder(folder, Staging::Beside)?
            }
        };
        let state = if self.keeps_state() { outputs.clone() } else { Store::in_memory() };
        Ok((outputs, state))
    }
}

impl Places {
    /// The same, with the links below SRC, written `source`, followed: wherever they lead, but not into DST.
    pub fn following_links(self, source: &str) -> Result<Self, CommandError> {
        let store = match self.source {
            Source::All(store) if store.is_local() => store,
            _ => {
                return Err(CommandError::usage(format!(
                    "--follow-links is about links in a folder, and `{source}` is none: leave it out"
                )));
            }
        };
        let results = match &self.destination {
            Destination::Folder(folder) | Destination::File(folder, _) => Some(folder.as_path()),
            Destination::Bucket(_) => None,
        };
        let source = Source::All(store.following_links(results));
        Ok(Self { source, ..self })
    }
}

/// Checks SRC (one place, or several files) and DST as given on the command line.
pub fn resolve(
    sources: &[String],
    destination: &str,
    format: FormatChoice,
    overwrite: bool,
) -> Result<Places, CommandError> {
    if destination.is_empty() || sources.iter().any(String::is_empty) {
        return Err(CommandError::usage("SRC and DST must not be empty"));
    }
    let [source] = sources else { return several(sources, destination, format) };
    let (from, to): (Location, Location) = (source.parse()?, destination.parse()?);
    match (from.path(), to.path()) {
        (Some(from), Some(to)) => folders(source, from, destination, to, format, overwrite),
        (Some(from), None) => {
            let real = real_source(source, from)?;
            let source_name = real.display().to_string();
            let source = if real.is_dir() {
                Source::All(Store::open_with(&Location::folder(real), &Settings::of_process())?)
            } else {
                one(source, &real)?.0
            };
            Ok(Places { source, source_name, destination: Destination::Bucket(to) })
        }
        (None, to_folder) => {
            let destination = match to_folder {
                None => bucket_for_bucket(&from, to)?,
                Some(folder) => {
                    let real = real_destination(destination, folder)?;
                    refuse_a_file(destination, &real)?;
                    Destination::Folder(real)
                }
            };
            let store = Store::open_with(&from, &Settings::of_process())?;
            Ok(Places { source: Source::All(store), source_name: from.to_string(), destination })
        }
    }
}

/// Checks HIGH, where somebody else's enlargements of the inputs lie, and finds them: with them comes their place, by which a
/// later run recognises it. All as given on the command line.
pub fn enlarged(
    places: &Places,
    low: &str,
    high: &str,
    out: &str,
    format: FormatChoice,
) -> Result<(Partners, String), CommandError> {
    if high.is_empty() {
        return Err(CommandError::usage("LOW, HIGH and OUT must not be empty"));
    }
    let location: Location = high.parse()?;
    let one = match &places.source {
        Source::All(_) => None,
        Source::These(_, keys) => keys.first(),
    };
    let Some(path) = location.path() else {
        if one.is_none() {
            let low: Location = low.parse()?;
            refuse_enlarged_among(&low, &location, high)?;
        }
        if let Destination::Bucket(out_location) = &places.destination {
            refuse_results_among(out_location, &location, out, high)?;
        }
        let store = Store::open_with(&location, &Settings::of_process())?;
        return Ok((Partners::mirrored(store), location.to_string()));
    };
    let real = real_source(high, path)?;
    let name = real.display().to_string();
    if real.is_dir() {
        let location = Location::folder(&real);
        if let (None, Some(path)) = (one, low.parse::<Location>()?.path()) {
            refuse_enlarged_among(&Location::folder(real_source(low, path)?), &location, high)?;
        }
        match &places.destination {
            Destination::Folder(folder) => {
                refuse_results_among(&Location::folder(folder), &location, out, high)?;
            }
            Destination::File(..) | Destination::Bucket(_) => {}
        }
        return Ok((Partners::mirrored(Store::open_with(&location, &Settings::of_process())?), name));
    }
    let Some(input) = one.filter(|_| real.is_file()) else {
        return Err(CommandError::usage(format!(
            "`{high}` is no folder, and LOW is one: name the folder of what was enlarged as HIGH"
        )));
    };
    let result = match &places.destination {
        Destination::File(folder, key) => Some(folder.join(key.as_str())),
        Destination::Folder(folder) => {
            naming::output_key(input, format).ok().map(|(key, _)| folder.join(key.as_str()))
        }
        Destination::Bucket(_) => None,
    };
    if result.as_deref() == Some(&real) {
        return Err(CommandError::usage(format!(
            "the result would replace `{high}` itself: choose another OUT"
        )));
    }
    let low_path = real_source(low, low.parse::<Location>()?.path().unwrap_or(Path::new(low)))?;
    if low_path == real {
        return Err(CommandError::usage(format!(
            "LOW and HIGH are both `{low}`: name what was enlarged as HIGH"
        )));
    }
    let store = Store::folder(real.parent().unwrap_or(Path::new("/")), Staging::Beside)?;
    Ok((Partners { store, naming: Naming::Exact(last_name(&real)?) }, name))
}

fn refuse_enlarged_among(low: &Location, enlarged: &Location, high: &str) -> Result<(), CommandError> {
    if low == enlarged {
        return Err(CommandError::usage(format!(
            "LOW and HIGH are both `{high}`: name the place of what was enlarged as HIGH"
        )));
    }
    if low.contains(enlarged) {
        return Err(CommandError::usage(format!(
            "HIGH `{high}` lies inside LOW: what was enlarged would be enlarged itself; move it beside LOW"
        )));
    }
    Ok(())
}

fn refuse_results_among(
    results: &Location,
    enlarged: &Location,
    out: &str,
    high: &str,
) -> Result<(), CommandError> {
    if results.overlaps(enlarged) {
        return Err(CommandError::usage(format!(
            "OUT `{out}` overlaps with HIGH `{high}`: results could land among what they are made of; choose another OUT"
        )));
    }
    Ok(())
}

fn folders(
    source: &str,
    from: &Path,
    destination: &str,
    to: &Path,
    format: FormatChoice,
    overwrite: bool,
) -> Result<Places, CommandError> {
    let real_source = real_source(source, from)?;
    let real_destination = real_destination(destination, to)?;
    if real_source == real_destination {
        return Err(the_same(source));
    }
    let source_name = real_source.display().to_string();
    if real_source.is_dir() {
        let destination = folder_for_folder(source, &real_source, destination, real_destination)?;
        let store = Store::open_with(&Location::folder(real_source), &Settings::of_process())?;
        return Ok(Places { source: Source::All(store), source_name, destination });
    }
    let (one, input) = one(source, &real_source)?;
    let destination = for_file(destination, &real_source, real_destination, &input, format, overwrite)?;
    Ok(Places { source: one, source_name, destination })
}

fn one(source: &str, real_source: &Path) -> Result<(Source, Key), CommandError> {
    if !real_source.is_file() {
        return Err(CommandError::usage(format!("`{source}` is neither a file nor a folder")));
    }
    let input = last_name(real_source)?;
    let store = Store::folder(real_source.parent().unwrap_or(Path::new("/")), Staging::Beside)?;
    Ok((Source::These(store, [input.clone()].into()), input))
}

/// Several files of this machine: the folder that holds them all is the root of their names.
fn several(sources: &[String], destination: &str, format: FormatChoice) -> Result<Places, CommandError> {
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        let location: Location = source.parse()?;
        let Some(path) = location.path() else {
            return Err(CommandError::usage(format!(
                "`{source}` is one of {} SRC: name it alone, or only files of this machine",
                sources.len()
            )));
        };
        let real = real_source(source, path)?;
        if !real.is_file() {
            return Err(CommandError::usage(format!(
                "`{source}` is one of {} SRC and no file: name one folder alone, or only files",
                sources.len()
            )));
        }
        files.push(real);
    }
    let mut root = files[0].parent().unwrap_or(Path::new("/"));
    while let Some(above) = root.parent()
        && !files.iter().all(|file| file.starts_with(root))
    {
        root = above;
    }
    let mut keys = BTreeSet::new();
    for file in &files {
        let name = file.strip_prefix(root).ok().and_then(|name| name.to_str());
        keys.insert(name.and_then(|name| Key::new(name).ok()).ok_or_else(|| not_utf8(file))?);
    }
    let to: Location = destination.parse()?;
    let place = match to.path() {
        None => Destination::Bucket(to),
        Some(to) => {
            let real = real_destination(destination, to)?;
            let named_as_image = real.extension().and_then(|e| e.to_str()).is_some_and(names_an_image);
            if !real.is_dir() && (real.exists() || named_as_image && !written_as_folder(destination)) {
                return Err(CommandError::usage(format!(
                    "`{destination}` is a file's name, and there are {} SRC: name a folder as DST",
                    sources.len()
                )));
            }
            for key in &keys {
                refuse_to_replace(&root.join(key.as_str()), &real, key, format)?;
            }
            Destination::Folder(real)
        }
    };
    let source_name = root.display().to_string();
    let store = Store::folder(root, Staging::Beside)?;
    Ok(Places { source: Source::These(store, keys), source_name, destination: place })
}

/// Refuses an output in the folder `destination` that would be its input itself.
fn refuse_to_replace(
    source: &Path,
    destination: &Path,
    input: &Key,
    format: FormatChoice,
) -> Result<(), CommandError> {
    // Where a name cannot be made the item is reported; here only a clash with the input matters.
    if let Ok((output, _)) = naming::output_key(input, format)
        && destination.join(output.as_str()) == source
    {
        return Err(CommandError::usage(format!(
            "the result would replace `{}` itself: choose another folder or name the output file",
            source.display()
        )));
    }
    Ok(())
}

fn names_an_image(extension: &str) -> bool {
    naming::is_image_extension(&extension.to_ascii_lowercase())
}

fn written_as_folder(destination: &str) -> bool {
    destination.ends_with(['/', std::path::MAIN_SEPARATOR])
}

fn real_source(source: &str, path: &Path) -> Result<PathBuf, CommandError> {
    path.canonicalize().map_err(|e| {
        CommandError::usage(match e.kind() {
            io::ErrorKind::NotFound => {
                format!("`{source}` does not exist: name an image or a folder of images")
            }
            _ => format!("`{source}` cannot be opened ({e}): check its permissions"),
        })
    })
}

fn real_destination(destination: &str, path: &Path) -> Result<PathBuf, CommandError> {
    real_path(path).map_err(|e| {
        CommandError::usage(format!("`{destination}` cannot be opened ({e}): choose another place"))
    })
}

fn bucket_for_bucket(from: &Location, to: Location) -> Result<Destination, CommandError> {
    if *from == to {
        return Err(the_same(&from.to_string()));
    }
    if from.contains(&to) {
        return Err(inside_source(&from.to_string(), &to.to_string(), "prefix"));
    }
    if to.contains(from) {
        return Err(inside_destination(&from.to_string(), &to.to_string(), "prefix"));
    }
    Ok(Destination::Bucket(to))
}

fn the_same(source: &str) -> CommandError {
    CommandError::usage(format!(
        "SRC and DST are both `{source}`: results would replace their inputs; choose another destination"
    ))
}

fn inside_source(source: &str, destination: &str, what: &str) -> CommandError {
    CommandError::usage(format!(
        "DST `{destination}` lies inside SRC `{source}`: the results would be inputs of the next run; choose a {what} beside it"
    ))
}

fn inside_destination(source: &str, destination: &str, what: &str) -> CommandError {
    CommandError::usage(format!(
        "SRC `{source}` lies inside DST `{destination}`: results could land among the inputs; choose a {what} beside it"
    ))
}

fn refuse_a_file(destination: &str, real_destination: &Path) -> Result<(), CommandError> {
    if real_destination.exists() && !real_destination.is_dir() {
        return Err(CommandError::usage(format!(
            "`{destination}` is a file, and SRC is a folder: name a folder as DST"
        )));
    }
    Ok(())
}

fn folder_for_folder(
    source: &str,
    real_source: &Path,
    destination: &str,
    real_destination: PathBuf,
) -> Result<Destination, CommandError> {
    if real_destination.starts_with(real_source) {
        return Err(inside_source(source, destination, "folder"));
    }
    if real_source.starts_with(&real_destination) {
        return Err(inside_destination(source, destination, "folder"));
    }
    refuse_a_file(destination, &real_destination)?;
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
    let is_folder = real_destination.is_dir() || written_as_folder(destination);
    let extension = real_destination.extension().and_then(|e| e.to_str());
    let named = extension.and_then(OutputFormat::from_extension);
    if let (false, None, Some(other)) = (is_folder, named, extension.filter(|e| names_an_image(e))) {
        return Err(CommandError::usage(format!(
            "`{destination}`: {} is not written: name a file that ends in .png, .jpg, .webp or .tif, or a folder",
            other.to_uppercase()
        )));
    }
    if !is_folder && named.is_none() && real_destination.exists() {
        return Err(CommandError::usage(format!(
            "`{destination}` is a file without an extension of png, jpg, webp or tif: name such a file, or a folder"
        )));
    }
    let (Some(named), false) = (named, is_folder) else {
        refuse_to_replace(real_source, &real_destination, input, format)?;
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
    name.ok_or_else(|| not_utf8(path))
}

fn not_utf8(path: &Path) -> CommandError {
    CommandError::usage(format!("the name of `{}` is not valid UTF-8: rename it", path.display()))
}
