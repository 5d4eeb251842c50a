//! Why an image cannot be loaded.

use std::fmt;

/// Why an image cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageError {
    /// The file cannot be read.
    Read(String),
    /// The file is no image, or a damaged one.
    Malformed(String),
    /// The image is not what the kernel's loader takes for a driver.
    Unfit(String),
    /// Imports that no module of the kernel exports: `module!function`.
    Imports(Vec<String>),
    /// The machine's memory is used up.
    NoMemory,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(why) => write!(f, "cannot read the image: {why}"),
            Self::Malformed(what) => write!(f, "not an image: {what}"),
            Self::Unfit(what) => write!(f, "not a driver's image: {what}"),
            Self::Imports(missing) => write!(
                f,
                "it imports what the simulated kernel does not have: {} (`cargo run -p ntsim --example exports` lists what it has)",
                missing.join(", ")
            ),
            Self::NoMemory => f.write_str("no memory for the image"),
        }
    }
}

impl std::error::Error for ImageError {}

impl From<object::read::Error> for ImageError {
    fn from(error: object::read::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}
