//! What a training spec chooses among: words, each with what it stands for, the default first named as such.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }
    };
}

names! {
    /// Which square of a picture.
    CropName {
        /// The largest in the middle.
        #[default] Centre,
        /// Anywhere.
        Random,
    }
}
names! {
    /// How it may be turned.
    OrientationsName {
        /// Not.
        One,
        /// Mirrored or not.
        #[default] Flip,
        /// By quarter turns as well.
        Eight,
    }
}
names! {
    /// What a label is.
    LabelsName {
        /// The name of the folder that a picture lies in.
        #[default] Folders,
        /// The text of the `.cls` beside it, in its shard or folder.
        Cls,
        /// What the source's `metadata.jsonl` says.
        List,
    }
}
names! {
    /// What is predicted.
    ObjectiveName {
        /// The noise.
        #[default] Noise,
        /// x_0.
        Image,
        /// Of both, some.
        V,
        /// The image, from the small one alone.
        Regression,
    }
}
names! {
    /// What is denoised.
    TargetName {
        /// The image.
        #[default] Image,
        /// Its difference from the enlarged input.
        Residual,
    }
}
names! {
    /// How far a prediction is off.
    LossName {
        /// Mean absolute error.
        #[default] L1,
        /// Mean squared error.
        L2,
    }
}
names! {
    /// What is uniform between timesteps.
    LevelDrawName {
        /// alphas_cumprod.
        #[default] Gamma,
        /// Its root.
        NoiseLevel,
    }
}
names! {
    /// How the learning rate falls.
    DecayName {
        /// Not.
        #[default] Constant,
        /// As half a cosine.
        Cosine,
        /// Evenly.
        Linear,
    }
}
names! {
    /// What gradients are summed up in.
    GradientsName {
        /// 32 bits.
        #[default] F32,
        /// 16 bits: every sum is rounded.
        Bf16,
    }
}
