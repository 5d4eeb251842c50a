//! Links the driver.
//!
//! For Windows there are two ways. Where the WDK is (a Windows host, feature `wdk`), the official build support links the driver; that
//! is the `wdk` backend. Anywhere else a cross-built image needs no WDK: the kernel's functions are raw-dylib imports, and the
//! arguments below make a kernel-mode image of the cdylib. For any other target there is nothing to do: the library is linked into
//! tests and tools.
//!
//! The official build support compiles on Windows only. `cargo xtask check-wdk` puts a stand-in in its place and sets the cfg
//! `wdk_stand_in`, so that the first way is compiled, and run, elsewhere too.

#[cfg(not(all(feature = "wdk", any(windows, wdk_stand_in))))]
#[path = "build/image.rs"]
mod image;
#[path = "build/version.rs"]
mod version;

use std::error::Error;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build/image.rs");
    println!("cargo:rerun-if-changed=build/version.rs");
    println!("cargo:rustc-check-cfg=cfg(vroce_wdk)");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("windows") {
        return;
    }
    if let Err(error) = link() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

/// Tells cargo how to link an image.
fn link() -> Result<(), Box<dyn Error>> {
    #[cfg(all(feature = "wdk", any(windows, wdk_stand_in)))]
    {
        println!("cargo:rustc-cfg=vroce_wdk");
        wdk_build::configure_wdk_binary_build()?;
    }
    #[cfg(not(all(feature = "wdk", any(windows, wdk_stand_in))))]
    for argument in image::IMAGE {
        println!("cargo:rustc-link-arg-cdylib={argument}");
    }
    let version = version_resource()?;
    println!("cargo:rustc-link-arg-cdylib={version}");
    Ok(())
}

/// Writes the version resource. Gives the path.
fn version_resource() -> std::io::Result<String> {
    let out = std::env::var("OUT_DIR").map_err(std::io::Error::other)?;
    let text = env!("CARGO_PKG_VERSION");
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    let version = [(); 4].map(|()| parts.next().unwrap_or(0));
    let resource = version::resource(
        version,
        &[
            ("CompanyName", "The vroce authors"),
            ("FileDescription", env!("CARGO_PKG_DESCRIPTION")),
            ("FileVersion", text),
            ("InternalName", "vroce.sys"),
            (
                "LegalCopyright",
                concat!("Licensed under ", env!("CARGO_PKG_LICENSE")),
            ),
            ("OriginalFilename", "vroce.sys"),
            ("ProductName", "vroce"),
            ("ProductVersion", text),
        ],
    );
    let path = Path::new(&out).join("version.res");
    std::fs::write(&path, resource)?;
    Ok(path.display().to_string())
}
