//! `sr3 pack PLACE FILE`: generated samples as one file, as evaluators and trainers take them. Samples are read a few at a time and
//! written in their order: memory does not grow with their number.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use sr3_engine::image::{self, DecodeLimits, Samples};
use sr3_jobs::generate::{Made, read_samples, samples_key};
use sr3_proto::{Key, Store, off_thread, words::counted};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::remote_args::block_on;
use crate::exit::{self, CommandError, Ending};

/// Samples that are read at a time.
const AT_ONCE: usize = 16;

/// Arguments of `sr3 pack`.
#[derive(Clone, Debug, Args)]
#[command(after_help = exit::HELP)]
pub struct PackArgs {
    /// Where samples were generated to: a folder or a URL.
    #[arg(value_name = "PLACE")]
    pub place: String,
    /// The file: .npz with arr_0 (N, H, W, 3) in eight bits, and the classes as arr_1, or .tar with a .png and a .cls a sample
    /// (WebDataset).
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Runs it.
pub fn run(arguments: &PackArgs) -> Result<Ending, CommandError> {
    let extension = arguments.file.extension().and_then(|extension| extension.to_str());
    match extension {
        Some("npz" | "tar") => {}
        _ => {
            let name = arguments.file.display();
            return Err(CommandError::usage(format!("`{name}` ends neither in .npz nor in .tar")));
        }
    }
    let as_tar = extension == Some("tar");
    block_on(async {
        let store = Store::at(&arguments.place.parse()?)?;
        let (_, list) = store.get(&samples_key()).await.map_err(|e| {
            CommandError::failed(format!("`{}` holds no finished job of kind generate: {e}", arguments.place))
        })?;
        let samples: Vec<Made> = read_samples(&list)
            .map_err(|e| CommandError::failed(format!("`{}` cannot be read: {e}", samples_key())))?
            .into_iter()
            .filter(|made| made.reason.is_none())
            .collect();
        if samples.is_empty() {
            return Err(CommandError::failed(format!("`{}` holds no samples", arguments.place)));
        }
        // Under another name until it is whole.
        let part = part_of(&arguments.file);
        let written = match as_tar {
            true => tar(&store, &samples, &part).await,
            false => npz(&store, &samples, &part).await,
        };
        let renamed = written
            .and_then(|()| std::fs::rename(&part, &arguments.file).map_err(|e| failed(&arguments.file, &e)));
        if renamed.is_err() {
            // Nobody needs half of it; that it cannot be removed changes nothing.
            drop(std::fs::remove_file(&part));
        }
        renamed?;
        say!("{} in {}", counted(samples.len() as u64, "sample"), arguments.file.display());
        Ok(Ending::Done)
    })
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn failed(file: &Path, error: &dyn std::fmt::Display) -> CommandError {
    CommandError::failed(format!("`{}`: {error}", file.display()))
}

/// The files of samples, in order, each checked against its digest.
fn files<'a>(
    store: &'a Store,
    samples: &'a [Made],
) -> impl futures::Stream<Item = Result<(&'a Made, bytes::Bytes), CommandError>> + 'a {
    let read = move |made: &'a Made| async move {
        let key = Key::new(made.key.clone()).map_err(|e| CommandError::failed(e.to_string()))?;
        let (_, bytes) = store.get(&key).await?;
        let of = bytes.clone();
        let digest = off_thread(move || sr3_proto::Digest::of(&of)).await;
        if digest.ok() != made.sha256 {
            let text =
                format!("`{key}` is not the sample that was made: generate it again, in another place");
            return Err(CommandError::failed(text));
        }
        Ok((made, bytes))
    };
    stream::iter(samples).map(read).buffered(AT_ONCE)
}

/// Pixels of a sample, (H, W, 3), with its width and height.
fn pixels(bytes: &[u8], made: &Made) -> Result<(Vec<u8>, [usize; 2]), CommandError> {
    let picture = image::decode(bytes, &DecodeLimits::default());
    let picture = picture.map_err(|e| CommandError::failed(format!("`{}`: {e}", made.key)))?.picture;
    match picture.samples {
        Samples::U8(pixels) if pixels.len() == picture.width * picture.height * 3 => {
            Ok((pixels, [picture.height, picture.width]))
        }
        _ => Err(CommandError::failed(format!("`{}` is not RGB of eight bits", made.key))),
    }
}

async fn npz(store: &Store, samples: &[Made], file: &Path) -> Result<(), CommandError> {
    let of_zip = |e: zip::result::ZipError| failed(file, &e);
    let of_file = |e: io::Error| failed(file, &e);
    let mut archive = ZipWriter::new(BufWriter::new(File::create(file).map_err(of_file)?));
    // Readers of .npz take what is stored as it is; a set may have more than 4 GiB.
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    let mut files = std::pin::pin!(files(store, samples));
    let mut size = None;
    while let Some((made, bytes)) = files.try_next().await? {
        let (pixels, [height, width]) = pixels(&bytes, made)?;
        match size {
            None => {
                size = Some([height, width]);
                archive.start_file("arr_0.npy", options).map_err(of_zip)?;
                let shape = [samples.len(), height, width, 3];
                archive.write_all(&header("|u1", &shape)).map_err(of_file)?;
            }
            Some(first) if first != [height, width] => {
                return Err(CommandError::failed(format!(
                    "`{}` has {width}×{height} pixels, and those before {}×{}: an .npz holds one size, take .tar",
                    made.key, first[1], first[0]
                )));
            }
            Some(_) => {}
        }
        archive.write_all(&pixels).map_err(of_file)?;
    }
    let classes: Vec<i64> = samples.iter().filter_map(|made| made.class).map(i64::from).collect();
    if classes.len() == samples.len() {
        archive.start_file("arr_1.npy", options).map_err(of_zip)?;
        archive.write_all(&header("<i8", &[classes.len()])).map_err(of_file)?;
        for class in classes {
            archive.write_all(&class.to_le_bytes()).map_err(of_file)?;
        }
    }
    archive.finish().map_err(of_zip)?.flush().map_err(of_file)
}

/// Of an array in NumPy's format, version 1.
fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<_> = shape.iter().map(ToString::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let text =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}{comma}), }}", sizes.join(", "));
    // Ten bytes before, a line's end after, all together a multiple of 64.
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.resize(10 + length - 1, b' ');
    bytes.push(b'\n');
    bytes
}

async fn tar(store: &Store, samples: &[Made], file: &Path) -> Result<(), CommandError> {
    let of_file = |e: io::Error| failed(file, &e);
    let mut archive = tar::Builder::new(BufWriter::new(File::create(file).map_err(of_file)?));
    let mut append = |name: String, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes)
    };
    let mut files = std::pin::pin!(files(store, samples));
    while let Some((made, bytes)) = files.try_next().await? {
        if let Some(class) = made.class {
            append(format!("{:08}.cls", made.index), class.to_string().as_bytes()).map_err(of_file)?;
        }
        append(format!("{:08}.png", made.index), &bytes).map_err(of_file)?;
    }
    archive.into_inner().map_err(of_file)?.flush().map_err(of_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_numpy_s() {
        let bytes = header("|u1", &[2, 3, 4, 3]);
        assert_eq!(bytes.len(), 128);
        assert!(bytes.ends_with(b"\n") && bytes.starts_with(b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1'"));
        let text = String::from_utf8_lossy(&bytes[10..]).into_owned();
        assert!(text.contains("'shape': (2, 3, 4, 3), }"), "{text}");
        assert!(String::from_utf8_lossy(&header("<i8", &[5])).contains("'shape': (5,), }"));
    }
}
