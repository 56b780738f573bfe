//! The names in Python that a checkpoint may mention, and what each stands for here. The list is closed: a name
//! that is not in it refuses the file.

use crate::model::tensors::{Dtype, TensorFileError, one_line};

/// What a function or a class of Python stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callable {
    /// A dictionary, in the order of its items.
    OrderedDict,
    /// A dictionary; what it would make of missing keys does not matter here.
    DefaultDict,
    /// A tensor from (storage, offset, shape, strides, …).
    RebuildTensor,
    /// What the first argument is: a parameter is its tensor, a `torch.Size` its tuple.
    FirstArgument,
    /// A storage's class, which says the type of its elements.
    Storage(Dtype),
    /// A module of TorchScript: the dictionary that is set as its attributes.
    Module,
    /// Its values are held but never looked into: settings beside the tensors.
    Opaque,
}

impl Callable {
    /// Looks a name up.
    pub(super) fn resolve(module: &str, name: &str) -> Result<Self, TensorFileError> {
        let storage = |dtype| Ok(Self::Storage(dtype));
        match (module, name) {
            // Classes that the archive itself defines, in code that is never read.
            (module, _) if module.starts_with("__torch__.") => Ok(Self::Module),
            ("collections", "OrderedDict") => Ok(Self::OrderedDict),
            ("collections", "defaultdict") => Ok(Self::DefaultDict),
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Ok(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") | ("torch", "Size") => {
                Ok(Self::FirstArgument)
            }
            ("torch" | "torch.storage", "FloatStorage") => storage(Dtype::F32),
            ("torch" | "torch.storage", "HalfStorage") => storage(Dtype::F16),
            ("torch" | "torch.storage", "BFloat16Storage") => storage(Dtype::BF16),
            ("torch" | "torch.storage", "DoubleStorage") => storage(Dtype::F64),
            ("torch" | "torch.storage", "LongStorage") => storage(Dtype::I64),
            ("torch" | "torch.storage", "IntStorage") => storage(Dtype::I32),
            ("torch" | "torch.storage", "ByteStorage") => storage(Dtype::U8),
            ("torch" | "torch.storage", "BoolStorage") => storage(Dtype::Bool),
            // Settings and counters that training scripts keep beside the weights.
            ("torch", "device")
            | (
                "torch",
                "float32" | "float16" | "bfloat16" | "float64" | "int64" | "int32" | "uint8" | "bool",
            )
            | (
                "builtins" | "__builtin__",
                "set" | "frozenset" | "list" | "dict" | "int" | "float" | "complex" | "bytearray",
            )
            | ("numpy", "dtype" | "ndarray")
            | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar" | "_reconstruct")
            | ("torch.jit._pickle", "build_intlist" | "build_doublelist" | "build_boollist")
            | ("_codecs", "encode")
            | ("argparse", "Namespace") => Ok(Self::Opaque),
            _ => Err(TensorFileError::Global { global: one_line(&format!("{module}.{name}")) }),
        }
    }
}
