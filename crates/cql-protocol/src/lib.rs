//! CQL native protocol v4 frames: bytes to requests, responses to bytes.
