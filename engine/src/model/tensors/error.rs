//! Why a file of tensors is refused, in words fit for one line of a report.
//!
//! Whatever text comes from the file is escaped and cut before it becomes part of a message.

/// Why a file of tensors was refused. Every message is one line, whatever the file says.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// Longer than [`file_bytes_max`](super::ReadLimits::file_bytes_max).
    #[error(
        "the file has {bytes} bytes, more than the limit of {limit}: raise the limit if you trust the file"
    )]
    FileTooLarge {
        /// Length of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The description of the tensors is longer than [`header_bytes_max`](super::ReadLimits::header_bytes_max), or has too many parts.
    #[error("{part} has {size} {unit}, more than the limit of {limit}: this is not a plain checkpoint")]
    HeaderTooLarge {
        /// Which part of the file.
        part: &'static str,
        /// Its size as claimed.
        size: u64,
        /// What is counted.
        unit: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The tensors are larger than the limits allow.
    #[error("tensor {name} takes the total to {bytes} bytes, more than the limit of {limit}")]
    TensorsTooLarge {
        /// The tensor that went over.
        name: String,
        /// Bytes of all tensors up to it.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The file ends too early.
    #[error("the file ends inside {part}: it is damaged or was cut off, fetch it again")]
    Truncated {
        /// What was being read.
        part: &'static str,
    },
    /// No format that is read here.
    #[error(
        "the file is no PyTorch checkpoint: it begins with neither a zip archive nor PyTorch's old format"
    )]
    UnknownFormat,
    /// A part contradicts its format.
    #[error("{part} is malformed at byte {offset}: {reason}")]
    Malformed {
        /// Which part of the file.
        part: &'static str,
        /// Where, counted from the start of that part.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// The header is not the JSON that it has to be.
    #[error("the header is not valid: {reason}")]
    Json {
        /// The parser's words.
        reason: String,
    },
    /// An entry of the archive cannot be used.
    #[error("archive entry {name}: {reason}")]
    Entry {
        /// Name in the archive.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The pickle names something that is not part of plain tensors.
    #[error(
        "the pickle asks for {global}, which is never run here: save a state_dict of plain tensors instead"
    )]
    Global {
        /// Module and name in Python.
        global: String,
    },
    /// There is no dictionary of tensors in the file.
    #[error("the file holds no named tensors: its root is {root}, where a dictionary of tensors belongs")]
    NoTensors {
        /// What the root is.
        root: &'static str,
    },
    /// One tensor is wrong.
    #[error("tensor {name}: {fault}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong with it.
        fault: TensorFault,
    },
}

/// What is wrong with one tensor.
#[derive(Debug, thiserror::Error)]
pub enum TensorFault {
    /// Number of bytes does not follow from shape and type.
    #[error("its shape {shape} of {dtype} does not fill {bytes} bytes")]
    Shape {
        /// Shape, written out.
        shape: String,
        /// Element type.
        dtype: &'static str,
        /// Bytes there are.
        bytes: u64,
    },
    /// The product of the axes does not fit 64 bits.
    #[error("the product of its shape {shape} overflows")]
    Overflow {
        /// Shape, written out.
        shape: String,
    },
    /// Unknown element type.
    #[error("element type {dtype} is none of F32, F16, BF16, F64, I64, I32, U8, BOOL")]
    Dtype {
        /// As the file has it.
        dtype: String,
    },
    /// Tensors must follow each other without gap or overlap.
    #[error("its bytes are {begin} to {end}, but the next free byte is {free} and there are {held}")]
    Offsets {
        /// First byte.
        begin: u64,
        /// Byte after the last.
        end: u64,
        /// Where it has to begin.
        free: u64,
        /// Bytes of all tensors in the file.
        held: u64,
    },
    /// The view reads outside its storage.
    #[error("it reads element {last} of a storage of {held}")]
    PastEnd {
        /// Highest element read.
        last: u64,
        /// Elements there are.
        held: u64,
    },
    /// A storage is shorter or longer than it says.
    #[error("storage {key} holds {held} bytes where {claimed} are claimed")]
    StorageLength {
        /// Its key.
        key: String,
        /// Bytes there are.
        held: u64,
        /// Bytes that its description asks for.
        claimed: u64,
    },
    /// No such storage in the file.
    #[error("storage {key} is not in the file")]
    StorageMissing {
        /// Its key.
        key: String,
    },
    /// An offset, stride or axis is negative or not a number, or there are too many axes.
    #[error("its {what} must be {allowed}")]
    View {
        /// Which number.
        what: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The name was used before.
    #[error("the name appears twice")]
    Duplicate,
}

/// Text from a file as part of a one-line message: control characters escaped, long text cut.
pub(crate) fn one_line(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    let mut line: String = text.chars().take(CHARS_MAX).flat_map(escape).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        line.push('…');
    }
    if line.is_empty() { "(empty)".to_string() } else { line }
}

fn escape(c: char) -> Box<dyn Iterator<Item = char>> {
    // U+2028 and U+2029 end a line too.
    if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
        Box::new(c.escape_default())
    } else {
        Box::new(std::iter::once(c))
    }
}
