//! Why a store refused, and what its caller can do about it.
//!
//! A variant says what to do next; its text is one line that names the thing and the way out.

use std::{error::Error, io, path::Path};

use super::local;

/// Why a store refused. The variant says what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing at this key.
    #[error("`{path}` does not exist")]
    NotFound {
        /// Where.
        path: String,
    },
    /// Somebody else created it first; after a lost response, "somebody else" may be the caller itself.
    #[error("`{path}` exists already")]
    AlreadyExists {
        /// Where.
        path: String,
    },
    /// This one name cannot be used here; others can.
    #[error("`{path}` cannot be used: {reason}")]
    Name {
        /// Where.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The store does not let us.
    #[error("no permission for `{path}` ({source}): change its permissions or choose another place")]
    Denied {
        /// Where.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// No room left.
    #[error("no space left for `{path}` ({source}): make room and run the same command again")]
    Full {
        /// Where.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Another process works here.
    #[error("`{path}` is in use by another run ({holder}): wait for it or stop it")]
    Busy {
        /// The lock.
        path: String,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The server did not do it now and may do it later. [`Store`](super::Store) has tried again for a while before
    /// its caller sees this.
    #[error("`{path}` does not work at the moment ({source}): try again later")]
    Transient {
        /// Where.
        path: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody answers.
    #[error(
        "`{path}` cannot be reached: no answer from {endpoint} ({source}): check the network and the endpoint's address"
    )]
    Unreachable {
        /// Where.
        path: String,
        /// The server.
        endpoint: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// There are no credentials, or the server does not take them.
    #[error("`{path}`: {what}: check {variables}")]
    Credentials {
        /// Where.
        path: String,
        /// What is wrong with them.
        what: String,
        /// Where they are looked for.
        variables: &'static str,
    },
    /// The bucket is not there.
    #[error("`{path}`: the bucket `{bucket}` does not exist: create it or correct its name")]
    NoBucket {
        /// Where.
        path: String,
        /// Its name.
        bucket: String,
    },
    /// A setting of the environment cannot be used.
    #[error("`{path}` cannot be opened: {reason}")]
    Settings {
        /// Where.
        path: String,
        /// Which setting, and what to do.
        reason: String,
    },
    /// The server does not keep what the probe asked for: see [`Store::probe_conditional_put`](super::Store).
    #[error(
        "`{location}` is not safe for several writers ({found}): use a server with true conditional writes (AWS S3, \
         GCS, Azure, SeaweedFS, MinIO), or one process alone: `sr3 upscale` without a coordinator"
    )]
    NotConditional {
        /// The store.
        location: String,
        /// What the probe saw.
        found: String,
    },
    /// The location is not on the list of those that may be opened here.
    #[error(
        "`{location}` is not allowed here ({reason}): ask who runs this cluster to add it to its allowed stores"
    )]
    NotAllowed {
        /// What was asked for.
        location: String,
        /// Why.
        reason: String,
    },
    /// A location of a kind that is not opened.
    #[error("`{location}` cannot be opened: {reason}")]
    Unsupported {
        /// What was given.
        location: String,
        /// Why, and what to give.
        reason: String,
    },
    /// Anything else.
    #[error("`{path}`: {source}")]
    Failed {
        /// Where.
        path: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// What a failed operation on a path means.
    pub fn at(path: &Path, source: io::Error) -> Self {
        local::refusal(path, source)
    }

    /// Whether the error is about this one key only, so that work on others can go on.
    pub fn is_about_one_key(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::AlreadyExists { .. } | Self::Name { .. })
    }

    /// Whether the same operation may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. } | Self::Unreachable { .. })
    }

    /// Whether no operation on this store will succeed until somebody does something, whatever the key.
    pub fn is_about_the_store(&self) -> bool {
        self.is_transient()
            || matches!(
                self,
                Self::Credentials { .. }
                    | Self::NoBucket { .. }
                    | Self::Settings { .. }
                    | Self::NotConditional { .. }
                    | Self::NotAllowed { .. }
                    | Self::Unsupported { .. }
            )
    }

    /// Whether the user must change the call or the environment, rather than the store.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Credentials { .. }
                | Self::NoBucket { .. }
                | Self::Settings { .. }
                | Self::NotAllowed { .. }
                | Self::Unsupported { .. }
        )
    }
}
