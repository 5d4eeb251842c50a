//! Everything this crate declares is as the fact files say.

use crate::facts::*;
use std::path::Path;
use std::vec::Vec;

fn layouts() -> Vec<&'static Layout> {
    let lists: &[&'static [Layout]] = &[
        crate::adapter::LAYOUTS,
        crate::connector::LAYOUTS,
        crate::cq::LAYOUTS,
        crate::endpoint::LAYOUTS,
        crate::lam::LAYOUTS,
        crate::listener::LAYOUTS,
        crate::mr::LAYOUTS,
        crate::mw::LAYOUTS,
        crate::ndis::LAYOUTS,
        crate::object::LAYOUTS,
        crate::pd::LAYOUTS,
        crate::qp::LAYOUTS,
        crate::srq::LAYOUTS,
        crate::types::LAYOUTS,
        crate::adapter::TABLES,
        crate::connector::TABLES,
        crate::cq::TABLES,
        crate::endpoint::TABLES,
        crate::listener::TABLES,
        crate::mr::TABLES,
        crate::mw::TABLES,
        crate::pd::TABLES,
        crate::qp::TABLES,
        crate::srq::TABLES,
        crate::wsk::TABLES,
    ];
    lists.iter().copied().flatten().collect()
}

fn constants() -> Vec<&'static Constant> {
    let lists: &[&'static [Constant]] = &[
        crate::adapter::CONSTANTS,
        crate::cq::CONSTANTS,
        crate::mr::CONSTANTS,
        crate::ndis::CONSTANTS,
        crate::object::CONSTANTS,
        crate::qp::CONSTANTS,
        crate::status::CONSTANTS,
        crate::types::CONSTANTS,
        crate::wsk::CONSTANTS,
    ];
    lists.iter().copied().flatten().collect()
}

fn prototypes() -> Vec<&'static Prototype> {
    let lists: &[&'static [Prototype]] = &[
        crate::adapter::CALLBACKS,
        crate::callback::CALLBACKS,
        crate::connector::CALLBACKS,
        crate::cq::CALLBACKS,
        crate::endpoint::CALLBACKS,
        crate::lam::CALLBACKS,
        crate::listener::CALLBACKS,
        crate::mr::CALLBACKS,
        crate::mw::CALLBACKS,
        crate::ndis::CALLBACKS,
        crate::object::CALLBACKS,
        crate::pd::CALLBACKS,
        crate::qp::CALLBACKS,
        crate::srq::CALLBACKS,
        crate::wsk::CALLBACKS,
    ];
    lists.iter().copied().flatten().collect()
}

/// Structures and fields without a fact.
const LAYOUTS_WITHOUT_FACTS: &[Exception] = &[(
    "NDIS_NDK_PERFORMANCE_COUNTERS.Reserved",
    "twenty fields in C; the ones before and after are facts",
)];

/// Constants without a fact.
const CONSTANTS_WITHOUT_FACTS: &[Exception] = &[("STATUS_NO_MORE_ENTRIES", "[MS-ERREF], 2.3.1")];

/// Functions without a fact.
const PROTOTYPES_WITHOUT_FACTS: &[Exception] = &[];

/// Items that are not defined with the macros.
const OUTSIDE_THE_MACROS: &[Exception] = &[
    ("NDK_VERSION_1_1", "made of facts"),
    ("NDK_VERSION_1_2", "made of facts"),
    ("NDK_VERSION_2_1", "made of facts"),
    ("NDK_ADAPTER_INFO_SIZE_1_1", "made of facts"),
];

#[test]
fn structures_are_laid_out_as_the_facts_say() {
    check_layouts(
        &layouts(),
        include_str!("../data/layouts.tsv"),
        LAYOUTS_WITHOUT_FACTS,
    );
}

#[test]
fn constants_have_the_values_of_the_facts() {
    check_constants(
        &constants(),
        include_str!("../data/constants.tsv"),
        CONSTANTS_WITHOUT_FACTS,
    );
}

#[test]
fn functions_take_what_the_facts_say() {
    check_prototypes(
        &prototypes(),
        include_str!("../data/prototypes.tsv"),
        PROTOTYPES_WITHOUT_FACTS,
    );
}

#[test]
fn nothing_escapes_the_checks() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    check_nothing_is_left_out(
        &source,
        &layouts(),
        &constants(),
        &prototypes(),
        OUTSIDE_THE_MACROS,
    );
}
