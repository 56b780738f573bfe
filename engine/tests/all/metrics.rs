//! PSNR, SSIM and consistency against scikit-image, MATLAB's formulas and PIL.

use crate::common::fixture;
use serde_json::Value;
use sr3_engine::image::{DecodeLimits, Samples, decode};
use sr3_engine::metrics::{Channels, MetricError, Picture, Reduction, consistency, psnr, ssim};

fn picture(name: &Value) -> (usize, usize, Vec<u8>) {
    let bytes = std::fs::read(fixture("metrics").join(name.as_str().unwrap())).unwrap();
    let picture = decode(&bytes, &DecodeLimits::default()).unwrap().picture;
    let Samples::U8(samples) = picture.samples else { panic!("{name} has 16 bits") };
    (picture.width, picture.height, samples)
}

#[test]
fn every_number_of_the_fixture_is_met() {
    let json: Value = serde_json::from_slice(&std::fs::read(fixture("metrics.json")).unwrap()).unwrap();
    let pairs = json["pairs"].as_object().unwrap();
    assert_eq!(pairs.len(), 4);
    for (pair, numbers) in pairs {
        let loaded = ["output", "reference", "low_res"].map(|role| picture(&numbers[role]));
        let [output, reference, low_res] =
            loaded.each_ref().map(|(width, height, rgb)| Picture::new(*width, *height, rgb).unwrap());
        for (key, channels, border) in [
            ("psnr_rgb", Channels::Rgb, 0),
            ("psnr_rgb_border4", Channels::Rgb, 4),
            ("psnr_y", Channels::Luma, 0),
            ("psnr_y_border4", Channels::Luma, 4),
            ("psnr_y_rounded_border4", Channels::LumaRounded, 4),
        ] {
            let ours = psnr(output, reference, channels, border).unwrap();
            match numbers[key].as_f64() {
                Some(theirs) => assert!((ours - theirs).abs() <= 1e-6, "{pair} {key}: {ours} {theirs}"),
                None => assert_eq!(ours, f64::INFINITY, "{pair} {key}"),
            }
        }
        for (key, channels, border) in [
            ("ssim_rgb", Channels::Rgb, 0),
            ("ssim_rgb_border4", Channels::Rgb, 4),
            ("ssim_y", Channels::Luma, 0),
            ("ssim_y_border4", Channels::Luma, 4),
        ] {
            let ours = ssim(output, reference, channels, border).unwrap();
            let theirs = numbers[key].as_f64().unwrap();
            assert!((ours - theirs).abs() <= 1e-7, "{pair} {key}: {ours} {theirs}");
        }
        for (key, reduction) in [
            ("consistency_mse", Reduction::Float),
            ("consistency_mse_clipped", Reduction::Clipped),
            ("consistency_mse_8bit", Reduction::EightBit),
        ] {
            let ours = consistency(output, low_res, reduction).unwrap();
            let theirs = numbers[key].as_f64().unwrap();
            assert!((ours - theirs).abs() <= 1e-6 * theirs, "{pair} {key}: {ours} {theirs}");
        }
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let pixels = vec![0; 12 * 10 * 3];
    assert!(matches!(Picture::new(11, 10, &pixels), Err(MetricError::Length { .. })));
    assert!(matches!(Picture::new(usize::MAX, 2, &pixels), Err(MetricError::Length { .. })));
    let (wide, tall) = (Picture::new(12, 10, &pixels).unwrap(), Picture::new(10, 12, &pixels).unwrap());
    assert!(matches!(psnr(wide, tall, Channels::Rgb, 0), Err(MetricError::SizesDiffer { .. })));
    assert!(matches!(psnr(wide, wide, Channels::Rgb, 5), Err(MetricError::TooSmall { needed: 11, .. })));
    assert!(matches!(ssim(wide, wide, Channels::Luma, 0), Err(MetricError::TooSmall { needed: 11, .. })));
    let empty = Picture::new(0, 0, &[]).unwrap();
    assert!(matches!(consistency(empty, wide, Reduction::Float), Err(MetricError::TooSmall { .. })));
}
