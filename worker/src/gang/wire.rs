//! Frames as they lie on the wire: gRPC messages of `peer.proto` that are written and read without a copy.
//!
//! A generic codec gathers a message before it sends it and again before it reads it. Here what travels is a short head and the
//! numbers' own memory behind it; what arrives is decoded where the network put it. The bytes are those that any gRPC peer of
//! this protocol writes and reads; the tests hold them to the generated types.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len},
};
use sr3_proto::{net::MESSAGE_BYTES_MAX, wire::v1};

use super::{
    mesh::{Frame, Payload},
    segment::Reader,
    tree::{Wire, to_bf16},
};

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Numbers of a [`v1::PeerFrame`]'s fields.
const LANE: u32 = 1;
const TAG: u32 = 2;
const INDEX: u32 = 3;
const WORDS: u32 = 4;
const FLOATS: u32 = 5;
const HALVES: u32 = 6;

/// A frame's message, head and payload; `field` is the frame's number in it.
pub(super) fn written(field: u32, lane: usize, frame: &Frame) -> [Bytes; 2] {
    let (payload_field, payload) = match &frame.payload {
        Payload::Bytes(bytes) => (WORDS, bytes.clone()),
        Payload::Packed(bytes, Wire::F32) => (FLOATS, bytes.clone()),
        Payload::Packed(bytes, Wire::Bf16) => (HALVES, bytes.clone()),
        Payload::Shared(taken) => {
            let mut list = vec![0.0; taken.numbers().len()];
            taken.numbers().copy_to(&mut list);
            (FLOATS, Bytes::from_owner(Floats(Arc::new(list))))
        }
        Payload::Floats(list, range, Wire::F32) => {
            let all = Bytes::from_owner(Floats(Arc::clone(list)));
            (FLOATS, all.slice(4 * range.start..4 * range.end))
        }
        Payload::Floats(list, range, Wire::Bf16) => {
            let values = list.get(range.clone()).unwrap_or_default();
            let mut bytes = BytesMut::with_capacity(2 * values.len());
            values.iter().for_each(|value| bytes.put_u16_le(to_bf16(*value)));
            (HALVES, bytes.freeze())
        }
    };
    let numbers = [(LANE, lane as u64), (TAG, frame.tag), (INDEX, frame.index)];
    let length = payload.len() as u64;
    let lengths = numbers.iter().map(|(field, number)| key_len(*field) + encoded_len_varint(*number));
    let inner = lengths.sum::<usize>() + key_len(payload_field) + encoded_len_varint(length) + payload.len();
    let outer = key_len(field) + encoded_len_varint(inner as u64) + inner;
    let mut head = BytesMut::with_capacity(PREFIX + outer - payload.len());
    head.put_u8(0);
    head.put_u32(outer as u32);
    encode_key(field, WireType::LengthDelimited, &mut head);
    encode_varint(inner as u64, &mut head);
    for (field, number) in numbers {
        encode_key(field, WireType::Varint, &mut head);
        encode_varint(number, &mut head);
    }
    encode_key(payload_field, WireType::LengthDelimited, &mut head);
    encode_varint(length, &mut head);
    [head.freeze(), payload]
}

/// A message that holds little.
pub(super) fn short(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    // It has room for itself.
    let _ = message.encode(&mut bytes);
    bytes.freeze()
}

/// A frame whose numbers lie in a slot.
pub(super) fn pointing(lane: usize, frame: &Frame, slot: v1::Slot) -> v1::PeerFrame {
    let payload = Some(v1::peer_frame::Payload::Slot(slot));
    v1::PeerFrame { lane: lane as u32, tag: frame.tag, index: frame.index, payload }
}

/// What a received frame says, of numbers in slots those in `segment`; none of what is no frame.
pub(super) fn read(frame: v1::PeerFrame, segment: Option<&Reader>) -> Option<Frame> {
    use v1::peer_frame::Payload::{Floats, Halves, Slot, Words};
    let v1::PeerFrame { tag, index, payload, .. } = frame;
    let payload = match payload? {
        Words(bytes) => Payload::Bytes(bytes),
        Floats(bytes) => bytes.len().is_multiple_of(4).then(|| Payload::Packed(bytes, Wire::F32))?,
        Halves(bytes) => bytes.len().is_multiple_of(2).then(|| Payload::Packed(bytes, Wire::Bf16))?,
        Slot(slot) => Payload::Shared(Arc::new(segment?.take(slot)?)),
    };
    Some(Frame { tag, index, payload })
}

/// A list as its bytes. Machines whose numbers lie the other way round are none of this program's.
struct Floats(Arc<Vec<f32>>);

impl AsRef<[u8]> for Floats {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// Messages of a stream, from pieces as they arrive.
#[derive(Debug, Default)]
pub(super) struct Messages {
    pieces: Pieces,
}

/// What is no message of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Messages {
    /// Adds what has arrived.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.pieces.left += piece.len();
        self.pieces.all.push_back(piece);
    }

    /// The next message, if it is here as a whole.
    pub(super) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Broken> {
        let Some(prefix) = self.pieces.peek() else { return Ok(None) };
        let [compressed, length @ ..] = prefix;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 || length > MESSAGE_BYTES_MAX {
            return Err(Broken);
        }
        if self.pieces.left < PREFIX + length {
            return Ok(None);
        }
        self.pieces.advance(PREFIX);
        let after = self.pieces.left - length;
        self.pieces.left = length;
        let message = M::decode(&mut self.pieces);
        if self.pieces.left != 0 {
            return Err(Broken);
        }
        self.pieces.left = after;
        message.map(Some).map_err(|_| Broken)
    }
}

/// Bytes in pieces, of which so many are left to be read. A part that lies within one piece is taken out without a copy.
#[derive(Debug, Default)]
struct Pieces {
    all: VecDeque<Bytes>,
    left: usize,
}

impl Pieces {
    /// The prefix of the next message.
    fn peek(&self) -> Option<[u8; PREFIX]> {
        let mut prefix = [0; PREFIX];
        let mut from = self.all.iter().flatten();
        for to in &mut prefix {
            *to = *from.next()?;
        }
        Some(prefix)
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        let first = self.all.iter().find(|piece| !piece.is_empty());
        first.map_or(&[], |piece| &piece[..piece.len().min(self.left)])
    }

    fn advance(&mut self, mut count: usize) {
        self.left -= count;
        while let Some(first) = self.all.front_mut() {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.all.pop_front();
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        while self.all.front().is_some_and(Bytes::is_empty) {
            self.all.pop_front();
        }
        if let Some(first) = self.all.front_mut().filter(|first| first.len() >= length) {
            self.left -= length;
            return first.split_to(length);
        }
        let mut gathered = BytesMut::with_capacity(length);
        gathered.put(self.take(length));
        gathered.freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame> {
        let list = Arc::new((0..100u32).map(|i| i as f32 * 1.37 - 20.0).collect::<Vec<f32>>());
        let of = |tag, index, payload| Frame { tag, index, payload };
        vec![
            of(0, 0, Payload::Bytes(Bytes::new())),
            of(u64::MAX, 300, Payload::Bytes(Bytes::from_static(b"words"))),
            of(1 << 40, 7, Payload::Floats(Arc::clone(&list), 3..97, Wire::F32)),
            of(12, 0, Payload::Floats(Arc::clone(&list), 0..0, Wire::F32)),
            of(13, 1, Payload::Floats(list, 50..100, Wire::Bf16)),
        ]
    }

    #[test]
    fn what_is_written_is_what_the_generated_types_read() {
        for (lane, frame) in frames().iter().enumerate() {
            let bytes = written(2, lane, frame).concat();
            assert_eq!(bytes[..PREFIX], [&[0][..], &((bytes.len() - PREFIX) as u32).to_be_bytes()].concat());
            let request = v1::LinkRequest::decode(&bytes[PREFIX..]).unwrap();
            // Bytes that say the defaults aloud are those of no generated writer, and mean the same.
            let Some(v1::link_request::Message::Frame(found)) = request.message else { panic!() };
            assert_eq!((found.lane, found.tag, found.index), (lane as u32, frame.tag, frame.index));
            let found = read(found, None).unwrap();
            let both = [frame, &found].map(|frame| match &frame.payload {
                Payload::Bytes(bytes) => bytes.iter().map(|byte| f32::from(*byte)).collect(),
                payload => {
                    let mut values = vec![0.0; payload.numbers().unwrap().len()];
                    payload.numbers().unwrap().copy_to(&mut values);
                    values
                }
            });
            let rounded = |values: &[f32]| values.iter().map(|v| to_bf16(*v)).collect::<Vec<_>>();
            assert!(both[0] == both[1] || rounded(&both[0]) == rounded(&both[1]));
        }
    }

    #[test]
    fn what_lies_in_one_piece_is_not_copied() {
        let list = Arc::new(vec![1.5f32; 1000]);
        let frame =
            Frame { tag: 1, index: 2, payload: Payload::Floats(Arc::clone(&list), 10..990, Wire::F32) };
        let mut messages = Messages::default();
        written(1, 0, &frame).into_iter().for_each(|piece| messages.push(piece));
        let said: v1::LinkResponse = messages.next().unwrap().unwrap();
        let Some(v1::link_response::Message::Frame(frame)) = said.message else { panic!() };
        let Some(v1::peer_frame::Payload::Floats(bytes)) = frame.payload else { panic!() };
        assert_eq!(bytes.as_ptr(), list[10..].as_ptr().cast());
    }

    proptest! {
        #[test]
        fn messages_are_read_however_they_arrive(cuts in prop::collection::vec(1usize..200, 1..40)) {
            let all: Vec<u8> = frames().iter().flat_map(|frame| written(2, 1, frame).concat()).collect();
            let (mut messages, mut tags, mut at) = (Messages::default(), Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = all.len().min(at + cut);
                messages.push(Bytes::copy_from_slice(&all[at..end]));
                at = end;
                while let Some(said) = messages.next::<v1::LinkRequest>().unwrap() {
                    let Some(v1::link_request::Message::Frame(frame)) = said.message else { panic!() };
                    tags.push(frame.tag);
                }
                if at == all.len() {
                    break;
                }
            }
            prop_assert_eq!(tags, frames().iter().map(|frame| frame.tag).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_is_an_error_or_waits(garbage: Vec<u8>) {
            let mut messages = Messages::default();
            messages.push(garbage.into());
            while let Ok(Some(_)) = messages.next::<v1::LinkRequest>() {}
        }
    }
}
