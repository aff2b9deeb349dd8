//! 32 secret bytes: at one address in memory that is locked and not dumped, wiped when dropped, never
//! copied or printed.

use crate::{Error, Result, random::fill_random};
#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use parking_lot::Mutex;
use zeroize::{Zeroize, Zeroizing};

/// Length of every key in bytes.
pub(crate) const KEY_LEN: usize = 32;

/// Keys that one piece of locked memory holds.
const SLOTS_PER_PIECE: usize = 2_048;

/// Bytes of stack that ciphers and hashes use for their own copies of a key, with room to spare.
const TRACE_LEN: usize = 16 * 1024;

type Slot = &'static mut [u8; KEY_LEN];

/// Places for keys that nobody uses now; all zeros. Pieces of memory are kept for the life of the
/// process, and there are as many as were ever needed at once.
static FREE: Mutex<Vec<Slot>> = Mutex::new(Vec::new());

/// The bytes of one key. Neither `Clone` nor `Debug`, so they leave this crate only on purpose.
pub(crate) struct Secret(Option<Slot>);

impl Secret {
    pub(crate) fn generate() -> Result<Self> {
        let mut secret = Self::zeros();
        fill_random(secret.bytes_mut())?;
        Ok(secret)
    }

    pub(crate) fn from_slice(bytes: &[u8]) -> Result<Self> {
        let bytes = bytes.try_into().map_err(|_| Error::Malformed { what: "key" })?;
        Ok(Self::from_array(bytes))
    }

    pub(crate) fn from_array(bytes: &[u8; KEY_LEN]) -> Self {
        let mut secret = Self::zeros();
        secret.bytes_mut().copy_from_slice(bytes);
        secret
    }

    /// Another owner of the same bytes, for the few places inside this crate that need one.
    pub(crate) fn duplicate(&self) -> Self {
        Self::from_array(self.bytes())
    }

    #[expect(clippy::expect_used, reason = "a key of zeros must never be used instead")]
    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        self.0.as_deref().expect("only drop takes the bytes away")
    }

    #[expect(clippy::expect_used, reason = "a key of zeros must never be used instead")]
    fn bytes_mut(&mut self) -> &mut [u8; KEY_LEN] {
        self.0.as_deref_mut().expect("only drop takes the bytes away")
    }

    fn zeros() -> Self {
        let mut free = FREE.lock();
        if free.is_empty() {
            free.extend(new_piece());
        }
        let slot = free.pop();
        drop(free);
        // a piece is never empty; the heap is as good a place as any other for one key
        Self(Some(slot.unwrap_or_else(|| Box::leak(Box::new([0; KEY_LEN])))))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.zeroize();
            FREE.lock().push(slot);
        }
    }
}

/// Memory for keys: locked, so that it is not swapped out, where the limit of the process allows; left
/// out of core dumps.
fn new_piece() -> impl Iterator<Item = Slot> {
    let len = SLOTS_PER_PIECE * KEY_LEN;
    let bytes: &'static mut [u8] = match MmapMut::map_anon(len) {
        Ok(map) => {
            // both are a second line of defence: swap may be off, and dumps are forbidden as a whole
            let _ = map.lock();
            #[cfg(target_os = "linux")]
            let _ = map.advise(Advice::DontDump);
            let map: &'static mut MmapMut = Box::leak(Box::new(map));
            map
        }
        // no memory to map, the allocator may have some left
        Err(_) => Box::leak(vec![0; len].into_boxed_slice()),
    };
    bytes.as_chunks_mut().0.iter_mut()
}

/// Runs `work`, which makes copies of a key on the stack (round keys, padded blocks), and overwrites
/// the stack it used.
#[inline(never)]
pub(crate) fn without_trace<T>(work: impl FnOnce() -> T) -> T {
    let result = on_deeper_stack(work);
    overwrite_stack();
    result
}

#[inline(never)]
fn on_deeper_stack<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite_stack() {
    let mut used = Zeroizing::new([0_u8; TRACE_LEN]);
    used.zeroize();
    std::hint::black_box(&*used);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Locked` and the flags of the mapping that holds the secret, as the kernel shows them.
    #[cfg(target_os = "linux")]
    fn mapping(secret: &Secret) -> String {
        let address = secret.bytes().as_ptr() as u64;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds = |line: &str| {
            let range = line.split(' ').next()?;
            let (start, end) = range.split_once('-')?;
            let start = u64::from_str_radix(start, 16).ok()?;
            let end = u64::from_str_radix(end, 16).ok()?;
            Some((start..end).contains(&address))
        };
        let lines = maps.lines().skip_while(|line| holds(line) != Some(true));
        lines.take_while(|line| !line.is_empty()).take(40).collect::<Vec<_>>().join("\n")
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn secrets_are_locked_and_not_in_core_dumps() {
        let secret = Secret::generate().unwrap();
        let mapping = mapping(&secret);
        let flags = mapping.lines().find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
        let is_locked = flags.split(' ').any(|flag| flag == "lo");
        let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
        let allows = limit.is_none_or(|limit| limit >= (SLOTS_PER_PIECE * KEY_LEN) as u64);
        assert!(is_locked || !allows, "{flags}");
    }

    #[test]
    fn a_dropped_secret_leaves_zeros_and_its_place_is_used_again() {
        let secret = Secret::from_array(&[0xAB; KEY_LEN]);
        drop(secret);
        let many: Vec<Secret> = (0..2 * SLOTS_PER_PIECE).map(|_| Secret::zeros()).collect();
        assert!(many.iter().all(|secret| *secret.bytes() == [0; KEY_LEN]));
        let mut places: Vec<_> = many.iter().map(|secret| secret.bytes().as_ptr()).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), many.len(), "no two share a place");
        drop(many);
        let free = FREE.lock().len();
        drop(Secret::generate().unwrap());
        assert!(FREE.lock().len() >= free.min(2 * SLOTS_PER_PIECE));
    }

    /// Compiles only when none of `$kind` has the trait: else there are two candidates for the function.
    macro_rules! none_has {
        ($bound:path: $($kind:ty),+) => {{
            trait IsAbsent<Marker> {
                fn check() {}
            }
            struct Present;
            impl<T: ?Sized> IsAbsent<()> for T {}
            impl<T: ?Sized + $bound> IsAbsent<Present> for T {}
            $(<$kind as IsAbsent<_>>::check();)+
        }};
    }

    #[test]
    fn no_type_with_key_bytes_can_be_copied_or_written_down() {
        use crate::{DataKey, NewDataKey, Opener, RootKey, Sealer, TableKey, WrappingKey};
        none_has!(Clone: Secret, DataKey, NewDataKey, Opener, RootKey, Sealer, TableKey, WrappingKey);
        none_has!(serde::Serialize: Secret, DataKey, NewDataKey, RootKey, TableKey, WrappingKey);
        // those two print their public id
        none_has!(std::fmt::Debug: Secret, DataKey, NewDataKey, Opener, Sealer, WrappingKey);
        none_has!(std::fmt::Display: Secret, DataKey, NewDataKey, RootKey, TableKey, WrappingKey);
    }
}
