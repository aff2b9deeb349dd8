//! AES-256-GCM sealing of data and wrapping of keys; home of every type that holds key bytes.
