//! Links the image as the driver's is linked.

#[path = "../../build/image.rs"]
mod image;

fn main() {
    println!("cargo:rerun-if-changed=../../build/image.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("windows") {
        for argument in image::IMAGE {
            println!("cargo:rustc-link-arg-cdylib={argument}");
        }
    }
}
