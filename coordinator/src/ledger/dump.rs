//! A ledger as a stream of JSON lines, to move it or to keep a copy.
//!
//! ```text
//! {"sr3_ledger":1}
//! {"key":"job/1","value":"<base64>"}
//! {"count":1,"sha256":"<of every line before this one, line ends included>"}
//! ```
//!
//! An export is a snapshot. An import goes into an empty ledger only, and a stream that is cut short or altered is
//! refused; what was written before that was noticed is removed again. Keys come in byte order, none twice.

use std::fmt::Write as _;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Batch, Ledger, LedgerError};

/// The version of the stream that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// A batch of an import holds about so many bytes of values.
const BATCH_BYTES: usize = 4 << 20;
/// The longest line that is read: a value of 64 MiB in base64.
const LINE_BYTES: u64 = 96 << 20;

/// Why an export or import stopped.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The ledger refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The stream could not be read or written.
    #[error("the stream of the export failed: {0}")]
    Io(#[from] std::io::Error),
    /// The ledger to import into holds something.
    #[error("the ledger holds rows already, `{key}` for one: import into an empty one")]
    NotEmpty {
        /// Its first key.
        key: String,
    },
    /// The stream is no export, or not all of one.
    #[error("line {line} of the export: {reason}; use a whole export, nothing was imported")]
    Broken {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    sr3_ledger: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    key: String,
    value: String,
}

#[derive(Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct End {
    count: u64,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Row(Row),
    End(End),
}

/// Writes all rows; returns how many.
///
/// # Errors
/// [`DumpError::Ledger`], [`DumpError::Io`]. What was written until then is no whole export, and import says so.
pub async fn export(
    ledger: &dyn Ledger,
    mut writer: impl AsyncWrite + Unpin + Send,
) -> Result<u64, DumpError> {
    let mut sha = Sha256::new();
    write_line(&mut writer, &mut sha, &Header { sr3_ledger: VERSION }).await?;
    let mut rows = ledger.scan("", None);
    let mut count = 0;
    while let Some((key, value)) = rows.try_next().await? {
        write_line(&mut writer, &mut sha, &Row { key, value: BASE64_STANDARD.encode(value) }).await?;
        count += 1;
    }
    let end = End { count, sha256: hex(sha.clone()) };
    write_line(&mut writer, &mut sha, &end).await?;
    writer.flush().await?;
    Ok(count)
}

/// Reads an export into an empty ledger; returns the number of rows.
///
/// # Errors
/// [`DumpError::NotEmpty`], and [`DumpError::Broken`] for a stream that is not a whole export of this version: then the
/// ledger is empty again. After [`DumpError::Ledger`] it may hold a part.
pub async fn import(ledger: &dyn Ledger, reader: impl AsyncBufRead + Unpin + Send) -> Result<u64, DumpError> {
    if let Some((key, _)) = ledger.scan("", None).try_next().await? {
        return Err(DumpError::NotEmpty { key });
    }
    let read = read_rows(ledger, reader).await;
    if matches!(read, Err(DumpError::Broken { .. } | DumpError::Io(_))) {
        clear(ledger).await?;
    }
    read
}

async fn read_rows(ledger: &dyn Ledger, reader: impl AsyncBufRead + Unpin + Send) -> Result<u64, DumpError> {
    let mut lines = Lines { reader, text: String::new(), number: 0, sha: Sha256::new() };
    lines.next().await?;
    let header: Header = lines.parse("no export of a ledger")?;
    if header.sr3_ledger != VERSION {
        return Err(lines.broken(format!("version {} is not {VERSION}", header.sr3_ledger)));
    }
    let (mut batch, mut bytes, mut count, mut last) = (Batch::new(), 0, 0, None);
    loop {
        let sha = lines.sha.clone();
        lines.next().await?;
        match lines.parse("neither a row nor the end")? {
            Line::Row(row) => {
                if last.as_ref().is_some_and(|last| *last >= row.key) {
                    return Err(lines.broken("the keys are not in order".into()));
                }
                super::batch::check_key(&row.key).map_err(|error| lines.broken(error.to_string()))?;
                let value = BASE64_STANDARD.decode(&row.value);
                let value =
                    value.map_err(|error| lines.broken(format!("the value is no base64: {error}")))?;
                bytes += value.len();
                count += 1;
                batch.put(row.key.clone(), value);
                last = Some(row.key);
            }
            Line::End(end) => {
                if end != (End { count, sha256: hex(sha) }) {
                    return Err(lines.broken("the count or the sha256 does not fit".into()));
                }
                if lines.more().await? {
                    return Err(lines.broken("something follows the end".into()));
                }
                ledger.commit(batch).await?;
                return Ok(count);
            }
        }
        if bytes >= BATCH_BYTES {
            ledger.commit(std::mem::take(&mut batch)).await?;
            bytes = 0;
        }
    }
}

/// Removes every row.
async fn clear(ledger: &dyn Ledger) -> Result<(), LedgerError> {
    let mut batch = Batch::new();
    let mut rows = ledger.scan("", None);
    while let Some((key, _)) = rows.try_next().await? {
        batch.delete(key);
        if batch.len() >= 10_000 {
            ledger.commit(std::mem::take(&mut batch)).await?;
        }
    }
    ledger.commit(batch).await
}

struct Lines<R> {
    reader: R,
    text: String,
    number: u64,
    sha: Sha256,
}

impl<R: AsyncBufRead + Unpin + Send> Lines<R> {
    /// Reads the next line, which must be there in full.
    async fn next(&mut self) -> Result<(), DumpError> {
        self.text.clear();
        self.number += 1;
        let read = (&mut self.reader).take(LINE_BYTES).read_line(&mut self.text).await;
        match read {
            Ok(_) if self.text.ends_with('\n') => {
                self.sha.update(&self.text);
                Ok(())
            }
            Ok(read) if read as u64 == LINE_BYTES => Err(self.broken("the line is too long".into())),
            Ok(_) => Err(self.broken("the stream ends here, before its end".into())),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                Err(self.broken("not valid UTF-8".into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn more(&mut self) -> Result<bool, DumpError> {
        Ok(!self.reader.fill_buf().await?.is_empty())
    }

    fn parse<'a, T: Deserialize<'a>>(&'a self, otherwise: &str) -> Result<T, DumpError> {
        serde_json::from_str(&self.text).map_err(|error| self.broken(format!("{otherwise} ({error})")))
    }

    fn broken(&self, reason: String) -> DumpError {
        DumpError::Broken { line: self.number, reason }
    }
}

async fn write_line(
    writer: &mut (impl AsyncWrite + Unpin + Send),
    sha: &mut Sha256,
    line: &(impl Serialize + Sync),
) -> Result<(), DumpError> {
    let mut text = serde_json::to_vec(line).map_err(std::io::Error::other)?;
    text.push(b'\n');
    sha.update(&text);
    Ok(writer.write_all(&text).await?)
}

fn hex(sha: Sha256) -> String {
    sha.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
