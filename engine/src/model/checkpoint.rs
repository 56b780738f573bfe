//! Checkpoints in the own format: a folder with `model.safetensors` (the weights, under PyTorch's names and shapes)
//! and `config.json` ([`CheckpointConfig`]).
//!
//! A [`Checkpoint`] that exists is whole: the configuration is valid, the weights are exactly those that its network
//! asks for, all of them finite, and the digest is that of the weights' file. Writing replaces files whole, weights
//! first, so that an interruption leaves either the old checkpoint or one that is refused, never a mixed one.

mod config;
mod process;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use config::{
    CheckpointConfig, Degradation, FORMAT, MixedKind, MixedSchedule, NoiseSchedule, Provenance, ResizeFilter,
    Rounding, SamplerPreset, Target, Upsample,
};

use super::tensors::{Dtype, ReadLimits, TensorFileError, one_line, read_safetensors, safetensors_header};
use super::{ConfigError, Graph, UNetConfig, Weights};

const CONFIG_FILE: &str = "config.json";
const WEIGHTS_FILE: &str = "model.safetensors";
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// A model: its weights and everything needed to use them.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// `config.json`.
    pub config: CheckpointConfig,
    /// The weights.
    pub weights: Weights,
    /// sha256 of `model.safetensors`, in lower-case hexadecimal.
    pub digest: String,
}

/// How weights and a network differ.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WeightsError {
    /// The network needs a tensor that is not there.
    #[error("tensor {name} of shape {shape} is missing")]
    Missing {
        /// Its name.
        name: String,
        /// The shape it would have.
        shape: String,
    },
    /// A tensor that the network has no use for.
    #[error("tensor {name} does not belong to the network")]
    Extra {
        /// Its name.
        name: String,
    },
    /// A tensor of another shape.
    #[error("tensor {name} has shape {found} where the network needs {expected}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: String,
        /// The shape it should have.
        expected: String,
    },
    /// A tensor of integers.
    #[error("tensor {name} holds {dtype} where the network needs floating-point numbers")]
    Dtype {
        /// Its name.
        name: String,
        /// Its element type.
        dtype: &'static str,
    },
    /// A value that no computation survives.
    #[error("tensor {name} holds {value} at position {position}: training diverged or the file is damaged")]
    NotFinite {
        /// Its name.
        name: String,
        /// The value.
        value: f32,
        /// Its position, counted from 0.
        position: usize,
    },
}

/// Why a checkpoint was not read or written. Every message is one line that names the file.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file or folder could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Which.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// Which.
        file: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is longer than any checkpoint.
    #[error("{file} is longer than the limit of {limit} bytes")]
    TooLong {
        /// Which.
        file: String,
        /// The limit.
        limit: u64,
    },
    /// The configuration is not the JSON that it has to be.
    #[error("{file}: {reason}")]
    Json {
        /// Which file.
        file: String,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A field has a value that makes no sense.
    #[error("{file}: {field} is {value}: it must be {allowed}")]
    Field {
        /// Which file.
        file: String,
        /// Path of the field.
        field: String,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// `model` describes no network.
    #[error("{file}: model: {source}")]
    Model {
        /// Which file.
        file: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// The weights' file is damaged.
    #[error("{file}: {source}")]
    Tensors {
        /// Which file.
        file: String,
        /// What is wrong.
        source: TensorFileError,
    },
    /// The weights are not the network's.
    #[error("{file}: {source}")]
    Weights {
        /// Which file.
        file: String,
        /// What is wrong.
        source: WeightsError,
    },
    /// The weights' file is another than the configuration names.
    #[error("{file} has sha256 {found} where {CONFIG_FILE} names {expected}: fetch both files again")]
    Digest {
        /// Which file.
        file: String,
        /// Its digest.
        found: String,
        /// The one in the configuration.
        expected: String,
    },
}

/// A checkpoint's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Names and contents, in the order in which they are to be written: whoever finds the last finds all.
    pub files: [(&'static str, Vec<u8>); 2],
    /// sha256 of the weights.
    pub digest: String,
}

impl Checkpoint {
    /// Joins a configuration and weights. The digest, here and in the configuration, becomes that of the file that
    /// [`write_folder`](Self::write_folder) would write.
    ///
    /// # Errors
    /// [`CheckpointError`] where the configuration makes no sense or the weights are not its network's.
    pub fn new(mut config: CheckpointConfig, weights: Weights) -> Result<Self, CheckpointError> {
        // An invalid configuration would make encoding the weights pointless.
        config.sha256 = sha256_hex(b"");
        config.validate(CONFIG_FILE)?;
        check_network(&config.model, &weights, WEIGHTS_FILE)?;
        let digest = sha256_hex(&encode_weights(&weights));
        config.sha256.clone_from(&digest);
        Ok(Self { config, weights, digest })
    }

    /// Reads a checkpoint from the contents of its two files.
    ///
    /// # Errors
    /// [`CheckpointError`] for anything that is not a whole, consistent checkpoint.
    pub fn from_bytes(config_json: &[u8], weights: &[u8]) -> Result<Self, CheckpointError> {
        Self::parse(config_json, weights, CONFIG_FILE, WEIGHTS_FILE)
    }

    /// Reads a checkpoint from its folder.
    ///
    /// # Errors
    /// [`CheckpointError`]; its messages name the file in the folder.
    pub fn read_folder(folder: &Path) -> Result<Self, CheckpointError> {
        let (config, weights) = (folder.join(CONFIG_FILE), folder.join(WEIGHTS_FILE));
        let config_json = read_file(&config, CONFIG_BYTES_MAX)?;
        let tensors = read_file(&weights, ReadLimits::default().file_bytes_max)?;
        Self::parse(&config_json, &tensors, &shown(&config), &shown(&weights))
    }

    fn parse(
        config_json: &[u8],
        weights: &[u8],
        config_file: &str,
        weights_file: &str,
    ) -> Result<Self, CheckpointError> {
        Self::with_config(CheckpointConfig::from_json(config_json, config_file)?, weights, weights_file)
    }

    /// Joins a configuration that was read already with the weights that it names; `weights_file` is what errors call them.
    ///
    /// # Errors
    /// [`CheckpointError`] where the weights are not those, or not the network's.
    pub fn with_config(
        config: CheckpointConfig,
        weights: &[u8],
        weights_file: &str,
    ) -> Result<Self, CheckpointError> {
        let file = || weights_file.to_string();
        let digest = sha256_hex(weights);
        if digest != config.sha256 {
            return Err(CheckpointError::Digest { file: file(), found: digest, expected: config.sha256 });
        }
        let (tensors, _) = read_safetensors(weights, &ReadLimits::default())
            .map_err(|source| CheckpointError::Tensors { file: file(), source })?;
        let mut weights = Weights::new();
        for (name, tensor) in tensors {
            if !tensor.dtype.is_float() {
                let source = WeightsError::Dtype { name: one_line(&name), dtype: tensor.dtype.name() };
                return Err(CheckpointError::Weights { file: file(), source });
            }
            let values = tensor.to_f32();
            weights.insert(name, (tensor.shape, values));
        }
        check_network(&config.model, &weights, weights_file)?;
        Ok(Self { config, weights, digest })
    }

    /// The two files of the checkpoint, and the digest of the weights.
    ///
    /// # Errors
    /// [`CheckpointError`] where it was changed into one that cannot be read again.
    pub fn encode(&self) -> Result<Encoded, CheckpointError> {
        check_network(&self.config.model, &self.weights, WEIGHTS_FILE)?;
        let weights = encode_weights(&self.weights);
        let digest = sha256_hex(&weights);
        let mut config = self.config.clone();
        config.sha256.clone_from(&digest);
        config.validate(CONFIG_FILE)?;
        let mut json = serde_json::to_vec_pretty(&config).map_err(|error| CheckpointError::Json {
            file: CONFIG_FILE.to_string(),
            reason: one_line(&error.to_string()),
        })?;
        json.push(b'\n');
        Ok(Encoded { files: [(WEIGHTS_FILE, weights), (CONFIG_FILE, json)], digest })
    }

    /// Writes the checkpoint into a folder, which is made if it is not there. Returns the digest of the weights' file
    /// as written: it is not [`digest`](Self::digest) where the weights were read from a file of another order or type.
    ///
    /// Each file is written under another name, made durable, then renamed; `config.json` last.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; what was there before is then still there, except that the weights may be new
    /// beside an old `config.json`, which reading refuses.
    pub fn write_folder(&self, folder: &Path) -> Result<String, CheckpointError> {
        let failed = |path: &Path| {
            let file = shown(path);
            move |source| CheckpointError::Write { file, source }
        };
        let Encoded { files, digest } = self.encode()?;
        std::fs::create_dir_all(folder).map_err(failed(folder))?;
        for (name, bytes) in &files {
            let path = folder.join(name);
            replace_file(&path, bytes).map_err(failed(&path))?;
        }
        sync_folder(folder).map_err(failed(folder))?;
        Ok(digest)
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks names, shapes and values against the network of a configuration.
fn check_network(model: &UNetConfig, weights: &Weights, file: &str) -> Result<(), CheckpointError> {
    let shapes = weights.iter().map(|(name, (shape, _))| (name.as_str(), shape.as_slice()));
    let names = check_shapes(model, &shapes.collect()).map_err(|fault| match fault {
        ShapesError::Config(source) => CheckpointError::Model { file: CONFIG_FILE.to_string(), source },
        ShapesError::Weights(source) => CheckpointError::Weights { file: file.to_string(), source },
    });
    names?;
    for (name, (shape, values)) in weights {
        let fail = |source| CheckpointError::Weights { file: file.to_string(), source };
        if shape.iter().product::<usize>() != values.len() {
            let (found, expected) = (format!("[{}]", values.len()), format!("{shape:?}"));
            return Err(fail(WeightsError::Shape { name: one_line(name), found, expected }));
        }
        if let Some(position) = values.iter().position(|value| !value.is_finite()) {
            let value = values[position];
            return Err(fail(WeightsError::NotFinite { name: one_line(name), value, position }));
        }
    }
    Ok(())
}

/// Why shapes are not those of a configuration's network.
pub(super) enum ShapesError {
    Config(ConfigError),
    Weights(WeightsError),
}

/// Checks names and shapes against the network of a configuration.
pub(super) fn check_shapes(model: &UNetConfig, shapes: &BTreeMap<&str, &[usize]>) -> Result<(), ShapesError> {
    let graph = Graph::build(model).map_err(ShapesError::Config)?;
    for param in &graph.params {
        let (name, expected) = (param.name.clone(), format!("{:?}", param.shape));
        match shapes.get(param.name.as_str()) {
            None => return Err(ShapesError::Weights(WeightsError::Missing { name, shape: expected })),
            Some(&found) if found != param.shape => {
                let found = one_line(&format!("{found:?}"));
                return Err(ShapesError::Weights(WeightsError::Shape { name, found, expected }));
            }
            Some(_) => {}
        }
    }
    let known: std::collections::BTreeSet<_> = graph.params.iter().map(|param| param.name.as_str()).collect();
    match shapes.keys().find(|name| !known.contains(*name)) {
        Some(name) => Err(ShapesError::Weights(WeightsError::Extra { name: one_line(name) })),
        None => Ok(()),
    }
}

/// The weights as a safetensors file of f32, in the format's usual order.
fn encode_weights(weights: &Weights) -> Vec<u8> {
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let mut order: Vec<_> =
        weights.iter().map(|(name, (shape, _))| (name.as_str(), Dtype::F32, shape.as_slice())).collect();
    let mut file = safetensors_header(&mut order, &metadata);
    file.reserve_exact(weights.values().map(|(_, values)| values.len() * 4).sum());
    for (name, ..) in order {
        file.extend(weights[name].1.iter().flat_map(|value| value.to_le_bytes()));
    }
    file
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string())
}

/// A regular file's contents, no more than `limit` bytes of them.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    let failed = |source| CheckpointError::Read { file: shown(path), source };
    let too_long = || CheckpointError::TooLong { file: shown(path), limit };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("it is not a regular file")));
    }
    if metadata.len() > limit {
        return Err(too_long());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).map_err(|_| too_long())?);
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
}

/// Replaces a file whole: readers see the old contents or the new, and after a crash one of both is there.
fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    let part: PathBuf = path.with_file_name(name);
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // The first error is the one to report; the part may not even exist.
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Makes renames in a folder durable, where the system lets a folder be opened.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
