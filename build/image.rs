//! Arguments of the linker that make a kernel-mode image of a cdylib.

/// How a driver is linked without the WDK (link.exe and lld-link alike).
pub const IMAGE: [&str; 14] = [
    "/DRIVER",
    "/SUBSYSTEM:NATIVE,10.00",
    "/ENTRY:DriverEntry",
    "/NODEFAULTLIB",
    "/MANIFEST:NO",
    // Nothing but the entry point is anybody's business.
    "/NOEXP",
    "/NOIMPLIB",
    "/DYNAMICBASE",
    "/HIGHENTROPYVA",
    "/NXCOMPAT",
    // A checksum, which the kernel's loader verifies for drivers.
    "/RELEASE",
    "/OPT:REF",
    "/OPT:ICF",
    "/INCREMENTAL:NO",
];
