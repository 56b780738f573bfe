//! Pictures as files: decoding and encoding with everything that belongs to them (depth, alpha, profile, EXIF).
