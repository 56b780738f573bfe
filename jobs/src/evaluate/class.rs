//! The class that a picture is of: its folder names it, by its number or by its WordNet id.
//!
//! Classes are those of ImageNet's challenge of 2012, numbered from 0 in the order of their WordNet ids, as networks for it
//! number them. What is told is a function of the picture's path: it does not matter which other folders there are.

use std::sync::LazyLock;

use sr3_engine::vision::CLASSES;
use sr3_proto::Key;

/// The WordNet ids of all classes, in order.
static IDS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("synsets.txt").lines().collect());

const WAY_OUT: &str =
    "name folders by class, 0 to 999 or a WordNet id of ImageNet's 1000 (n01440764), or leave accuracy out";

/// The number of a picture's class.
///
/// # Errors
/// One line: its folder names none.
pub(super) fn of(key: &Key) -> Result<usize, String> {
    let Some(folder) = key.as_str().rsplit('/').nth(1) else {
        return Err(format!("it lies in no folder that says its class: {WAY_OUT}"));
    };
    let number = folder.parse().ok().filter(|_| folder.bytes().all(|byte| byte.is_ascii_digit()));
    let class = number.filter(|class| *class < CLASSES).or_else(|| IDS.binary_search(&folder).ok());
    class.ok_or_else(|| format!("its folder `{folder}` names no class: {WAY_OUT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(path: &str) -> Result<usize, String> {
        of(&Key::new(path).unwrap())
    }

    #[test]
    fn folders_are_numbers_or_ids_in_the_order_of_the_ids() {
        assert_eq!((IDS.len(), IDS.is_sorted_by(|a, b| a < b)), (CLASSES, true));
        assert_eq!(class("n01440764/a.png"), Ok(0));
        assert_eq!(class("val/n15075141/deep.JPEG"), Ok(999));
        // A street sign, as the network has it.
        assert_eq!(class("n06794110/a.png"), Ok(919));
        assert_eq!((class("7/a.png"), class("x/0919/a.png")), (Ok(7), Ok(919)));
    }

    #[test]
    fn what_names_no_class_says_so() {
        for path in ["1000/a.png", "+7/a.png", "cats/a.png", "n00000000/a.png", "7/cats/a.png"] {
            let refused = class(path).unwrap_err();
            assert!(refused.contains("names no class") && refused.contains("n01440764"), "{refused}");
        }
        assert!(class("a.png").unwrap_err().contains("in no folder"));
    }
}
