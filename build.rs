//! Links the driver.
//!
//! For Windows there are two ways. Where the WDK is (a Windows host, feature `wdk`), the official build support links the driver; that
//! is the `wdk` backend. Anywhere else a cross-built image needs no WDK: the kernel's functions are raw-dylib imports, and the
//! arguments below make a kernel-mode image of the cdylib. For any other target there is nothing to do: the library is linked into
//! tests and tools.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(vroce_wdk)");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("windows") {
        return;
    }
    if cfg!(windows) && std::env::var_os("CARGO_FEATURE_WDK").is_some() {
        println!("cargo:rustc-cfg=vroce_wdk");
        with_wdk();
    } else {
        for argument in IMAGE {
            println!("cargo:rustc-link-arg-cdylib={argument}");
        }
    }
}

/// How a driver is linked without the WDK (link.exe and lld-link alike).
const IMAGE: [&str; 14] = [
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

#[cfg(windows)]
fn with_wdk() {
    if let Err(error) = wdk_build::configure_wdk_binary_build() {
        println!("cargo:warning=the WDK's build support refuses: {error}");
        std::process::exit(1);
    }
}

#[cfg(not(windows))]
fn with_wdk() {}
