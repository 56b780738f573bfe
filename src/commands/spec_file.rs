//! A job spec from its file, for commands that run one kind of job in this process.

use std::{fs, path::Path};

use sr3_proto::{
    Location, SpecError, StoreError,
    job_spec::{Document, TEXT_BYTES_MAX},
};

use crate::exit::CommandError;

/// The spec in a file, which must be of this kind: `sr3 COMMAND` takes no other.
pub(super) fn read(file: &str, kind: &str, command: &str) -> Result<Document, CommandError> {
    let unreadable =
        |e: String| CommandError::usage(format!("`{file}` cannot be read ({e}): name a job spec"));
    let length = fs::metadata(file).map_err(|e| unreadable(e.to_string()))?.len();
    if length > TEXT_BYTES_MAX as u64 {
        return Err(unreadable("it is too long".to_string()));
    }
    let text = fs::read_to_string(file).map_err(|e| unreadable(e.to_string()))?;
    let wrong = |e: SpecError| CommandError::usage(e.in_file(file));
    let document = Document::parse(&text, sr3_jobs::spec::KINDS).map_err(wrong)?;
    if document.kind() != kind {
        let found = document.kind();
        return Err(CommandError::usage(format!(
            "{file}: it is of kind `{found}`: `sr3 {command}` takes `{kind}`"
        )));
    }
    Ok(document)
}

/// Makes the folder that a job writes to, if it is one.
pub(super) fn make_folder(written: &str) -> Result<(), CommandError> {
    let location: Location = written.parse()?;
    if let Some(path) = location.path() {
        fs::create_dir_all(path).map_err(|e| StoreError::at(Path::new(path), e))?;
    }
    Ok(())
}
