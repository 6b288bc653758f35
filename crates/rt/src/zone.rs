//! Local time, as the C library knows it from `TZ` and the system's settings.

/// Seconds by which local time is ahead of UTC at a moment, in seconds since the beginning of 1970.
pub fn local_offset(seconds: i64) -> i64 {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are valid during the call.
    let filled = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if filled.is_null() {
        return 0;
    }
    // SAFETY: `localtime_r` has filled what it returns a pointer to.
    unsafe { parts.assume_init() }.tm_gmtoff
}
