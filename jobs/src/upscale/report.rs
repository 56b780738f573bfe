//! The report of a destination: a line per image of the latest run of every source. Pure.
//!
//! A line is a record of an item with its `source` before it. A run replaces the lines of its own source, whatever
//! became of it, and keeps those of others in their order, before its own. Lines without a source, as versions before
//! wrote them, are dropped: whose they are cannot be told, and what they said is in the manifests. Two runs that end
//! at one moment on a bucket, which has no lock, may lose one another's lines; never a result.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::ItemRecord;

#[derive(Serialize)]
struct Line<'a> {
    source: &'a str,
    #[serde(flatten)]
    record: &'a ItemRecord,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    source: Cow<'a, str>,
}

/// Appends the line of an item of `source`.
pub fn push_line(report: &mut Vec<u8>, source: &str, record: &ItemRecord) {
    // Its maps have text keys and its floats are finite or null: it always has a JSON form.
    if serde_json::to_writer(&mut *report, &Line { source, record }).is_ok() {
        report.push(b'\n');
    }
}

/// `report`, in which the lines of `source` are replaced by `lines`.
pub fn replaced(report: &[u8], source: &str, lines: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(report.len().saturating_add(lines.len()));
    for line in lines_of(report).filter(|line| source_of(line).is_some_and(|found| found != source)) {
        all.extend_from_slice(line);
        all.push(b'\n');
    }
    all.extend_from_slice(lines);
    all
}

/// The sources that a report has lines of, in order.
pub fn sources_of(report: &[u8]) -> Vec<String> {
    let mut sources: Vec<String> = Vec::new();
    for source in lines_of(report).filter_map(source_of) {
        if !sources.iter().any(|known| *known == source) {
            sources.push(source.into_owned());
        }
    }
    sources
}

/// The records of `source`.
///
/// # Errors
/// A line of that source is no record.
pub fn records_of(report: &[u8], source: &str) -> Result<Vec<ItemRecord>, serde_json::Error> {
    lines_of(report)
        .filter(|line| source_of(line).is_some_and(|found| found == source))
        .map(serde_json::from_slice)
        .collect()
}

fn lines_of(report: &[u8]) -> impl Iterator<Item = &[u8]> {
    report.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

fn source_of(line: &[u8]) -> Option<Cow<'_, str>> {
    serde_json::from_slice(line).ok().map(|Source { source }| source)
}

#[cfg(test)]
mod tests {
    use sr3_proto::Digest;

    use super::{
        super::{ItemStatus, RecipeSpec},
        *,
    };

    fn record(input: &str) -> ItemRecord {
        let recipe = RecipeSpec::plain(Digest::of(b"model"), "m", 4, "as played");
        ItemRecord {
            consistency_error: Some(1.25e-7),
            ..ItemRecord::without_result(input, None, ItemStatus::Skipped, "why", &recipe)
        }
    }

    fn lines(source: &str, inputs: &[&str]) -> Vec<u8> {
        let mut lines = Vec::new();
        for input in inputs {
            push_line(&mut lines, source, &record(input));
        }
        lines
    }

    #[test]
    fn a_line_names_its_source_first_and_reads_back_as_the_record() {
        let line = lines("/a \"b\"", &["x\ny.png"]);
        assert!(line.starts_with(br#"{"source":"/a \"b\"","input":"x\ny.png","#), "{line:?}");
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(records_of(&line, "/a \"b\"").unwrap(), [record("x\ny.png")]);
    }

    #[test]
    fn a_run_replaces_its_own_lines_and_keeps_those_of_others_in_order() {
        let first = lines("/a", &["1.png", "2.png"]);
        let both = replaced(&first, "/b", &lines("/b", &["1.png"]));
        assert_eq!(both, [first.clone(), lines("/b", &["1.png"])].concat());
        let again = replaced(&both, "/a", &lines("/a", &["3.png"]));
        assert_eq!(again, [lines("/b", &["1.png"]), lines("/a", &["3.png"])].concat());
        assert_eq!(records_of(&again, "/b").unwrap(), [record("1.png")]);
        assert_eq!(sources_of(&again), ["/b", "/a"]);
        assert_eq!(replaced(&again, "/a", b""), lines("/b", &["1.png"]));
    }

    #[test]
    fn what_does_not_say_whose_it_is_goes() {
        let mut report = serde_json::to_vec(&record("old.png")).unwrap();
        report.extend_from_slice(b"\n\nno json\n{\"source\":7}\n\xff\n");
        report.extend(lines("/b", &["1.png"]));
        assert_eq!(replaced(&report, "/a", b""), lines("/b", &["1.png"]));
        assert!(records_of(&report, "/a").unwrap().is_empty());
    }
}
