//! Pickles written by hand, in PyTorch's old format: what the machine takes, holds without looking, and refuses.

use std::time::{Duration, Instant};

use crate::common::fixture;
use sr3_engine::model::import::read_pth;
use sr3_engine::model::tensors::{ReadLimits, TensorFileError, TensorMap};

/// A file of the old format around a pickle, with one storage, "s", of four f32: 0, 1, 2, 3.
fn file(pickle: &[u8]) -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    file.extend_from_slice(pickle);
    file.extend_from_slice(b"\x80\x02](X\x01\0\0\0se.");
    file.extend_from_slice(&4_u64.to_le_bytes());
    file.extend([0.0_f32, 1.0, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()));
    file
}

fn read(pickle: &[u8]) -> Result<TensorMap, TensorFileError> {
    read_pth(&file(pickle), &ReadLimits::default())
}

fn text(value: &str) -> Vec<u8> {
    [&b"X"[..], &(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()
}

/// Pushes the tensor [[0, 1], [2, 3]].
fn tensor() -> Vec<u8> {
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0sX\x03\0\0\0cpuK\x04NtQ";
    [b"ctorch._utils\n_rebuild_tensor_v2\n(", &storage[..], b"K\0K\x02K\x02\x86K\x02K\x01\x86\x89}tR"]
        .concat()
}

/// A dictionary of one tensor, "t", after `before`, which has to leave a value on the stack.
fn beside(before: &[u8]) -> Vec<u8> {
    [b"\x80\x02}(", &text("other")[..], before, &text("t"), &tensor(), b"u."].concat()
}

#[test]
fn plain_values_beside_tensors_are_held_and_left_out() {
    let values: [&[u8]; 14] = [
        b"G\0\0\0\0\0\0\0\0",
        b"\x8a\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c",
        b"](K\x01K\x02e",
        b"C\x02\xff\xff",
        b"ctorch\ndevice\nX\x04\0\0\0cuda\x85R",
        b"ctorch\nfloat32\n",
        b"ctorch\nSize\nK\x01K\x02\x86\x85R",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbC\x08\0\0\0\0\0\0\0\0\x86R",
        b"cargparse\nNamespace\n)\x81}X\x02\0\0\0lrG\0\0\0\0\0\0\0\0sb",
        b"c__builtin__\nset\n](K\x01K\x02e\x85R",
        b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85RX\x01\0\0\0a]s",
        b"\x8f(K\x01K\x02\x90",
        b"K\x01K\x022\x860N0",
        b"(K\x01K\x02l",
    ];
    for value in values {
        let found = read(&beside(value)).unwrap_or_else(|error| panic!("{}: {error}", value.escape_ascii()));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["t"], "{}", value.escape_ascii());
        assert_eq!(
            (found["t"].shape.as_slice(), found["t"].to_f32()),
            (&[2, 2][..], vec![0.0, 1.0, 2.0, 3.0])
        );
    }
}

#[test]
fn names_outside_the_list_are_refused_before_anything_is_built() {
    for (name, pickle) in [
        ("builtins.eval", &b"cbuiltins\neval\nX\x01\0\0\0x\x85R"[..]),
        ("os.system", b"cos\nsystem\n"),
        ("torch.nn.modules.linear.Linear", b"ctorch.nn.modules.linear\nLinear\n)\x81}b"),
        ("torch._utils._rebuild_qtensor", b"ctorch._utils\n_rebuild_qtensor\n"),
        ("subprocess.Popen", b"X\x0a\0\0\0subprocessX\x05\0\0\0Popen\x93"),
    ] {
        let error = read(&beside(pickle)).unwrap_err();
        assert!(matches!(&error, TensorFileError::Global { global } if global == name), "{name}: {error}");
    }
    // Not even with a line break in the name.
    let error = read(&beside(b"X\x03\0\0\0a\nbX\x01\0\0\0c\x93")).unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error:?}");
}

#[test]
fn keys_are_joined_and_whole_numbers_are_keys() {
    let pickle = [b"\x80\x02}X\x05\0\0\0state}(K\x00}", &text("w")[..], &tensor(), b"sus."].concat();
    assert_eq!(read(&pickle).unwrap().keys().collect::<Vec<_>>(), ["state.0.w"]);
}

#[test]
fn one_name_for_two_tensors_is_refused() {
    let twice = [b"\x80\x02}(", &text("a.b")[..], &tensor(), &text("a"), b"}", &text("b"), &tensor(), b"su."]
        .concat();
    assert!(matches!(read(&twice).unwrap_err(), TensorFileError::Tensor { .. }));
}

#[test]
fn dictionaries_that_hold_themselves_or_multiply_are_refused_quickly() {
    let start = Instant::now();
    let itself = [b"\x80\x02}q\0", &text("a")[..], b"h\0s."].concat();
    assert!(matches!(read(&itself).unwrap_err(), TensorFileError::Malformed { .. }));

    // Fourteen levels, each of ten references to the one before, a tensor at the bottom: 10^14 names.
    let mut bomb = [b"\x80\x02}", &text("t")[..], &tensor(), b"sq\0"].concat();
    for level in 1..=14 {
        bomb.extend_from_slice(b"0}(");
        for key in 0..10 {
            bomb.extend_from_slice(&[b'K', key, b'h', level - 1]);
        }
        bomb.extend_from_slice(&[b'u', b'q', level]);
    }
    bomb.push(b'.');
    assert!(read(&bomb).is_err());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn the_length_of_a_pickle_is_bounded_by_bytes_and_by_opcodes() {
    let many = [&b"\x80\x02"[..], &vec![b']'; 15 << 20], b"."].concat();
    let start = Instant::now();
    assert!(matches!(read(&many).unwrap_err(), TensorFileError::HeaderTooLarge { .. }));
    println!("{:?} to refuse 15 MiB of opcodes", start.elapsed());
    let limits = ReadLimits { header_bytes_max: 64, ..ReadLimits::default() };
    assert!(read_pth(&file(&beside(b"N")), &limits).is_err());
}

#[test]
fn limits_on_files_and_tensors_hold() {
    let bytes = std::fs::read(fixture("jan_tiny_gen.pth")).unwrap();
    let standard = ReadLimits::default();
    let small_file = ReadLimits { file_bytes_max: bytes.len() as u64 - 1, ..standard };
    assert!(matches!(read_pth(&bytes, &small_file).unwrap_err(), TensorFileError::FileTooLarge { .. }));
    let small_tensors = ReadLimits { tensor_bytes_max: 1 << 20, ..standard };
    assert!(matches!(read_pth(&bytes, &small_tensors).unwrap_err(), TensorFileError::TensorsTooLarge { .. }));
    let small_pickle = ReadLimits { header_bytes_max: 30_000, ..standard };
    assert!(matches!(read_pth(&bytes, &small_pickle).unwrap_err(), TensorFileError::HeaderTooLarge { .. }));
}

#[test]
fn a_damaged_storage_is_noticed_by_its_checksum() {
    let mut bytes = std::fs::read(fixture("jan_tiny_gen.pth")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let error = read_pth(&bytes, &ReadLimits::default()).unwrap_err();
    assert!(matches!(error, TensorFileError::Entry { .. }), "{error}");
}

#[test]
fn files_of_other_kinds_are_named_as_such() {
    for bytes in [&b""[..], b"\x80\x02}.", b"\x89PNG\r\n\x1a\n", b"<html>"] {
        assert!(matches!(
            read_pth(bytes, &ReadLimits::default()).unwrap_err(),
            TensorFileError::UnknownFormat
        ));
    }
}

#[test]
fn modules_of_torchscript_are_dictionaries_of_their_attributes() {
    let module = |attributes: &[u8]| [b"c__torch__.net\nNet\n)\x81", attributes, b"b"].concat();
    let inner = module(&[b"}(", &text("training")[..], b"\x89", &text("weight"), &tensor(), b"u"].concat());
    let outer = module(&[b"}(", &text("layer")[..], &inner, &text("bias"), &tensor(), b"u"].concat());
    let found = read(&[b"\x80\x02", &outer[..], b"."].concat()).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), ["bias", "layer.weight"]);
    // Lists of settings are held and left out.
    let list = b"ctorch.jit._pickle\nbuild_intlist\n](K\x01K\x02e\x85R";
    assert_eq!(read(&beside(list)).unwrap().keys().collect::<Vec<_>>(), ["t"]);
}

#[test]
fn a_module_that_is_none_is_refused_and_one_that_holds_itself_ends() {
    for attributes in [&b"N"[..], b"]", b"K\x01", b")"] {
        let module = [b"\x80\x02c__torch__.net\nNet\n)\x81", attributes, b"b."].concat();
        assert!(matches!(read(&module), Err(TensorFileError::Malformed { .. })));
    }
    assert!(read(b"\x80\x02c__torch__.net\nNet\n)\x81.").is_err());
    let itself = [b"\x80\x02c__torch__.net\nNet\n)\x81q\x00}(", &text("self")[..], b"h\x00ub."].concat();
    assert!(read(&itself).is_err());
}
