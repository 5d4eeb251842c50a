//! Lists what the simulated kernel exports: module, function, and the IRQLs at which it may be called.
//!
//! `cargo run -p ntsim --example exports`

use std::io::Write;

fn main() {
    let mut functions: Vec<_> = ntsim::exports::TABLES
        .iter()
        .flat_map(|table| table.iter())
        .map(|export| export.function)
        .collect();
    functions.sort_by_key(|f| (f.module, f.name));
    let mut out = std::io::stdout().lock();
    for f in functions {
        let line = writeln!(
            out,
            "{:<14} {:<44} IRQL {} to {}",
            f.module, f.name, f.min_irql, f.max_irql
        );
        // Whoever reads has had enough.
        if line.is_err() {
            return;
        }
    }
}
