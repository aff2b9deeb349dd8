//! The `coffer` binary.
#![deny(unsafe_code)]

mod wiping_allocator;

use std::process::ExitCode;

use mimalloc::MiMalloc;
use wiping_allocator::{WipingAllocator, wipe_on_this_thread};

/// Rows are many small allocations that one thread makes and another frees.
#[global_allocator]
static ALLOCATOR: WipingAllocator<MiMalloc> = WipingAllocator(MiMalloc);

fn main() -> ExitCode {
    // With huge pages the small allocations of a few rows hold 2 MiB each: memory far beyond the options.
    // Where the kernel does not know the call, nothing is lost but memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    #[cfg(feature = "test-plaintext")]
    if std::env::var("COFFER_TEST_PLAINTEXT").as_deref() == Ok("1") {
        coffer_crypto::danger::skip_sealing();
    }
    coffer_server::prepare_kms_threads(wipe_on_this_thread);
    coffer_server::run()
}
