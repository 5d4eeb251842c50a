//! Links the driver image. On a host other than Windows there is nothing to do for the linked (test) build.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
