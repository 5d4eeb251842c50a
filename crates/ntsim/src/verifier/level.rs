//! How much is looked at.

use std::fmt;
use std::str::FromStr;

/// How much of what it could the verifier looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// What costs little: for benchmarks.
    Cheap,
    /// Everything. Besides that: what drivers allocate ends at a page that nobody may access (special pool), and so do freed blocks.
    #[default]
    Full,
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verify::Cheap => "cheap",
            Verify::Full => "full",
        })
    }
}

impl FromStr for Verify {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cheap" => Ok(Verify::Cheap),
            "full" => Ok(Verify::Full),
            _ => Err(format!("{text:?} is neither cheap nor full")),
        }
    }
}
