//! The tables that the layer puts into objects are Windows's, slot for slot.

use crate::ndk::object::Kind;
use crate::ndk::tables::slots_of;

/// What the facts say; `tests/parity.rs` explains it.
const PARITY: &str = include_str!("../../../data/parity.tsv");

#[test]
fn every_slot_of_a_dispatch_table_is_where_windows_has_it() {
    for (kind, table) in [
        (Kind::Adapter, "NDK_ADAPTER_DISPATCH"),
        (Kind::Qp, "NDK_QP_DISPATCH"),
        (Kind::Cq, "NDK_CQ_DISPATCH"),
        (Kind::Mr, "NDK_MR_DISPATCH"),
        (Kind::Mw, "NDK_MW_DISPATCH"),
        (Kind::Pd, "NDK_PD_DISPATCH"),
        (Kind::SharedEndpoint, "NDK_SHARED_ENDPOINT_DISPATCH"),
        (Kind::Connector, "NDK_CONNECTOR_DISPATCH"),
        (Kind::Listener, "NDK_LISTENER_DISPATCH"),
        (Kind::Srq, "NDK_SRQ_DISPATCH"),
    ] {
        let row = PARITY
            .lines()
            .find_map(|row| row.strip_prefix(&format!("layout\t{table}\t\t")))
            .unwrap_or_else(|| panic!("parity.tsv has no {table}"));
        let mut cells = row.split('\t');
        let (size, fields) = (cells.next().unwrap(), cells.next().unwrap());
        let slots = slots_of(kind).0;
        let here: Vec<_> = slots
            .iter()
            .enumerate()
            .map(|(index, (name, _))| format!("{name}:{}+8", index * 8))
            .collect();
        assert_eq!(fields.split(' ').collect::<Vec<_>>(), here, "{table}");
        assert_eq!(size, (slots.len() * 8).to_string(), "{table}");
    }
}
