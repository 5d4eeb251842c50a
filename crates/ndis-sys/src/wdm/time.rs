//! Time units.

constants! {
    /// 100-nanosecond units, the kernel's unit of time, in a second.
    i64 {
        UNITS_PER_SECOND = 10_000_000;
    }
}
