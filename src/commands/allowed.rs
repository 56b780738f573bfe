//! `--allow-store`: which places a process opens.

use std::sync::Arc;

use sr3_coordinator::core::OpenStore;
use sr3_proto::{Store, store::Allowed};

use crate::exit::CommandError;

/// Opens what lies in `places`; everything that this process can open, where none is named.
///
/// # Errors
/// One of them is no place.
pub(super) fn open_allowed(places: &[String]) -> Result<OpenStore, CommandError> {
    let allowed = match places {
        [] => None,
        places => Some(Allowed::new(places)?),
    };
    Ok(Arc::new(move |location| {
        if let Some(allowed) = &allowed {
            allowed.check(location)?;
        }
        Store::at(location)
    }))
}
