//! What a pickle holds, as plain data: texts, numbers, tuples, lists, dictionaries, and records of storages and tensors.
//!
//! Values are small and `Copy`: texts borrow from the pickle, containers live in one arena and are named by index. So
//! shared references cost nothing, cycles leak nothing, no value is dropped recursively, and no length in the pickle
//! is believed before the bytes are there.

use super::callable::Callable;
use crate::model::tensors::Dtype;

/// A value on the machine's stack.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// Something that no tensor depends on: floats, bytes, sets, integers of more than 64 bits, NumPy scalars.
    Opaque,
    Callable(Callable),
    /// A container or a record: index into [`Pickle::nodes`].
    Node(usize),
}

/// A storage: what a persistent id says of it. The bytes lie elsewhere in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct StorageRef<'a> {
    pub(super) dtype: Dtype,
    pub(super) key: &'a str,
    pub(super) elements: u64,
}

/// What lives in the arena.
#[derive(Debug)]
pub(super) enum Node<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(StorageRef<'a>),
    /// A view of a storage: (storage, offset, shape, strides, …), the arguments of the call, not yet checked.
    Tensor {
        arguments: usize,
    },
    /// A module of TorchScript whose attributes are not set yet; then it is their dictionary.
    Module,
}

/// A pickle that ran to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    pub(super) nodes: Vec<Node<'a>>,
    /// Bytes that it took.
    pub(super) length: usize,
}

impl<'a> Pickle<'a> {
    /// The items of a tuple or a list.
    pub(super) fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.node(value) {
            Some(Node::Tuple(items) | Node::List(items)) => Some(items),
            _ => None,
        }
    }

    pub(super) fn node(&self, value: Value<'a>) -> Option<&Node<'a>> {
        if let Value::Node(index) = value { self.nodes.get(index) } else { None }
    }

    /// What a value is, for messages.
    pub(super) fn kind(&self, value: Value<'a>) -> &'static str {
        match value {
            Value::None => "None",
            Value::Bool(_) => "a truth value",
            Value::Int(_) => "a number",
            Value::Text(_) => "a text",
            Value::Opaque => "a plain value",
            Value::Callable(_) => "a class",
            Value::Node(index) => match self.nodes.get(index) {
                Some(Node::Tuple(_)) => "a tuple",
                Some(Node::List(_)) => "a list",
                Some(Node::Dict(_)) => "a dictionary without tensors",
                Some(Node::Storage(_)) => "a storage",
                Some(Node::Tensor { .. }) => "a single tensor without a name",
                Some(Node::Module) => "a module without attributes",
                None => "nothing",
            },
        }
    }
}
