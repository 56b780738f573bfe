//! Checkpoint files of PyTorch and safetensors files: what good ones decode to, bit for bit.

use std::collections::BTreeMap;

use crate::common::fixture;
use sr3_engine::model::import::read_pth;
use sr3_engine::model::tensors::{
    Dtype, HostTensor, ReadLimits, TensorMap, read_safetensors, write_safetensors,
};

fn pth(name: &str) -> TensorMap {
    read_pth(&std::fs::read(fixture(name)).unwrap(), &ReadLimits::default()).unwrap()
}

fn safetensors(name: &str) -> TensorMap {
    read_safetensors(&std::fs::read(fixture(name)).unwrap(), &ReadLimits::default()).unwrap().0
}

fn names(tensors: &TensorMap) -> Vec<&str> {
    tensors.keys().map(String::as_str).collect()
}

#[test]
fn a_generator_checkpoint_is_bitwise_its_weights_and_buffers_in_both_formats() {
    let mut expected = safetensors("jan_tiny_gen_buffers.safetensors");
    for (name, tensor) in safetensors("unet_ddpm_tiny.safetensors") {
        if let Some(name) = name.strip_prefix("model.") {
            expected.insert(format!("denoise_fn.{name}"), tensor);
        }
    }
    assert_eq!(expected.len(), 174);
    for file in ["jan_tiny_gen.pth", "jan_tiny_gen_legacy.pth"] {
        let found = pth(file);
        assert_eq!(names(&found), names(&expected), "{file}");
        assert!(found == expected, "{file} differs");
    }
}

#[test]
fn views_are_copied_out_contiguous_and_bitwise_in_every_type() {
    let expected = safetensors("pth_views_expected.safetensors");
    for file in ["pth_views.pth", "pth_views_legacy.pth"] {
        let found = pth(file);
        assert_eq!(names(&found), names(&expected), "{file}");
        for (name, tensor) in &found {
            assert_eq!(&stored_as_expected(tensor), &expected[name], "{file}: {name}");
        }
        assert_eq!(found["int32"].dtype, Dtype::I32);
        assert_eq!(found["bool"].dtype, Dtype::Bool);
    }
}

/// The expected file has booleans as U8 and 32-bit integers as I64.
fn stored_as_expected(tensor: &HostTensor) -> HostTensor {
    let shape = tensor.shape.clone();
    match tensor.dtype {
        Dtype::Bool => HostTensor { dtype: Dtype::U8, shape, data: tensor.data.clone() },
        Dtype::I32 => {
            let values = tensor.data.as_chunks().0.iter().map(|&b| i64::from(i32::from_le_bytes(b)));
            HostTensor { dtype: Dtype::I64, shape, data: values.flat_map(i64::to_le_bytes).collect() }
        }
        _ => tensor.clone(),
    }
}

#[test]
fn every_type_converts_to_f32() {
    let tensors = pth("pth_views.pth");
    for (name, tensor) in &tensors {
        let values = tensor.to_f32();
        assert_eq!(values.len(), tensor.len(), "{name}");
        assert_eq!(values.len(), tensor.shape.iter().product::<usize>(), "{name}");
        if tensor.dtype == Dtype::I32 {
            let expected = safetensors("pth_views_expected.safetensors")[name].to_f32();
            assert_eq!(values, expected);
        }
    }
    let half = |name: &str| tensors[name].to_f32();
    for (value, bits) in half("half").iter().zip(tensors["half"].data.as_chunks().0) {
        assert_eq!(half::f16::from_f32(*value).to_le_bytes(), *bits);
    }
    for (value, bits) in half("bfloat16").iter().zip(tensors["bfloat16"].data.as_chunks().0) {
        assert_eq!(half::bf16::from_f32(*value).to_le_bytes(), *bits);
    }
}

#[test]
fn nested_dictionaries_are_flattened_and_plain_values_left_out() {
    let found = pth("pth_nested.pth");
    let expected = safetensors("pth_views_expected.safetensors");
    let path = "state_dict.module.";
    assert_eq!(
        names(&found),
        ["channels_last", "contiguous", "transposed"].map(|name| format!("{path}{name}"))
    );
    for (name, tensor) in found {
        assert_eq!(tensor, expected[name.strip_prefix(path).unwrap()], "{name}");
    }
}

#[test]
fn the_controls_among_the_hostile_files_load() {
    let tensors = [pth("hostile/control_ok.pth"), safetensors("hostile/control_ok.safetensors")];
    for tensors in tensors {
        assert_eq!(tensors.len(), 1);
        let tensor = tensors.values().next().unwrap();
        assert_eq!(tensor.shape, [2, 2]);
        assert_eq!(tensor.to_f32(), [0.0, 1.0, 2.0, 3.0]);
    }
}

#[test]
fn written_safetensors_read_back_and_are_what_other_writers_write() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/photo-4x/model.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let (tensors, metadata) = read_safetensors(&bytes, &ReadLimits::default()).unwrap();
    assert!(
        write_safetensors(&tensors, &metadata).unwrap() == bytes,
        "not the bytes that PyTorch's writer wrote"
    );

    let tensors = pth("pth_views.pth");
    let metadata =
        BTreeMap::from([("a \"quoted\"\n key".to_string(), "ü".to_string()), ("b".into(), String::new())]);
    let bytes = write_safetensors(&tensors, &metadata).unwrap();
    let (read, read_metadata) = read_safetensors(&bytes, &ReadLimits::default()).unwrap();
    assert!(read == tensors);
    assert_eq!(read_metadata, metadata);
    safetensors::SafeTensors::deserialize(&bytes).unwrap();
}

#[test]
fn two_tensors_of_one_name_are_refused_where_the_formats_own_library_takes_the_last() {
    let tensor = r#""a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let header = format!("{{{tensor},{tensor}}}");
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 4]].concat();
    let error = read_safetensors(&bytes, &ReadLimits::default()).unwrap_err().to_string();
    assert!(error.contains("the name a appears twice"), "{error}");
    assert!(
        safetensors::SafeTensors::deserialize(&bytes).is_ok(),
        "no reason any more to read the format here"
    );
}

#[test]
fn a_tensor_whose_data_does_not_fill_its_shape_is_not_written() {
    let tensor = HostTensor { dtype: Dtype::F32, shape: vec![2], data: vec![0; 4] };
    let tensors = TensorMap::from([("a".to_string(), tensor)]);
    assert!(write_safetensors(&tensors, &BTreeMap::new()).is_err());
}
