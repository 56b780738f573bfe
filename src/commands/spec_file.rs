//! A job spec, read from its file once, and what is said of it.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use sr3_proto::{
    Location, SpecError, StoreError,
    job_spec::{Document, TEXT_BYTES_MAX},
    words::printable,
};

use crate::exit::CommandError;

/// A job spec as it was written.
pub(super) struct SpecFile {
    /// What people call it.
    pub(super) name: String,
    pub(super) text: String,
}

impl SpecFile {
    /// The text of a file; `-` is stdin.
    pub(super) fn read(file: &str) -> Result<Self, CommandError> {
        // One byte more than a spec may have tells that there is more.
        let bytes_max = TEXT_BYTES_MAX as u64 + 1;
        let mut bytes = Vec::new();
        let (name, outcome) = if file == "-" {
            ("stdin".to_string(), io::stdin().take(bytes_max).read_to_end(&mut bytes))
        } else {
            let read = File::open(file).and_then(|open| open.take(bytes_max).read_to_end(&mut bytes));
            (printable(file), read)
        };
        outcome.map_err(|e| CommandError::usage(format!("cannot read `{name}`: {e}")))?;
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            // The cut may have gone through a character.
            Err(error) if error.as_bytes().len() > TEXT_BYTES_MAX => {
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
                return Err(CommandError::usage(format!(
                    "{name}:{line}: not UTF-8: save the file as UTF-8 text"
                )));
            }
        };
        Ok(Self { name, text })
    }

    /// The spec, which must be of this kind: `sr3 COMMAND` takes no other.
    pub(super) fn document(&self, kind: &str, command: &str) -> Result<Document, CommandError> {
        let document = Document::parse(&self.text, sr3_jobs::spec::KINDS).map_err(|e| self.wrong(e))?;
        if document.kind() != kind {
            let (name, found) = (&self.name, document.kind());
            return Err(CommandError::usage(format!(
                "{name}: it is of kind `{found}`: `sr3 {command}` takes `{kind}`"
            )));
        }
        Ok(document)
    }

    /// What is wrong with it.
    pub(super) fn wrong(&self, error: SpecError) -> CommandError {
        CommandError::usage(error.in_file(&self.name))
    }
}

/// Makes the folder that a job writes to, if it is one.
pub(super) fn make_folder(written: &str) -> Result<(), CommandError> {
    let location: Location = written.parse()?;
    if let Some(path) = location.path() {
        fs::create_dir_all(path).map_err(|e| StoreError::at(Path::new(path), e))?;
    }
    Ok(())
}
