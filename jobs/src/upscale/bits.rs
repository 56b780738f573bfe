//! Which bits results have: what convolutions are computed in, and the class of devices that all give the same.
//!
//! Where a job runs in one process its device decides. On a cluster a rule does, which knows the spec and what the connected
//! workers have, and never the machine that the coordinator happens to run on:
//!
//! | `device` | `dtype` | class |
//! |---|---|---|
//! | any, cpu | f32 | `f32`; for `any`, where no worker gives that, the class that most give |
//! | any, cpu | bf16 | the bf16 class that most workers give |
//! | any, cpu | auto | what every worker prefers, if they agree; `f32` otherwise |
//! | cuda | f32, auto | the GPUs' class that most workers give |
//!
//! It is spelt out in the order: workers that join later and give another class do not take its units.

use std::collections::BTreeMap;

use sr3_engine::{device::Device, ops::Isa};
use sr3_proto::Offer;

use super::{F32_CLASS, engine_models::precision};
use crate::{DeviceChoice, Dtype, Wish};

/// Which bits results have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    /// What convolutions are computed in: never `auto`.
    pub dtype: Dtype,
    /// Results of one class are the same, whoever computed them.
    pub class: String,
}

impl Default for Bits {
    /// Those that every CPU gives.
    fn default() -> Self {
        Self { dtype: Dtype::F32, class: F32_CLASS.to_string() }
    }
}

impl Bits {
    /// Those that `device` gives where `dtype` is asked for: of a process that works for itself.
    ///
    /// # Errors
    /// The device does not compute in that.
    pub fn here(device: Device, dtype: Dtype) -> Result<Self, String> {
        let dtype = if device == Device::Cpu { dtype } else { Dtype::F32 };
        let class = device.class(precision(dtype, Isa::detect())).map_err(|e| e.to_string())?;
        Ok(Self::of(&class))
    }

    /// Those of a class.
    fn of(class: &str) -> Self {
        let dtype = if class.starts_with("bf16/") { Dtype::Bf16 } else { Dtype::F32 };
        Self { dtype, class: class.to_string() }
    }

    /// What a wish comes to on a cluster whose connected workers have `offers`.
    ///
    /// # Errors
    /// No connected worker can; what to do.
    pub fn decide(wish: &Wish, offers: &[Offer]) -> Result<Self, String> {
        let most = |is_it: fn(&str) -> bool| {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for class in offers.iter().flat_map(|offer| &offer.classes).filter(|class| is_it(class)) {
                *counts.entry(class).or_default() += 1;
            }
            // Of two that as many give, the one that sorts first.
            counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(class, _)| Self::of(class))
        };
        let is_bf16 = |class: &str| class.starts_with("bf16/");
        let is_gpu = |class: &str| class.starts_with("cuda/");
        match (wish.device, wish.dtype) {
            (DeviceChoice::Cuda, Dtype::Bf16) => {
                Err("GPUs compute in f32 alone: leave `dtype` or `device` out".to_string())
            }
            (DeviceChoice::Cuda, Dtype::F32 | Dtype::Auto) => most(is_gpu).ok_or_else(|| {
                "no connected worker has an NVIDIA GPU: start one with `sr3 worker --device cuda`, or leave `device` out"
                    .to_string()
            }),
            (_, Dtype::Bf16) => most(is_bf16).ok_or_else(|| {
                "no connected worker computes in bf16: start workers first, or leave `dtype` out".to_string()
            }),
            (DeviceChoice::Any, Dtype::F32)
                if !offers.is_empty()
                    && offers.iter().all(|offer| offer.classes.iter().all(|class| class != F32_CLASS)) =>
            {
                most(|class| !class.starts_with("bf16/"))
                    .ok_or_else(|| "no connected worker computes anything".to_string())
            }
            (_, Dtype::F32) => Ok(Self::default()),
            (choice, Dtype::Auto) => {
                let cpus = offers.iter().filter(|offer| choice == DeviceChoice::Any || gives_f32(offer));
                let mut preferred = cpus.map(|offer| offer.classes.first());
                match preferred.next().flatten() {
                    Some(first) if preferred.all(|other| other == Some(first)) => Ok(Self::of(first)),
                    _ => Ok(Self::default()),
                }
            }
        }
    }
}

fn gives_f32(offer: &Offer) -> bool {
    offer.classes.iter().any(|class| class == F32_CLASS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(classes: &[&[&str]]) -> Vec<Offer> {
        let offer = |classes: &&[&str]| Offer {
            classes: classes.iter().map(ToString::to_string).collect(),
            ..Offer::default()
        };
        classes.iter().map(offer).collect()
    }

    fn decide(device: DeviceChoice, dtype: Dtype, classes: &[&[&str]]) -> Result<String, String> {
        let wish = Wish { device, dtype, ..Wish::default() };
        Bits::decide(&wish, &offers(classes)).map(|bits| bits.class)
    }

    const OLD: &[&str] = &["f32", "bf16/avx2"];
    const NEW: &[&str] = &["bf16/avx512-bf16", "f32"];
    const GPU: &[&str] = &["cuda/sm_90/f32"];

    #[test]
    fn f32_is_f32_whoever_is_there_but_where_nobody_gives_it() {
        use DeviceChoice::{Any, Cpu};
        for there in [&[][..], &[OLD], &[GPU, OLD]] {
            assert_eq!(decide(Any, Dtype::F32, there).unwrap(), "f32");
        }
        assert_eq!(decide(Any, Dtype::F32, &[GPU]).unwrap(), "cuda/sm_90/f32");
        assert_eq!(decide(Cpu, Dtype::F32, &[GPU]).unwrap(), "f32", "it waits for a CPU");
    }

    #[test]
    fn auto_is_what_all_prefer() {
        use DeviceChoice::{Any, Cpu};
        assert_eq!(decide(Any, Dtype::Auto, &[NEW, NEW]).unwrap(), "bf16/avx512-bf16");
        assert_eq!(decide(Any, Dtype::Auto, &[NEW, OLD]).unwrap(), "f32");
        assert_eq!(decide(Any, Dtype::Auto, &[]).unwrap(), "f32");
        assert_eq!(decide(Cpu, Dtype::Auto, &[NEW, GPU]).unwrap(), "bf16/avx512-bf16");
        assert_eq!(decide(Any, Dtype::Auto, &[GPU]).unwrap(), "cuda/sm_90/f32");
    }

    #[test]
    fn what_nobody_can_is_refused_with_the_way_out() {
        use DeviceChoice::{Any, Cuda};
        assert_eq!(decide(Any, Dtype::Bf16, &[NEW, OLD, OLD]).unwrap(), "bf16/avx2");
        assert!(decide(Any, Dtype::Bf16, &[]).unwrap_err().contains("start workers first"));
        assert_eq!(decide(Cuda, Dtype::Auto, &[OLD, GPU]).unwrap(), "cuda/sm_90/f32");
        assert!(decide(Cuda, Dtype::F32, &[OLD]).unwrap_err().contains("--device cuda"));
        assert!(decide(Cuda, Dtype::Bf16, &[GPU]).is_err());
    }
}
