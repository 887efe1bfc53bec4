//! Memory by whole words.
//!
//! The BPF target has no `memset` and no `memmove`: where the compiler cannot write stores of its own it calls a loop over
//! bytes, five instructions for each. Every packet would pay for that, and so would the start of a trace, for the
//! verifier walks each round of such a loop. Volatile, or the compiler would make the calls of these as well.

const WORD: usize = size_of::<u64>();

/// Writes zeros.
///
/// # Safety
/// `to` must be valid for writes and aligned to a word.
#[inline(always)]
pub unsafe fn zero<T>(to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(WORD)) };
    let to: *mut u64 = to.cast();
    for n in 0..size_of::<T>() / WORD {
        // SAFETY: the caller's promise.
        unsafe { to.add(n).write_volatile(0) };
    }
}

/// Copies a value without padding.
///
/// # Safety
/// `to` must be valid for writes and, as `from`, aligned to a word.
#[inline(always)]
pub unsafe fn copy<T: Copy>(from: &T, to: *mut T) {
    const { assert!(size_of::<T>().is_multiple_of(WORD)) };
    let (from, to): (*const u64, *mut u64) = ((&raw const *from).cast(), to.cast());
    for n in 0..size_of::<T>() / WORD {
        // SAFETY: the caller's promise.
        unsafe { to.add(n).write_volatile(from.add(n).read_volatile()) };
    }
}

/// Writes the v4-mapped form of an IPv4 address.
///
/// # Safety
/// `to` must be valid for writes and aligned to half a word.
#[inline(always)]
pub unsafe fn mapped(v4: [u8; 4], to: *mut [u8; 16]) {
    let to: *mut u32 = to.cast();
    let marker = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
    for (n, part) in [0, 0, marker, u32::from_ne_bytes(v4)]
        .into_iter()
        .enumerate()
    {
        // SAFETY: the caller's promise.
        unsafe { to.add(n).write_volatile(part) };
    }
}
