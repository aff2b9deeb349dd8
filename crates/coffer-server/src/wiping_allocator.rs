//! An allocator that overwrites what some threads free.
//!
//! Keys that come from a KMS over the network pass through buffers of code that is not ours: TLS,
//! HTTP, JSON, base64. Such code frees them as they are. On the threads that make these calls, and on
//! those that serve them, every block is overwritten before it goes back to the allocator inside.

use std::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
};

thread_local! {
    // const and without a destructor: reading it allocates nothing, at any time of a thread's life
    static WIPES: Cell<bool> = const { Cell::new(false) };
}

/// From now on whatever this thread frees is overwritten first.
pub(crate) fn wipe_on_this_thread() {
    WIPES.set(true);
}

/// `A`, with wiping on the threads that asked for it.
pub(crate) struct WipingAllocator<A>(pub(crate) A);

// SAFETY: every block comes from `A` and goes back to `A` with the layout it was made with; what is
// written before that lies inside the block, which nobody else may use any more.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for WipingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one `A` asks for
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WIPES.get() {
            // SAFETY: the block has `layout.size()` bytes, and is the caller's until it is freed below
            unsafe { wipe(block, layout.size()) };
        }
        // SAFETY: the caller's promise about `block` and `layout` is the one `A` asks for
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !WIPES.get() {
            // SAFETY: the caller's promise about the arguments is the one `A` asks for
            return unsafe { self.0.realloc(block, layout, new_size) };
        }
        // SAFETY: the caller promises that `new_size` fits the alignment
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the caller promises that `new_size` is not zero
        let new = unsafe { self.0.alloc(new_layout) };
        if !new.is_null() {
            let kept = layout.size().min(new_size);
            // SAFETY: both blocks have `kept` bytes, and a new block overlaps no other
            unsafe { new.copy_from_nonoverlapping(block, kept) };
            // SAFETY: the old block is not used after a realloc that gave another
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Overwrites `len` bytes in a way that is not optimised away.
///
/// # Safety
/// `block` must be valid for writes of `len` bytes.
#[expect(unsafe_code, reason = "writes to a block that is about to be freed")]
unsafe fn wipe(block: *mut u8, len: usize) {
    for offset in 0..len {
        // SAFETY: `offset` is below `len`
        let byte = unsafe { block.add(offset) };
        // SAFETY: as above
        unsafe { byte.write_volatile(0) };
    }
}
