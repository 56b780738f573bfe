//! Which pictures a process has on its device, written down so that the next process knows what the last one died of.
//!
//! A picture that takes more memory than there is ends its process without a word, and every further run with it. So a
//! run that finds pictures here which nobody took off again tries each of them once more, alone and last; what was on
//! the device alone when a second process ended is set aside, as a cluster does with what takes its workers down. Only a
//! process that is ended leaves anything here: a picture that fails, or a run that is interrupted, does not.
//!
//! The rules here are pure; the worker writes the document (`.sr3/in-flight.json`).

use serde::{Deserialize, Serialize};

use super::record::VERSION;

/// The document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// [`VERSION`].
    pub version: u32,
    /// One entry an input.
    pub items: Vec<Suspect>,
}

/// A picture that is, or was, on a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Path relative to the source.
    pub input: String,
    /// The store's tag of the input's state.
    pub input_etag: Option<String>,
    /// Megapixels of its output.
    pub megapixels: u64,
    /// Processes that ended while it was on the device.
    pub ended: u32,
    /// Whether it is on the device now.
    pub running: bool,
}

/// What becomes of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Nothing is known against it.
    None,
    /// It is to be tried once more, alone and last.
    Once,
    /// It is set aside, and why.
    Twice(String),
}

impl Default for InFlight {
    fn default() -> Self {
        Self { version: VERSION, items: Vec::new() }
    }
}

impl InFlight {
    /// What a new run makes of the document that the last one left: what is still on a device ended its process.
    #[must_use]
    pub fn left_behind(mut self) -> Self {
        for item in &mut self.items {
            item.ended = item.ended.saturating_add(std::mem::take(&mut item.running).into());
        }
        self
    }

    /// What is known against an input in the state `etag`.
    pub fn against(&self, input: &str, etag: Option<&str>) -> Suspicion {
        let known = self.items.iter().find(|item| item.input == input && item.input_etag.as_deref() == etag);
        match known {
            Some(item) if item.ended >= 2 => Suspicion::Twice(format!(
                "the process ended twice while it was computed ({} megapixels), most likely for want of memory: cut it, \
                 take a smaller --scale, or remove .sr3/in-flight.json at the destination to try it again",
                item.megapixels
            )),
            Some(item) if item.ended == 1 => Suspicion::Once,
            _ => Suspicion::None,
        }
    }

    /// An input goes onto the device.
    pub fn begin(&mut self, input: &str, etag: Option<String>, megapixels: u64) {
        let ended = self.items.iter().find(|item| item.input == input && item.input_etag == etag);
        let ended = ended.map_or(0, |item| item.ended);
        self.end(input);
        self.items.push(Suspect {
            input: input.to_string(),
            input_etag: etag,
            megapixels,
            ended,
            running: true,
        });
    }

    /// It has left it, whatever came of it.
    pub fn end(&mut self, input: &str) {
        self.items.retain(|item| item.input != input);
    }

    /// Everything has left: the run was asked to stop.
    pub fn stop(&mut self) {
        self.items.retain(|item| item.ended > 0);
        self.items.iter_mut().for_each(|item| item.running = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etag() -> Option<String> {
        Some("e".into())
    }

    #[test]
    fn a_document_of_strangers_never_counts_past_the_end() {
        let ended =
            |ended| Suspect { input: "a".into(), input_etag: None, megapixels: 1, ended, running: true };
        let found = InFlight { items: vec![ended(u32::MAX)], ..InFlight::default() }.left_behind();
        assert!(matches!(found.against("a", None), Suspicion::Twice(_)));
    }

    #[test]
    fn what_ends_two_processes_is_set_aside() {
        let mut first = InFlight::default();
        first.begin("a", etag(), 9);
        first.begin("b", etag(), 9);
        first.end("a");
        let mut second = first.left_behind();
        assert_eq!(second.against("a", Some("e")), Suspicion::None);
        assert_eq!(second.against("b", Some("e")), Suspicion::Once);
        assert_eq!(second.against("b", Some("changed")), Suspicion::None);
        second.begin("b", etag(), 9);
        let third = second.left_behind();
        assert!(matches!(third.against("b", Some("e")), Suspicion::Twice(_)));
        // And stays so, until it changes.
        assert!(matches!(third.clone().left_behind().against("b", Some("e")), Suspicion::Twice(_)));
        assert_eq!(third.against("b", Some("changed")), Suspicion::None);
    }

    #[test]
    fn one_that_gets_through_is_cleared() {
        let mut run = InFlight::default();
        run.begin("a", etag(), 9);
        let mut run = run.left_behind();
        run.begin("a", etag(), 9);
        run.end("a");
        assert_eq!(run, InFlight::default());
    }

    #[test]
    fn an_interruption_is_nobodys_fault() {
        let mut run = InFlight::default();
        run.begin("a", etag(), 9);
        run.stop();
        assert_eq!(run.left_behind(), InFlight::default());
        let mut run = InFlight::default();
        run.begin("a", etag(), 9);
        let mut run = run.left_behind();
        run.begin("a", etag(), 9);
        run.stop();
        assert_eq!(run.left_behind().against("a", Some("e")), Suspicion::Once);
    }
}
