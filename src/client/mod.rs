//! Running a job from the command: where its inputs and outputs lie, and the cluster inside this process.

pub mod local;
pub mod places;
pub(crate) mod signals;

/// Addresses of coordinators as `http://host:port`, from a list separated by commas.
pub(crate) fn addresses(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| if part.contains("://") { part.to_string() } else { format!("http://{part}") }).collect()
}
