//! NumPy's archives: what `savez` and `savez_compressed` wrote, what we write, and what must be refused.

use std::io::Write;

use crate::common::fixture;
use flate2::{Compression, write::DeflateEncoder};
use sr3_engine::metrics::{Statistics, frechet_distance};
use sr3_engine::model::tensors::{
    Dtype, HostTensor, NpzEntry, ReadLimits, TensorFileError, TensorMap, npz_entries, read_npz, write_npz,
};

fn read(bytes: &[u8]) -> Result<TensorMap, TensorFileError> {
    read_npz(bytes, &ReadLimits::default())
}

/// An archive of one entry, deflated or stored, that claims to inflate to `size` bytes.
fn archive(name: &str, data: &[u8], size: u32, deflate: bool) -> Vec<u8> {
    let mut packed = data.to_vec();
    if deflate {
        let mut encoder = DeflateEncoder::new(vec![], Compression::best());
        encoder.write_all(data).unwrap();
        packed = encoder.finish().unwrap();
    }
    let mut common = [20, 0, 0, 0, if deflate { 8 } else { 0 }, 0, 0, 0, 0x21, 0].to_vec();
    for field in [crc32fast::hash(data), packed.len() as u32, size] {
        common.extend(field.to_le_bytes());
    }
    common.extend((name.len() as u32).to_le_bytes());
    let mut file = [b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat();
    let (begin, rest) = (file.len() as u32, [0; 14]);
    let directory = [b"PK\x01\x02\x14\0", &common[..], &rest, name.as_bytes()].concat();
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    for field in [directory.len() as u32, begin] {
        file.extend(field.to_le_bytes());
    }
    file.extend([0; 2]);
    file
}

fn array(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), data].concat()
}

fn one(header: &str, data: &[u8], deflate: bool) -> Result<TensorMap, TensorFileError> {
    let array = array(header, data);
    read(&archive("x.npy", &array, array.len() as u32, deflate))
}

#[test]
fn statistics_of_other_tools_are_read_stored_or_deflated() {
    let statistics = ["fid/stats_a.npz", "fid/stats_b_compressed.npz"].map(|name| {
        let tensors = read(&std::fs::read(fixture(name)).unwrap()).unwrap();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["mu", "sigma"], "{name}");
        assert_eq!(tensors["sigma"].shape, [64, 64]);
        let statistics = Statistics::from_arrays(&tensors).unwrap();
        assert_eq!(read(&write_npz(&statistics.to_arrays())).unwrap(), tensors, "{name}");
        statistics
    });
    assert!(Statistics::from_arrays(&TensorMap::new()).is_err());
    let distance = frechet_distance(&statistics[0], &statistics[1]).unwrap();
    assert!((distance - 41.701_398_636_052_42).abs() < 1e-6 * distance, "{distance}");
}

#[test]
fn what_is_written_is_read_back_and_depends_on_the_tensors_alone() {
    let tensor = |dtype: Dtype, shape: &[usize]| {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        HostTensor { dtype, shape: shape.to_vec(), data: (0..bytes).map(|i| (i * 37 % 251) as u8).collect() }
    };
    let mut tensors = TensorMap::new();
    for (name, dtype, shape) in [
        ("arr_0", Dtype::U8, &[2, 4, 4, 3][..]),
        ("mu", Dtype::F64, &[5]),
        ("sigma", Dtype::F32, &[5, 5]),
        ("labels", Dtype::I64, &[2]),
        ("half", Dtype::F16, &[3, 1]),
        ("count", Dtype::I32, &[]),
        ("none", Dtype::F32, &[0, 7]),
    ] {
        tensors.insert(name.to_string(), tensor(dtype, shape));
    }
    let file = write_npz(&tensors);
    assert_eq!(file, write_npz(&tensors));
    assert_eq!(read(&file).unwrap(), tensors);
    // NumPy has no bf16.
    let bf16 = HostTensor { dtype: Dtype::BF16, shape: vec![1], data: vec![0x80, 0x3f] };
    let widened = read(&write_npz(&TensorMap::from([("x".to_string(), bf16)]))).unwrap();
    assert_eq!((widened["x"].dtype, widened["x"].to_f32()), (Dtype::F32, vec![1.0]));
}

#[test]
fn arrays_whose_first_axis_is_fastest_are_turned() {
    let data: Vec<u8> = (0..6).collect();
    let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n";
    let found = one(header, &data, false).unwrap();
    assert_eq!(
        (found["x"].shape.as_slice(), found["x"].data.as_slice()),
        (&[2, 3][..], &[0, 2, 4, 1, 3, 5][..])
    );
    let plain = header.replace("True", "False");
    for deflate in [false, true] {
        assert_eq!(one(&plain, &data, deflate).unwrap()["x"].data, data);
    }
}

#[test]
fn damaged_and_hostile_archives_are_refused_before_they_take_memory() {
    let header = |descr: &str, shape: &str| {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
    };
    let refused = |header: &str, data: &[u8]| one(header, data, false).unwrap_err().to_string();
    for (header, data) in [
        (header("<f4", "(2,)"), &[0; 4][..]),
        (header("<f4", "(4611686018427387904, 4)"), &[0; 4]),
        (header("<f4", "(-1,)"), &[0; 4]),
        (header("<f4", "(1"), &[0; 4]),
        (header("|O", "(1,)"), &[0; 8]),
        (header(">f4", "(1,)"), &[0; 4]),
        ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }".to_string(), &[0; 4]),
        ("{'descr': '<f4', 'shape': (1,), }".to_string(), &[0; 4]),
        (String::new(), &[]),
    ] {
        assert!(!refused(&header, data).contains('\n'), "{header}");
    }
    assert!(read(&archive("x.npy", b"text", 4, false)).is_err());
    assert!(read(&archive("x.txt", b"text", 4, false)).is_err());
    // A length in the header past the end of the array.
    assert!(read(&archive("x.npy", b"\x93NUMPY\x02\0\xff\xff\xff\x0f{", 13, false)).is_err());
    // What is deflated is another length than claimed: more, less, and terabytes.
    let zeros = array(&header("|u1", "(100000,)"), &[0; 100_000]);
    for size in [zeros.len() as u32 - 1, zeros.len() as u32 + 1, u32::MAX - 1] {
        assert!(read(&archive("x.npy", &zeros, size, true)).is_err(), "{size}");
    }
    let good = archive("x.npy", &zeros, zeros.len() as u32, true);
    assert_eq!(read(&good).unwrap()["x"].data.len(), 100_000);
    // 8 MB of zeros are more than 16 times a few KB: refused where the limit gives no more room.
    let tight = ReadLimits { expansion_bytes_max: 1000, ..ReadLimits::default() };
    assert!(matches!(read_npz(&good, &tight), Err(TensorFileError::TensorsTooLarge { .. })));
    for cut in [good.len() / 2, good.len() - 1, 10] {
        assert!(read(&good[..cut]).is_err());
    }
    let mut damaged = good;
    damaged[60] ^= 1;
    assert!(read(&damaged).is_err());
}

#[test]
fn an_array_is_found_and_read_without_the_rest_of_the_file() {
    let bytes = |shape: Vec<usize>| {
        let data = (0..shape.iter().product()).map(|i: usize| (i % 251) as u8).collect();
        HostTensor { dtype: Dtype::U8, shape, data }
    };
    let all = TensorMap::from([("arr_0".into(), bytes(vec![5, 4, 3, 3])), ("mu".into(), bytes(vec![7]))]);
    let file = write_npz(&all);
    let (length, limits) = (file.len() as u64, ReadLimits::default());
    for tail in [file.len(), 400] {
        let entries = npz_entries(&file[file.len() - tail..], length).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["arr_0", "mu"]);
        let from = |entry: &NpzEntry| &file[entry.begin as usize..];
        assert_eq!(entries[1].read(from(&entries[1]), &limits).unwrap(), all["mu"]);
        let place = entries[0].place(&from(&entries[0])[..300], &limits).unwrap();
        assert_eq!((place.dtype, place.shape), (Dtype::U8, vec![5, 4, 3, 3]));
        assert_eq!(file[place.offset as usize..][..180], all["arr_0"].data);
    }
    assert!(npz_entries(&file[file.len() - 100..], length).is_err(), "the directory begins before");
    assert!(npz_entries(&file[..100], length).is_err());
    // What is compressed has no rows that could be found, and is read whole.
    let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (6,), }\n";
    let inner = array(header, &[3; 6]);
    let packed = archive("x.npy", &inner, inner.len() as u32, true);
    let entry = npz_entries(&packed, packed.len() as u64).unwrap().remove(0);
    assert!(entry.place(&packed, &limits).unwrap_err().to_string().contains("numpy.savez"));
    assert_eq!(entry.read(&packed, &limits).unwrap().data, [3; 6]);
    let tight = ReadLimits { tensor_bytes_max: 100, ..limits };
    assert!(entry.read(&packed, &tight).is_err());
}
