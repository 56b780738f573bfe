//! sr3
fn main() {}
