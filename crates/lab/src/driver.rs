//! Which driver the simulated machines get.

use anyhow::{Context, Result};
use ntsim::DriverImage;

/// The linked driver, or the image in the file that the environment variable `NTSIM_IMAGE` names.
pub fn driver() -> Result<DriverImage> {
    DriverImage::linked_or_file(vroce::DriverEntry).context("NTSIM_IMAGE")
}

/// Which of the two it is.
///
/// # Errors
/// As [`driver`].
pub fn name() -> Result<String> {
    Ok(match driver()? {
        DriverImage::Linked(_) => "linked".to_owned(),
        DriverImage::File(image) => format!("image {}", image.name()),
    })
}
