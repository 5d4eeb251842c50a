//! What instructions an image has: none that a driver may not use.

use super::names::Names;
use super::pe::Pe;
use super::{Finding, Seen, X64_ONLY};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, Register};
use object::LittleEndian as LE;
use object::pe::IMAGE_FILE_MACHINE_AMD64;
use object::read::pe::ImageNtHeaders;
use std::collections::{BTreeMap, BTreeSet};

/// What every x64 processor has.
const BASE: [CpuidFeature; 11] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::CPUID,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
];

/// What the checksum uses where it has found it at run time, and nobody else.
const FOUND_AT_RUN_TIME: [CpuidFeature; 3] = [
    CpuidFeature::PCLMULQDQ,
    CpuidFeature::SSSE3,
    CpuidFeature::SSE4_1,
];

/// What the names of the functions begin with that have them (`crates/crc32`).
const CHECKSUM: &str = "vroce_crc32::pclmul::";

/// Looks at the instructions of all functions, those without unwind information included: at every byte that may be executed but the
/// `int3` between functions.
pub fn look(image: &Pe<'_>, names: &Names) -> Finding {
    let what = "instructions";
    if image.headers().file_header().machine.get(LE) != IMAGE_FILE_MACHINE_AMD64 {
        return Finding {
            what,
            seen: Seen::Nothing(X64_ONLY),
        };
    }
    let (functions, gaps) = (image.functions(), image.gaps());
    let leaves: u32 = gaps.iter().map(|gap| gap.end - gap.start).sum();
    let mut count = 0usize;
    let mut wrong: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    let mut features = BTreeSet::new();
    let pieces = functions.iter().map(|f| f.begin..f.end);
    for piece in pieces.chain(gaps) {
        for instruction in decode(image, piece.start, piece.end) {
            count += 1;
            let checksum = names
                .around(instruction.ip() as u32)
                .is_some_and(|name| name.starts_with(CHECKSUM));
            if let Some(why) = objection(&instruction, checksum) {
                wrong.entry(why).or_default().push(instruction.ip());
            }
            for feature in instruction.cpuid_features() {
                if !BASE.contains(feature) {
                    features.insert(format!("{feature:?}"));
                }
            }
        }
    }
    let seen = if functions.is_empty() {
        Err("no functions in the exception directory".into())
    } else if wrong.is_empty() {
        let features: Vec<_> = features.into_iter().collect();
        Ok(format!(
            "{count} looked at, in all executable bytes: {} functions and {leaves} bytes of those without unwind information; beyond \
             the base, in the checksum alone but for TZCNT: {}",
            functions.len(),
            features.join(" ")
        ))
    } else {
        let text: Vec<_> = wrong
            .iter()
            .map(|(why, at)| {
                let within = names.around(at[0] as u32);
                let within = within.map_or(String::new(), |name| format!(" in {name}"));
                format!("{} {why}, the first at {:#x}{within}", at.len(), at[0])
            })
            .collect();
        Err(text.join("; "))
    };
    Finding {
        what,
        seen: seen.into(),
    }
}

/// The instructions of a piece of code; their addresses are relative.
pub fn decode(image: &Pe<'_>, begin: u32, end: u32) -> Vec<Instruction> {
    let Some(code) = image.memory.get(begin as usize..end as usize) else {
        return Vec::new();
    };
    Decoder::with_ip(64, code, u64::from(begin), DecoderOptions::NONE)
        .into_iter()
        .collect()
}

/// Why a driver may not have an instruction: in the checksum, or elsewhere.
fn objection(instruction: &Instruction, checksum: bool) -> Option<&'static str> {
    if instruction.is_invalid() {
        return Some("not instructions");
    }
    if instruction.is_privileged() {
        return Some("privileged (a driver calls the kernel for what they do)");
    }
    // The kernel saves neither of these for drivers: KeSaveExtendedProcessorState would have to be called.
    let registers = (0..instruction.op_count()).map(|i| instruction.op_register(i));
    for register in registers {
        if register.is_ymm() || register.is_zmm() || register.is_k() {
            return Some("on AVX registers");
        }
        if register.is_st()
            || register.is_mm()
            || (Register::TMM0..=Register::TMM7).contains(&register)
        {
            return Some("on x87, MMX or AMX registers");
        }
    }
    if instruction.cpuid_features().iter().any(|f| {
        matches!(
            f,
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 | CpuidFeature::MMX
        ) || format!("{f:?}").starts_with("AVX")
    }) && instruction.mnemonic() != Mnemonic::Wait
    {
        return Some("of x87, MMX or AVX");
    }
    let features = instruction.cpuid_features();
    // TZCNT is BSF with a prefix that older processors ignore; compilers use it where the results agree.
    if instruction.mnemonic() == Mnemonic::Tzcnt || features.iter().all(|f| BASE.contains(f)) {
        return None;
    }
    let found = |f: &CpuidFeature| BASE.contains(f) || FOUND_AT_RUN_TIME.contains(f);
    if !features.iter().all(found) {
        return Some("that not every processor has");
    }
    (!checksum).then_some(
        "that not every processor has, outside of the checksum (which symbols beside the image name)",
    )
}
