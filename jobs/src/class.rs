//! What a picture shows, for networks that are told: one class for all, what its folder is called, or what a network that
//! looks at it says.
//!
//! A folder is called by a class's number, or by a WordNet id where classes are those of ImageNet's challenge of 2012, numbered
//! from 0 in the order of their ids, as networks for it number them. What it tells is a function of the picture's path: it does not
//! matter which other folders there are.

use std::{borrow::Cow, fmt, str::FromStr, sync::LazyLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sr3_engine::vision::CLASSES;

use crate::wish::ranges;

/// The WordNet ids of ImageNet's classes, in order.
static IDS: LazyLock<Vec<&str>> = LazyLock::new(|| include_str!("synsets.txt").lines().collect());

/// How a network learns what a picture shows. Written as a number, `folder` or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassChoice {
    /// All pictures show this.
    One(u32),
    /// The folder that a picture lies in is called by it.
    Folder,
    /// EfficientNet-Lite0 looks at each: one of ImageNet's 1,000.
    Auto,
}

/// What is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected a class from {} to {}, `folder` or `auto`, found `{text}`",
    ranges::CLASS.start(),
    ranges::CLASS.end()
)]
pub struct ClassError {
    text: String,
}

impl FromStr for ClassChoice {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<Self, ClassError> {
        match text {
            "folder" => Ok(Self::Folder),
            "auto" => Ok(Self::Auto),
            _ => {
                let number = text.parse().ok().filter(|class| ranges::CLASS.contains(class));
                number.map(Self::One).ok_or_else(|| ClassError { text: text.to_string() })
            }
        }
    }
}

impl fmt::Display for ClassChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(class) => class.fmt(f),
            Self::Folder => f.write_str("folder"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

impl Serialize for ClassChoice {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::One(class) => to.serialize_u32(*class),
            Self::Folder | Self::Auto => to.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for ClassChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ClassChoice;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a class's number, `folder` or `auto`")
            }

            fn visit_u64<E: de::Error>(self, class: u64) -> Result<ClassChoice, E> {
                class.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, class: i64) -> Result<ClassChoice, E> {
                class.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClassChoice, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Visitor)
    }
}

impl JsonSchema for ClassChoice {
    fn schema_name() -> Cow<'static, str> {
        "ClassChoice".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let (least, most) = (ranges::CLASS.start(), ranges::CLASS.end());
        json_schema!({ "oneOf": [
            { "type": "integer", "minimum": least, "maximum": most },
            { "type": "string", "enum": ["folder", "auto"] },
        ] })
    }
}

/// The class, of so many, that the folder of a picture's path is called by.
///
/// # Errors
/// One line: it is called by none.
pub(crate) fn of_folder(path: &str, classes: usize) -> Result<u32, String> {
    let ids = if classes == CLASSES { " or a WordNet id of ImageNet's 1000 (n01440764)" } else { "" };
    let way_out = || format!("name folders by class, 0 to {}{ids}", classes.saturating_sub(1));
    let Some(folder) = path.rsplit('/').nth(1) else {
        return Err(format!("it lies in no folder that says its class: {}", way_out()));
    };
    let number = folder.parse().ok().filter(|_| folder.bytes().all(|byte| byte.is_ascii_digit()));
    let id = || IDS.binary_search(&folder).ok().filter(|_| classes == CLASSES);
    let class = number.filter(|class| *class < classes).or_else(id);
    // There are at most 65,536.
    let class = class.and_then(|class| u32::try_from(class).ok());
    class.ok_or_else(|| format!("its folder `{folder}` names no class: {}", way_out()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(path: &str) -> Result<u32, String> {
        of_folder(path, CLASSES)
    }

    #[test]
    fn folders_are_numbers_or_ids_in_the_order_of_the_ids() {
        assert_eq!((IDS.len(), IDS.is_sorted_by(|a, b| a < b)), (CLASSES, true));
        assert_eq!(class("n01440764/a.png"), Ok(0));
        assert_eq!(class("val/n15075141/deep.JPEG"), Ok(999));
        // A street sign, as the network has it.
        assert_eq!(class("n06794110/a.png"), Ok(919));
        assert_eq!((class("7/a.png"), class("x/0919/a.png")), (Ok(7), Ok(919)));
        assert_eq!(of_folder("4/a.png", 5), Ok(4));
    }

    #[test]
    fn what_names_no_class_says_so() {
        for path in ["1000/a.png", "+7/a.png", "cats/a.png", "n00000000/a.png", "7/cats/a.png"] {
            let refused = class(path).unwrap_err();
            assert!(refused.contains("names no class") && refused.contains("n01440764"), "{refused}");
        }
        assert!(class("a.png").unwrap_err().contains("in no folder"));
        for path in ["5/a.png", "n01440764/a.png"] {
            let refused = of_folder(path, 5).unwrap_err();
            assert!(refused.ends_with("name folders by class, 0 to 4"), "{refused}");
        }
    }

    #[test]
    fn a_choice_reads_back_from_text_and_from_specs() {
        for choice in [ClassChoice::One(0), ClassChoice::One(65_535), ClassChoice::Folder, ClassChoice::Auto]
        {
            assert_eq!(choice.to_string().parse::<ClassChoice>().unwrap(), choice);
            let kept = serde_json::to_string(&choice).unwrap();
            assert_eq!(serde_json::from_str::<ClassChoice>(&kept).unwrap(), choice);
        }
        // As recipes from before there was a choice have it.
        assert_eq!(serde_json::from_str::<ClassChoice>("7").unwrap(), ClassChoice::One(7));
        for wrong in ["65536", "-1", "cat", "", "1.5"] {
            let refused = wrong.parse::<ClassChoice>().unwrap_err().to_string();
            assert!(refused.contains("`folder` or `auto`"), "{refused}");
        }
    }
}
