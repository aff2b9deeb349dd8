//! The bound on nesting, which keeps hostile statements off the stack.

/// How deep literals, types, parentheses and chained operators may nest.
///
/// Chains count as well, for `1 + 1 + 1` is a tree as deep as it is long. The tree is walked recursively, here and when
/// it is dropped; at this depth a walk stays far below a thread's stack.
pub const MAXIMUM_DEPTH: u16 = 128;
