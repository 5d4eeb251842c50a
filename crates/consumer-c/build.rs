//! Compiles the sources of `examples/consumer`, and `kernel.c`, for this machine, with gcc, clang, or what `CC` names.

fn main() {
    let sources = "../../examples/consumer";
    println!("cargo::rerun-if-changed={sources}");
    println!("cargo::rerun-if-changed=src/kernel.c");
    let mut build = cc::Build::new();
    build.file("src/kernel.c");
    for entry in std::fs::read_dir(sources).expect("the example is in the repository") {
        let path = entry.expect("a folder can be read").path();
        // Tables of control flow guard are for images.
        if path.extension().is_some_and(|e| e == "c") && !path.ends_with("guard.c") {
            build.file(path);
        }
    }
    build
        .include("../../examples/consumer/include")
        .std("c17")
        // As headers of Windows: no C library, strings with 16 bits a character, tags of four.
        .flag("-ffreestanding")
        .flag("-fshort-wchar")
        .flag("-Wno-multichar")
        // A callback without NTAPI would take its arguments from the wrong registers.
        .flag("-Werror=incompatible-pointer-types")
        // So that a report names functions and lines of C, however the tests are built.
        .debug(true)
        // Other drivers have an entry point, too.
        .define("DriverEntry", "ConsumerDriverEntry")
        .compile("consumer");
}
