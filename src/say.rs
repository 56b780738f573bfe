//! Lines for standard output.

/// `println!` for a reader that may have gone: that a pipe is closed, as by `head`, is the reader's choice and no failure.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout().lock(), $($line)*);
    }};
}
