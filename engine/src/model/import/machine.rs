//! A pickle machine that executes nothing: a stack, marks, a memo, and one step for each opcode of protocols 2 to 5.
//!
//! It builds plain data, a [`Pickle`]. A name in Python (GLOBAL) is resolved by a fixed list, [`Callable`], to "a storage", "a
//! tensor", "an ordered dictionary" or "held but never looked into"; any other is an error that says the name. Calling
//! one (REDUCE) builds the record of it, no code runs. The number of opcodes is bounded, and with it the memory.

use std::collections::HashMap;

use super::callable::Callable;
use super::pickle::{Node, Pickle, StorageRef, Value};
use crate::model::tensors::TensorFileError;

/// Far above what the largest public checkpoints need (about 15 opcodes a tensor).
const OPCODES_MAX: u64 = 1 << 20;

/// Runs the pickle at the start of `bytes`, up to its STOP.
pub(super) fn run(bytes: &[u8]) -> Result<Pickle<'_>, TensorFileError> {
    let (stack, marks, nodes) = (vec![], vec![], vec![]);
    let mut machine = Machine { bytes, at: 0, opcode_at: 0, stack, marks, memo: HashMap::new(), nodes };
    let root = machine.run()?;
    Ok(Pickle { root, nodes: machine.nodes, length: machine.at })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    opcode_at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at which a MARK lies.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    nodes: Vec<Node<'a>>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Value<'a>, TensorFileError> {
        for _ in 0..OPCODES_MAX {
            self.opcode_at = self.at;
            let [opcode] = self.array()?;
            match opcode {
                b'.' => return self.pop(),
                b'\x80' => {
                    let [protocol] = self.array()?;
                    if !(2..=5).contains(&protocol) {
                        return Err(self.malformed("only pickle protocols 2 to 5 are read"));
                    }
                }
                // FRAME: only a hint for buffering.
                b'\x95' => drop(self.array::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => self.discard()?,
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                _ => self.scalar(opcode)?,
            }
        }
        let (part, unit) = ("the pickle", "opcodes or more");
        Err(TensorFileError::HeaderTooLarge { part, size: OPCODES_MAX, unit, limit: OPCODES_MAX })
    }

    fn scalar(&mut self, opcode: u8) -> Result<(), TensorFileError> {
        let value = match opcode {
            b'N' => Value::None,
            b'\x88' => Value::Bool(true),
            b'\x89' => Value::Bool(false),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'K' => Value::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'\x8a' => {
                let length = u8::from_le_bytes(self.array()?);
                integer(self.take(length.into())?)
            }
            b'\x8b' => {
                let length = u32::from_le_bytes(self.array()?);
                integer(self.take(length.into())?)
            }
            b'G' => {
                self.array::<8>()?;
                Value::Opaque
            }
            b'X' | b'T' => {
                let length = u32::from_le_bytes(self.array()?);
                self.text(length.into())?
            }
            b'\x8c' | b'U' => {
                let length = u8::from_le_bytes(self.array()?);
                self.text(length.into())?
            }
            b'\x8d' => {
                let length = u64::from_le_bytes(self.array()?);
                self.text(length)?
            }
            b'B' => {
                let length = u32::from_le_bytes(self.array()?);
                self.opaque(length.into())?
            }
            b'C' => {
                let length = u8::from_le_bytes(self.array()?);
                self.opaque(length.into())?
            }
            b'\x8e' | b'\x96' => {
                let length = u64::from_le_bytes(self.array()?);
                self.opaque(length)?
            }
            _ => return self.container(opcode),
        };
        self.stack.push(value);
        Ok(())
    }

    fn container(&mut self, opcode: u8) -> Result<(), TensorFileError> {
        let node = match opcode {
            b')' => Node::Tuple(vec![]),
            b'\x85' => Node::Tuple(vec![self.pop()?]),
            b'\x86' | b'\x87' => {
                let mut items = Vec::with_capacity(3);
                for _ in 0..usize::from(opcode - b'\x84') {
                    items.push(self.pop()?);
                }
                items.reverse();
                Node::Tuple(items)
            }
            b't' => Node::Tuple(self.pop_mark()?),
            b']' => Node::List(vec![]),
            b'l' => Node::List(self.pop_mark()?),
            b'}' => Node::Dict(vec![]),
            b'd' => {
                let items = self.pop_mark()?;
                Node::Dict(self.pairs(&items)?)
            }
            b'\x8f' => {
                self.stack.push(Value::Opaque);
                return Ok(());
            }
            b'\x91' => {
                self.pop_mark()?;
                self.stack.push(Value::Opaque);
                return Ok(());
            }
            _ => return self.change(opcode),
        };
        self.push_node(node);
        Ok(())
    }

    fn change(&mut self, opcode: u8) -> Result<(), TensorFileError> {
        match opcode {
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)
            }
            // ADDITEMS: sets are opaque.
            b'\x90' => self.pop_mark().map(drop),
            _ => self.memory(opcode),
        }
    }

    fn memory(&mut self, opcode: u8) -> Result<(), TensorFileError> {
        match opcode {
            b'q' => {
                let index = u8::from_le_bytes(self.array()?);
                self.remember(index.into())
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)
            }
            b'\x94' => self.remember(self.memo.len() as u32),
            b'h' => {
                let index = u8::from_le_bytes(self.array()?);
                self.recall(index.into())
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)
            }
            _ => self.call(opcode),
        }
    }

    fn call(&mut self, opcode: u8) -> Result<(), TensorFileError> {
        match opcode {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Callable(Callable::resolve(module, name)?));
                Ok(())
            }
            b'\x93' => {
                let (Value::Text(name), Value::Text(module)) = (self.pop()?, self.pop()?) else {
                    return Err(self.malformed("the name of a class is not a text"));
                };
                self.stack.push(Value::Callable(Callable::resolve(module, name)?));
                Ok(())
            }
            // REDUCE and NEWOBJ: the same records, whether a function or a class is called.
            b'R' | b'\x81' => {
                let arguments = self.pop()?;
                let Value::Callable(callable) = self.pop()? else {
                    return Err(self.malformed("a call of something that is not a function"));
                };
                self.reduce(callable, arguments)
            }
            b'b' => {
                // BUILD sets attributes: a module is made of them, and nothing else depends on them (`_metadata` of a
                // state_dict).
                let attributes = self.pop()?;
                match self.top()? {
                    Value::Opaque => Ok(()),
                    Value::Node(index) if matches!(self.nodes[index], Node::Module) => {
                        self.set_attributes(index, attributes)
                    }
                    Value::Node(index)
                        if matches!(self.nodes[index], Node::Dict(_) | Node::Tensor { .. }) =>
                    {
                        Ok(())
                    }
                    _ => Err(self.malformed("attributes are set on something that has none")),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push_node(Node::Storage(storage));
                Ok(())
            }
            _ => Err(self.malformed("this opcode does not occur in a checkpoint")),
        }
    }

    fn reduce(&mut self, callable: Callable, arguments: Value<'a>) -> Result<(), TensorFileError> {
        let Value::Node(index) = arguments else {
            return Err(self.malformed("the arguments of a call are no tuple"));
        };
        let Node::Tuple(items) = &self.nodes[index] else {
            return Err(self.malformed("the arguments of a call are no tuple"));
        };
        let first = items.first().copied();
        match callable {
            Callable::OrderedDict if items.is_empty() => self.push_node(Node::Dict(vec![])),
            Callable::OrderedDict => return Err(self.malformed("an OrderedDict with arguments is not read")),
            Callable::DefaultDict => self.push_node(Node::Dict(vec![])),
            Callable::RebuildTensor => {
                let known = first.is_some_and(
                    |first| matches!(first, Value::Node(at) if matches!(self.nodes[at], Node::Storage(_))),
                );
                if !known || items.len() < 4 {
                    return Err(self.malformed("a tensor needs storage, offset, shape and strides"));
                }
                self.push_node(Node::Tensor { arguments: index });
            }
            // Both give back the first argument: a parameter is its tensor, a torch.Size its tuple.
            Callable::FirstArgument => {
                let first = first.ok_or_else(|| self.malformed("a call lacks its argument"))?;
                self.stack.push(first);
            }
            Callable::Module => self.push_node(Node::Module),
            Callable::Opaque => self.stack.push(Value::Opaque),
            Callable::Storage(_) => return Err(self.malformed("a storage is called like a function")),
        }
        Ok(())
    }

    /// A module becomes the dictionary of its attributes, which is nobody else's.
    fn set_attributes(&mut self, module: usize, attributes: Value<'a>) -> Result<(), TensorFileError> {
        if let Value::Node(index) = attributes
            && let Node::Dict(items) = &mut self.nodes[index]
        {
            self.nodes[module] = Node::Dict(std::mem::take(items));
            return Ok(());
        }
        Err(self.malformed("the attributes of a module are no dictionary"))
    }

    /// Reads a persistent id: ("storage", class, key, location, elements), the old format has None behind it.
    fn storage(&self, id: Value<'a>) -> Result<StorageRef<'a>, TensorFileError> {
        let Value::Node(index) = id else { return Err(self.malformed("a persistent id is no tuple")) };
        let Node::Tuple(items) = &self.nodes[index] else {
            return Err(self.malformed("a persistent id is no tuple"));
        };
        let (Some(fields), rest) = (items.first_chunk::<5>(), items.get(5..).unwrap_or_default()) else {
            return Err(self.malformed("a persistent id has less than five fields"));
        };
        let &[
            Value::Text("storage"),
            Value::Callable(Callable::Storage(dtype)),
            Value::Text(key),
            _,
            Value::Int(elements),
        ] = fields
        else {
            return Err(self.malformed("a persistent id does not describe a storage"));
        };
        if !matches!(rest, [] | [Value::None]) {
            return Err(self.malformed("a storage that is a view of another is not read"));
        }
        let elements =
            u64::try_from(elements).map_err(|_| self.malformed("a storage has a negative length"))?;
        Ok(StorageRef { dtype, key, elements })
    }

    fn append(&mut self, items: &[Value<'a>]) -> Result<(), TensorFileError> {
        match self.top()? {
            Value::Opaque => return Ok(()),
            Value::Node(index) => {
                if let Node::List(list) = &mut self.nodes[index] {
                    list.extend_from_slice(items);
                    return Ok(());
                }
            }
            _ => {}
        }
        Err(self.malformed("something is appended to what is no list"))
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), TensorFileError> {
        let pairs = self.pairs(items)?;
        match self.top()? {
            Value::Opaque => return Ok(()),
            Value::Node(index) => {
                if let Node::Dict(dict) = &mut self.nodes[index] {
                    dict.extend(pairs);
                    return Ok(());
                }
            }
            _ => {}
        }
        Err(self.malformed("an item is set in what is no dictionary"))
    }

    fn pairs(&self, items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, TensorFileError> {
        match items.as_chunks() {
            (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
            _ => Err(self.malformed("a key has no value")),
        }
    }

    fn push_node(&mut self, node: Node<'a>) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    fn remember(&mut self, index: u32) -> Result<(), TensorFileError> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), TensorFileError> {
        let value = self.memo.get(&index).copied();
        self.stack.push(value.ok_or_else(|| self.malformed("a value is used that was never stored"))?);
        Ok(())
    }

    /// Values below the last MARK are out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value<'a>, TensorFileError> {
        let top = self.stack[self.floor()..].last().copied();
        top.ok_or_else(|| self.malformed("the stack is empty"))
    }

    fn pop(&mut self) -> Result<Value<'a>, TensorFileError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, TensorFileError> {
        let mark = self.marks.pop().ok_or_else(|| self.malformed("there is no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn discard(&mut self) -> Result<(), TensorFileError> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            Ok(())
        } else {
            self.pop().map(drop)
        }
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], TensorFileError> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or(TensorFileError::Truncated { part: "the pickle" })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TensorFileError> {
        let taken = self.take(N as u64)?;
        taken.try_into().map_err(|_| TensorFileError::Truncated { part: "the pickle" })
    }

    fn text(&mut self, length: u64) -> Result<Value<'a>, TensorFileError> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Value::Text).map_err(|_| self.malformed("a text is not UTF-8"))
    }

    fn opaque(&mut self, length: u64) -> Result<Value<'a>, TensorFileError> {
        self.take(length)?;
        Ok(Value::Opaque)
    }

    fn line(&mut self) -> Result<&'a str, TensorFileError> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = &rest[..end.ok_or(TensorFileError::Truncated { part: "the pickle" })?];
        self.at += line.len() + 1;
        std::str::from_utf8(line).map_err(|_| self.malformed("a name is not UTF-8"))
    }

    fn malformed(&self, reason: &'static str) -> TensorFileError {
        TensorFileError::Malformed { part: "the pickle", offset: self.opcode_at as u64, reason }
    }
}

/// An integer in two's complement, little endian; opaque beyond 64 bits.
fn integer(bytes: &[u8]) -> Value<'_> {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let sign = if bytes.last().is_some_and(|&top| top >= 0x80) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}
