//! What build scripts call of `wdk-build`, with its signatures. It finds no WDK and sets nothing for the linker: all it does is to tell
//! the crates that the driver is a plain one, as the real one does after reading `package.metadata.wdk`.

use std::fmt;

/// Why a build cannot be configured.
#[derive(Debug)]
pub enum ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for ConfigError {}

/// Of a library that depends on the WDK.
pub fn configure_wdk_library_build() -> Result<(), ConfigError> {
    println!(
        "cargo::rustc-check-cfg=cfg(driver_model__driver_type, values(\"WDM\",\"KMDF\",\"UMDF\"))"
    );
    println!("cargo::rustc-cfg=driver_model__driver_type=\"WDM\"");
    Ok(())
}

/// Of a driver.
pub fn configure_wdk_binary_build() -> Result<(), ConfigError> {
    configure_wdk_library_build()
}
