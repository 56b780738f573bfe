//! One module per sub-command: arguments in, an [`Ending`](crate::exit::Ending) out.

pub mod upscale;
