//! The judge judged: a fake provider that breaks one rule at a time, and one that breaks none.

mod bench;
mod fake;
mod fake_tables;

mod consumers;
mod culprits;
mod guard;
mod history;
mod innocent;
mod late;
mod mappings;
mod overruns;
