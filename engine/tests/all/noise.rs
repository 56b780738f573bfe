//! The generator against its published vectors, and the promises of noise as a function.

use sr3_engine::diffusion::{NoiseSource, Philox, Region, START};

const IMAGE: Region = Region { y: 0, x: 0, height: 128, width: 96, channels: 3 };

fn fill(source: &NoiseSource, region: Region, step: u32) -> Vec<f32> {
    let mut out = vec![f32::NAN; region.height * region.width * region.channels];
    source.fill_normal(&mut out, region, step);
    out
}

/// Random123's `kat_vectors`: philox4x32, 10 rounds.
#[test]
fn philox_gives_the_published_vectors() {
    let block = |key, counter| Philox::new(key).block(counter);
    assert_eq!(block([0; 2], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    assert_eq!(block([u32::MAX; 2], [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    assert_eq!(
        block([0xa409_3822, 0x299f_31d0], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

#[test]
fn any_part_of_an_image_has_the_noise_of_the_whole() {
    let source = NoiseSource::new(42, "album/cat.png");
    let whole = fill(&source, IMAGE, 3);
    for region in [
        Region { y: 5, x: 7, height: 11, width: 13, channels: 3 },
        Region { y: 127, x: 0, height: 1, width: 96, channels: 3 },
        Region { y: 0, x: 95, height: 128, width: 1, channels: 3 },
    ] {
        let part = fill(&source, region, 3);
        for (i, line) in part.chunks_exact(region.width * 3).enumerate() {
            let start = ((region.y + i) * 96 + region.x) * 3;
            assert_eq!(line.map_bits(), whole[start..start + line.len()].map_bits(), "{region:?}");
        }
    }
    // Fewer channels are the first ones of more.
    let one = fill(&source, Region { channels: 1, ..IMAGE }, 3);
    let six = fill(&source, Region { channels: 6, ..IMAGE }, 3);
    for (i, &value) in one.iter().enumerate() {
        assert_eq!(value.to_bits(), whole[i * 3].to_bits());
        assert_eq!(value.to_bits(), six[i * 6].to_bits());
    }
}

trait Bits {
    fn map_bits(&self) -> Vec<u32>;
}

impl Bits for [f32] {
    fn map_bits(&self) -> Vec<u32> {
        self.iter().map(|v| v.to_bits()).collect()
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let source = NoiseSource::new(1, "a");
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fill(&source, IMAGE, 0))
    };
    assert_eq!(with(1), with(3));
}

/// Pearson's correlation of two equally long lists of numbers of zero mean and unit variance.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() / a.len() as f64
}

#[test]
fn values_are_unit_normals_without_correlation() {
    let region = Region { height: 512, width: 512, ..IMAGE };
    let source = NoiseSource::new(2024, "statistics");
    let values = fill(&source, region, START);
    let count = values.len() as f64;
    let moment = |power: i32| values.iter().map(|&v| f64::from(v).powi(power)).sum::<f64>() / count;
    // Five standard errors each: of the mean 1, the variance 2, the third moment 15, the fourth 96, over the count.
    for (power, expected, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        let error = (moment(power) - expected).abs();
        assert!(error < 5.0 * (variance / count).sqrt(), "moment {power}: off by {error}");
    }
    let bound = 5.0 / count.sqrt();
    for lag in [1, 2, 3, 4, 512 * 3, 512 * 3 + 3] {
        let r = correlation(&values[lag..], &values[..values.len() - lag]);
        assert!(r.abs() < bound * 1.1, "lag {lag}: {r}");
    }
    let others = [
        fill(&source, region, 0),
        fill(&NoiseSource::new(2025, "statistics"), region, START),
        fill(&NoiseSource::new(2024, "statistics2"), region, START),
    ];
    for other in others {
        assert!(correlation(&values, &other).abs() < bound);
    }
    // Share of values beyond one, two and three standard deviations.
    for (sigma, share) in [(1.0, 0.317_311), (2.0, 0.045_500), (3.0, 0.002_700)] {
        let beyond = values.iter().filter(|v| v.abs() > sigma).count() as f64 / count;
        assert!((beyond - share).abs() < 5.0 * (share / count).sqrt(), "beyond {sigma}: {beyond}");
    }
}

#[test]
fn seed_and_key_are_kept_apart() {
    let first =
        |seed, key: &str| fill(&NoiseSource::new(seed, key), Region { height: 1, width: 1, ..IMAGE }, 0);
    let all = [first(0, ""), first(1, ""), first(0, "a"), first(0, "\0a"), first(97, ""), first(0, "a\0")];
    for (i, a) in all.iter().enumerate() {
        for b in &all[..i] {
            assert_ne!(a, b);
        }
    }
}

/// A pinned value: the noise of an item may never change between versions, or a resumed job would not match itself.
#[test]
fn the_first_values_stay_what_they_are() {
    let values = fill(&NoiseSource::new(0, "a.png"), Region { height: 1, width: 2, ..IMAGE }, START);
    assert_eq!(values.map_bits(), PINNED);
}

/// Written down from a second implementation of the same definition (Python: hashlib, big integers, math).
const PINNED: [u32; 6] = [0x3faa_4ba0, 0x3ed0_e8a4, 0x3f1c_f574, 0x4000_618d, 0x3f2a_486d, 0x3f20_f506];
