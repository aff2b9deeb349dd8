//! The `coffer` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Rows are many small allocations that one thread makes and another frees.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "test-plaintext")]
    if std::env::var("COFFER_TEST_PLAINTEXT").as_deref() == Ok("1") {
        coffer_crypto::danger::skip_sealing();
    }
    coffer_server::run()
}
