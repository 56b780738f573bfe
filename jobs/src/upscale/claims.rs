//! Which outputs have an input already, where a destination does not tell all names apart.

use std::collections::HashSet;

use sr3_proto::Key;

/// Notices two inputs whose outputs are one file where the destination does not tell them apart: where `A.png` and
/// `a.png` are one name, or, as on FAT, `a./b.png` and `a/b.png`. (Everywhere else names of outputs never meet: see
/// [`layout`](sr3_proto::layout).) The first in the order of the listing has it, and the second is said to be set aside
/// rather than lost.
///
/// What counts as one name is a little more than on most such file systems, and less for letters that are composed
/// in two ways; those meet when the second is created, which replaces nothing.
#[derive(Debug, Default)]
pub(super) struct OutputClaims {
    claimed: HashSet<String>,
}

impl OutputClaims {
    /// Claims `output`; false if another input has it.
    pub(super) fn claim(&mut self, output: &Key) -> bool {
        let plain = |segment: &str| segment.trim_end_matches(['.', ' ']).to_lowercase();
        self.claimed.insert(output.segments().map(plain).collect::<Vec<_>>().join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_file_system_takes_for_one_are_claimed_once() {
        let mut claims = OutputClaims::default();
        let mut claim = |name: &str| claims.claim(&Key::new(name).unwrap());
        assert!(claim("a/B.png") && !claim("A/b.PNG") && !claim("a./b.png") && !claim("a/b.png"));
        assert!(claim("b.png") && claim("É.png") && !claim("é.png"));
    }
}
