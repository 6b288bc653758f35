//! AES-256-XTS of AWS-LC.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use aws_lc_sys::{
    ERR_clear_error, EVP_CIPHER_CTX, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new, EVP_CipherInit_ex,
    EVP_CipherUpdate, EVP_aes_256_xts,
};

/// Which way a context goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Decrypt = 0,
    Encrypt = 1,
}

/// AES-256-XTS under one key in one direction. The library wipes the key when it is freed.
pub(super) struct Context {
    raw: NonNull<EVP_CIPHER_CTX>,
    direction: Direction,
}

// SAFETY: the context is owned by this value alone and has nothing that belongs to a thread.
unsafe impl Send for Context {}

impl Context {
    /// A context, unless the library refuses the key, as it does two equal halves.
    pub(super) fn new(key: &[u8; 64], direction: Direction) -> Option<Context> {
        // SAFETY: takes nothing, gives a context of ours or null.
        let raw = NonNull::new(unsafe { EVP_CIPHER_CTX_new() })?;
        let context = Context { raw, direction };
        // SAFETY: the context is valid and ours; the cipher is static; the key has the 64 bytes that this cipher reads;
        // a null vector means that it comes later.
        let ready = unsafe {
            EVP_CipherInit_ex(
                raw.as_ptr(),
                EVP_aes_256_xts(),
                ptr::null_mut(),
                key.as_ptr(),
                ptr::null(),
                direction as c_int,
            )
        };
        if ready == 1 {
            return Some(context);
        }
        // SAFETY: takes nothing; empties this thread's queue of errors, which nobody reads.
        unsafe { ERR_clear_error() };
        None
    }

    /// One sector under `iv`, in place. Whether it was done.
    pub(super) fn sector(&mut self, iv: &[u8; 16], data: &mut [u8]) -> bool {
        let pointer = data.as_mut_ptr();
        // SAFETY: `pointer` is valid for reads and writes of `data.len()` bytes; the library takes source and target that
        // are the same.
        unsafe { self.run(iv, pointer.cast_const(), pointer, data.len()) }
    }

    /// One sector under `iv` from `source` to `target`, which are as long. Whether it was done.
    pub(super) fn sector_to(&mut self, iv: &[u8; 16], source: &[u8], target: &mut [u8]) -> bool {
        // SAFETY: `target` is valid for writes of as many bytes as `source` is for reads, which is compared here first,
        // and the two don't overlap.
        source.len() == target.len()
            && unsafe { self.run(iv, source.as_ptr(), target.as_mut_ptr(), source.len()) }
    }

    /// # Safety
    ///
    /// `source` must be valid for reads of `len` bytes, `target` for writes; they are the same or don't overlap.
    unsafe fn run(&mut self, iv: &[u8; 16], source: *const u8, target: *mut u8, len: usize) -> bool {
        let Ok(len) = c_int::try_from(len) else { return false };
        let mut done: c_int = 0;
        // SAFETY: the context is valid, ours, and has its key; null cipher and key keep what it has; the vector has the 16
        // bytes that this cipher reads; source and target are as the caller promises, and the library writes `len` bytes,
        // since this cipher has no padding.
        let fine = unsafe {
            EVP_CipherInit_ex(
                self.raw.as_ptr(),
                ptr::null(),
                ptr::null_mut(),
                ptr::null(),
                iv.as_ptr(),
                self.direction as c_int,
            ) == 1
                && EVP_CipherUpdate(self.raw.as_ptr(), target, &raw mut done, source, len) == 1
        };
        fine && done == len
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context came from EVP_CIPHER_CTX_new and is freed once.
        unsafe { EVP_CIPHER_CTX_free(self.raw.as_ptr()) };
    }
}
