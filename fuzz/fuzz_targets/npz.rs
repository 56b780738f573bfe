#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: sr3_fuzz::watch(|| std::process::abort()), |data: &[u8]| sr3_fuzz::npz(data));
