//! The key hierarchy: KMS providers, table keys, the key swap.
