//! What pictures show, as their source says it: the folder that one lies in, a text beside it, or a list of them all.
//!
//! Each picture is asked about once, when the index is made; what the source says later changes nothing.

use std::{collections::HashMap, sync::Arc};

use serde::Deserialize;
use sr3_proto::{Key, Store};
use sr3_worker::{Attempt, Stop};
use tokio::sync::OnceCell;

use super::choice::LabelsName;
use crate::images::read;

/// The list of a source, as Hugging Face's ImageFolder has it.
const LIST: &str = "metadata.jsonl";
/// Most bytes of a list: some tens of millions of pictures.
const LIST_BYTES_MAX: u64 = 4 << 30;
/// Most bytes of a text beside a picture.
const TEXT_BYTES_MAX: u64 = 256;

/// The labels of a source.
#[derive(Debug)]
pub(super) struct Labels {
    told_by: LabelsName,
    source: Arc<Store>,
    list: OnceCell<HashMap<String, String>>,
}

/// A line of a list.
#[derive(Deserialize)]
struct Line {
    file_name: String,
    label: Label,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Label {
    Number(u64),
    Text(String),
}

impl Labels {
    pub(super) fn new(told_by: LabelsName, source: Arc<Store>) -> Self {
        Self { told_by, source, list: OnceCell::new() }
    }

    /// What the picture of this name shows. `beside` is what its shard says of it, for one that lies in a shard.
    ///
    /// # Errors
    /// Nobody says it.
    pub(super) async fn of(
        &self,
        name: &str,
        beside: Option<Option<&String>>,
        attempt: &Attempt,
    ) -> Result<String, Stop> {
        let label = match (self.told_by, beside) {
            (LabelsName::Folders, _) => {
                let folder = name.rsplit('/').nth(1).map(ToString::to_string);
                folder.ok_or_else(|| bad("it lies in no folder, whose name would be its label"))?
            }
            (LabelsName::Cls, Some(beside)) => {
                let text = beside.cloned();
                text.ok_or_else(|| bad("its shard has no `.cls` of its name, which would say its label"))?
            }
            (LabelsName::Cls, None) => self.beside(name, attempt).await?,
            (LabelsName::List, _) => {
                let list = self.list.get_or_try_init(|| self.read_list(attempt)).await?;
                let label = list.get(name).cloned();
                label.ok_or_else(|| bad(format!("`{LIST}` does not say what it shows")))?
            }
        };
        match label.is_empty() {
            true => Err(bad("its label is empty")),
            false => Ok(label),
        }
    }

    /// The text in the file of a picture's name, but for its extension.
    async fn beside(&self, name: &str, attempt: &Attempt) -> Result<String, Stop> {
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let key = Key::new(format!("{stem}.cls")).map_err(bad)?;
        let bytes = self.get(&key, TEXT_BYTES_MAX, attempt).await?;
        text(&bytes).ok_or_else(|| bad(format!("`{key}`, which would say its label, is no text")))
    }

    async fn read_list(&self, attempt: &Attempt) -> Result<HashMap<String, String>, Stop> {
        let bytes = self.get(&Key::literal(LIST), LIST_BYTES_MAX, attempt).await?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        (1..).zip(lines).map(|(number, line)| read_line(number, line)).collect()
    }

    async fn get(&self, key: &Key, bytes_max: u64, attempt: &Attempt) -> Result<bytes::Bytes, Stop> {
        let about = |reason| format!("`{key}`, which would say its label: {reason}");
        if self.source.head(key).await.map_err(Stop::transient)?.is_none() {
            return Err(bad(about("it is not there".to_string())));
        }
        read(&self.source, key, None, bytes_max, attempt, |_| ()).await.map_err(|stop| match stop {
            Stop::Bad { reason } => bad(about(reason)),
            other => other,
        })
    }
}

fn read_line(number: usize, line: &[u8]) -> Result<(String, String), Stop> {
    let Line { file_name, label } = serde_json::from_slice(line).map_err(|e| {
        bad(format!(
            "line {number} of `{LIST}` is not {{\"file_name\": …, \"label\": …}}, a text or a whole number: {e}"
        ))
    })?;
    let label = match label {
        Label::Number(number) => number.to_string(),
        Label::Text(text) => text,
    };
    Ok((file_name, label))
}

/// What a small file says.
fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(|text| text.trim().to_string())
}

/// Labels in the order in which the network is told them: as numbers where all are, else as texts.
pub(super) fn in_order(labels: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut labels: Vec<String> = labels.into_iter().collect();
    let number = |label: &String| label.parse::<u64>().ok();
    match labels.iter().all(|label| number(label).is_some()) {
        true => labels.sort_by_key(|label| (number(label), label.clone())),
        false => labels.sort(),
    }
    labels.dedup();
    labels
}

fn bad(reason: impl ToString) -> Stop {
    Stop::Bad { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_their_order_and_texts_in_theirs() {
        let sorted = |labels: &[&str]| in_order(labels.iter().map(ToString::to_string));
        assert_eq!(sorted(&["10", "2", "0", "2"]), ["0", "2", "10"]);
        assert_eq!(sorted(&["rose", "10", "2"]), ["10", "2", "rose"]);
    }

    #[test]
    fn a_line_of_a_list_names_a_file_and_its_label() {
        assert_eq!(
            read_line(1, br#"{"file_name": "a.png", "label": 7}"#).unwrap(),
            ("a.png".into(), "7".into())
        );
        let named = br#"{"file_name": "b/c.png", "label": "rose", "text": "a red one"}"#;
        assert_eq!(read_line(1, named).unwrap(), ("b/c.png".into(), "rose".into()));
        for wrong in
            [&br#"{"file_name": "a.png"}"#[..], br#"{"file_name": "a.png", "label": [1]}"#, b"a.png,7"]
        {
            let Err(Stop::Bad { reason }) = read_line(3, wrong) else { panic!("it was taken") };
            assert!(reason.starts_with("line 3 of `metadata.jsonl`"), "{reason}");
        }
    }
}
