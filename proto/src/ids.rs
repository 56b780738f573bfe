//! Ids as types of their own: a unit's number cannot stand where a job's is meant.
//!
//! ```compile_fail
//! use sr3_proto::{JobId, UnitId};
//! fn cancel(_: JobId) {}
//! cancel(UnitId::new(3)); // a unit is not a job
//! ```
//!
//! Written with leading zeros, so that names in a listing sort in the order of their numbers.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $width:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The id with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Its number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The id that follows; of the last one itself, which is taken wherever it is asked for.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $width, "}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }
    };
}

number_id! {
    /// A job of a coordinator; counted from 1 in the order in which they were accepted.
    JobId, "6"
}

number_id! {
    /// One run on one destination, by whatever coordinator; counted from 1 in the order in which they began. Names
    /// what it leaves under `.sr3/`.
    RunId, "6"
}

number_id! {
    /// A worker's session with a coordinator; counted from 1 within a writer epoch.
    WorkerId, "4"
}

number_id! {
    /// One unit of a job; counted from 0 in input order.
    UnitId, "8"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_ids_read_back_and_sort_like_numbers() {
        let (a, b) = (JobId::new(9), JobId::new(10));
        assert!(a.to_string() < b.to_string());
        assert_eq!(a.to_string().parse::<JobId>().unwrap(), a);
        assert_eq!(UnitId::new(7).to_string(), "00000007");
    }

    #[test]
    fn the_last_id_is_followed_by_no_smaller_one() {
        assert_eq!(RunId::new(u64::MAX).next(), RunId::new(u64::MAX));
        assert_eq!(RunId::new(1).next(), RunId::new(2));
    }
}
