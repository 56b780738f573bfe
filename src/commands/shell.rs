//! `sr3 completions SHELL` and `sr3 man FOLDER`: what a package installs beside the binary, made from the arguments themselves.

use std::{fs, path::PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use crate::{
    exit::{CommandError, Ending},
    say::print,
};

/// Arguments of `sr3 completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// Whose.
    pub shell: Shell,
}

/// Arguments of `sr3 man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// Where the pages go; made if it is not there.
    pub folder: PathBuf,
}

/// Prints the script by which a shell completes `command`.
pub fn completions(arguments: &CompletionsArgs, mut command: Command) -> Result<Ending, CommandError> {
    let (mut script, name) = (Vec::new(), command.get_name().to_string());
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(Ending::Done)
}

/// Writes a manual page for `command` and each of its sub-commands.
pub fn man(arguments: &ManArgs, command: Command) -> Result<Ending, CommandError> {
    let folder = &arguments.folder;
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .map_err(|error| CommandError::failed(format!("{}: {error}", folder.display())))?;
    Ok(Ending::Done)
}
