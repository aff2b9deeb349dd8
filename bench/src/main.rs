//! Load generator and micro benches.
fn main() {}
