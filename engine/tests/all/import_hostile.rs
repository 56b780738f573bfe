//! Files that a reader must refuse, and good files with damage: one clear line each, quickly, in little memory, and
//! never a panic.
//!
//! One test function: it reads the peak of the process's memory.

use std::time::{Duration, Instant};

use crate::common::fixture;
use sr3_engine::model::import::read_pth;
use sr3_engine::model::tensors::{ReadLimits, TensorFileError, TensorMap, read_safetensors};

fn read(name: &str, bytes: &[u8], limits: &ReadLimits) -> Result<TensorMap, TensorFileError> {
    if name.ends_with(".safetensors") {
        read_safetensors(bytes, limits).map(|(tensors, _)| tensors)
    } else {
        read_pth(bytes, limits)
    }
}

/// A line of the system's account of this process, in bytes; zero where the system gives none.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap_or("0 kB");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// Asserts that neither the memory in use nor what was asked for beyond the start ever went over 200 MB.
fn assert_little_memory(what: &str, size_at_start: u64) {
    let (resident, asked) = (memory("VmHWM"), memory("VmPeak").saturating_sub(size_at_start));
    println!("{what}: {} MiB resident, {} MiB of addresses beyond the start", resident >> 20, asked >> 20);
    assert!(resident < 200_000_000, "{what}: {resident} bytes resident");
    // A thread's allocator may reserve 128 MiB of addresses without using them.
    assert!(asked < 200_000_000 + (128 << 20), "{what}: {asked} bytes asked for");
}

fn assert_one_clear_line(name: &str, error: &TensorFileError) {
    let line = error.to_string();
    assert!(line.len() > 20 && line.len() < 600, "{name}: {line}");
    assert!(!line.chars().any(char::is_control), "{name}: {line:?}");
}

/// SplitMix64: all that the tests need of randomness, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

#[test]
fn hostile_and_damaged_files_are_refused_quickly_in_little_memory() {
    let size_at_start = memory("VmSize");
    hostile_files_are_refused();
    // With a small stack: nothing may recurse as deep as the file says.
    let small = std::thread::Builder::new().stack_size(256 << 10);
    small.spawn(hostile_files_are_refused).unwrap().join().unwrap();
    assert_little_memory("hostile files", size_at_start);
    damaged_files_never_panic();
    assert_little_memory("damaged files", size_at_start);
}

fn hostile_files_are_refused() {
    let mut refused = 0;
    for entry in std::fs::read_dir(fixture("hostile")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let start = Instant::now();
        let result = read(name, &bytes, &ReadLimits::default());
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(1), "{name}: {elapsed:?}");
        match result {
            Ok(_) => assert!(name.starts_with("control_ok"), "{name} was read"),
            Err(error) => {
                assert!(!name.starts_with("control_ok"), "{name}: {error}");
                println!("{name:30} {elapsed:9.1?}  {error}");
                assert_one_clear_line(name, &error);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 24);
}

fn damaged_files_never_panic() {
    const GOOD: [&str; 8] = [
        "jan_tiny_gen.pth",
        "jan_tiny_gen_legacy.pth",
        "pth_views.pth",
        "pth_views_legacy.pth",
        "pth_nested.pth",
        "hostile/control_ok.pth",
        "pth_views_expected.safetensors",
        "jan_tiny_gen_buffers.safetensors",
    ];
    let limits = ReadLimits { expansion_bytes_max: 8 << 20, ..ReadLimits::default() };
    let mut random = Random(4);
    let (mut read_anyway, mut refused) = (0, 0);
    for name in GOOD {
        let good = std::fs::read(fixture(name)).unwrap();
        for round in 0..150 {
            let mut bytes = good.clone();
            if round % 3 == 0 {
                bytes.truncate(random.below(good.len()));
            } else {
                // Damage clusters where the structure is: the head and the tail of the file.
                for _ in 0..=random.below(4) {
                    let at = match random.below(3) {
                        0 => random.below(good.len().min(2048)),
                        1 => good.len() - 1 - random.below(good.len().min(2048)),
                        _ => random.below(good.len()),
                    };
                    bytes[at] = if random.below(2) == 0 {
                        random.next() as u8
                    } else {
                        bytes[at] ^ (1 << random.below(8))
                    };
                }
            }
            match read(name, &bytes, &limits) {
                Ok(tensors) => {
                    read_anyway += 1;
                    let total: usize = tensors.values().map(|tensor| tensor.data.len()).sum();
                    assert!(total <= bytes.len() + (8 << 20), "{name}: {total} bytes");
                }
                Err(error) => {
                    refused += 1;
                    assert_one_clear_line(name, &error);
                }
            }
        }
    }
    println!("{refused} damaged files refused, {read_anyway} read");
    assert!(refused > 600, "{refused} of {}", refused + read_anyway);
}
