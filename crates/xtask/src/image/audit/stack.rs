//! How deep the stack can get: the sum of frames along the deepest path of direct calls.
//!
//! Frames come from the unwind information, calls from the instructions. An indirect call within the driver is not followed, which the
//! finding says; calls of the kernel are, as on Windows, on the kernel's account.

use super::code::decode;
use super::names::Names;
use super::pe::{Function, Pe};
use super::{Finding, Seen, X64_ONLY};
use iced_x86::{FlowControl, OpKind};
use object::LittleEndian as LE;
use object::pe::IMAGE_FILE_MACHINE_AMD64;
use object::read::pe::ImageNtHeaders;
use std::collections::{BTreeMap, BTreeSet};

/// What a driver may use of the kernel's stack, bytes; Windows on x64 gives 24 KiB in all.
const DEEPEST: u32 = 12 * 1024;

/// One function with all pieces the compiler has made of it.
#[derive(Default)]
struct Node {
    /// Bytes of stack, the return address included.
    frame: u32,
    calls: BTreeSet<u32>,
}

/// Looks for the deepest path.
pub fn look(image: &Pe<'_>, names: &Names) -> Finding {
    let what = "stack";
    if image.headers().file_header().machine.get(LE) != IMAGE_FILE_MACHINE_AMD64 {
        return Finding {
            what,
            seen: Seen::Nothing(X64_ONLY),
        };
    }
    let functions = image.functions();
    let (graph, indirect) = graph(image, &functions);
    let mut walk = Walk {
        graph: &graph,
        depth: BTreeMap::new(),
        open: BTreeSet::new(),
        cycles: BTreeSet::new(),
    };
    let deepest = graph.keys().map(|at| (walk.depth(*at), *at)).max();
    let Some((depth, at)) = deepest else {
        return Finding {
            what,
            seen: Seen::Wrong("no functions".into()),
        };
    };
    let mut path = vec![at];
    while let Some(next) = path.last().and_then(|at| graph.get(at)).and_then(|node| {
        node.calls
            .iter()
            .filter(|to| !path.contains(to))
            .max_by_key(|to| walk.depth.get(to).copied().unwrap_or(0))
    }) {
        path.push(*next);
    }
    let told: Vec<String> = path
        .iter()
        .map(|at| {
            format!(
                "{} ({})",
                names.of(*at),
                graph.get(at).map_or(8, |node| node.frame)
            )
        })
        .collect();
    let largest = graph.iter().max_by_key(|(_, node)| node.frame);
    let text = format!(
        "{depth} bytes, at most {DEEPEST}; largest frame {}; {} recursive functions; {indirect} indirect calls within the driver \
         not followed; deepest: {}",
        largest.map_or(0, |(_, node)| node.frame),
        walk.cycles.len(),
        told.join(" > "),
    );
    Finding {
        what,
        seen: if depth < DEEPEST {
            Seen::Right(text)
        } else {
            Seen::Wrong(text)
        },
    }
}

struct Walk<'a> {
    graph: &'a BTreeMap<u32, Node>,
    depth: BTreeMap<u32, u32>,
    open: BTreeSet<u32>,
    cycles: BTreeSet<u32>,
}

impl Walk<'_> {
    /// Bytes below a function, its own frame included. A recursive call counts once.
    fn depth(&mut self, at: u32) -> u32 {
        if let Some(depth) = self.depth.get(&at) {
            return *depth;
        }
        let Some(node) = self.graph.get(&at) else {
            // A function without unwind information has no frame.
            return 8;
        };
        if !self.open.insert(at) {
            self.cycles.insert(at);
            return 0;
        }
        let below = node
            .calls
            .iter()
            .map(|to| self.depth(*to))
            .max()
            .unwrap_or(0);
        self.open.remove(&at);
        let depth = node.frame + below;
        self.depth.insert(at, depth);
        depth
    }
}

/// The functions by address, and how many indirect calls do not go through the import table.
fn graph(image: &Pe<'_>, functions: &[Function]) -> (BTreeMap<u32, Node>, usize) {
    let imports: BTreeSet<u64> = image
        .imports()
        .unwrap_or_default()
        .iter()
        .map(|(_, _, at)| *at as u64)
        .collect();
    let mut graph: BTreeMap<u32, Node> = BTreeMap::new();
    let mut indirect = 0;
    for piece in functions {
        let (owner, frame) = frame(image, *piece);
        let node = graph.entry(owner).or_default();
        node.frame = node.frame.max(frame + 8);
        for instruction in decode(image, piece.begin, piece.end) {
            match instruction.flow_control() {
                FlowControl::Call
                | FlowControl::UnconditionalBranch
                | FlowControl::ConditionalBranch => {
                    let target = instruction.near_branch_target() as u32;
                    let inside = (piece.begin..piece.end).contains(&target);
                    // A branch to another function's start is a call that does not come back here.
                    let starts = || functions.binary_search_by_key(&target, |f| f.begin).is_ok();
                    if !inside && (instruction.flow_control() == FlowControl::Call || starts()) {
                        node.calls.insert(target);
                    }
                }
                FlowControl::IndirectCall => {
                    let imported = instruction.op0_kind() == OpKind::Memory
                        && instruction.is_ip_rel_memory_operand()
                        && imports.contains(&instruction.ip_rel_memory_address());
                    if !imported {
                        indirect += 1;
                    }
                }
                _ => {}
            }
        }
    }
    // Calls to a piece are calls to the function it belongs to.
    let owners: BTreeMap<u32, u32> = functions
        .iter()
        .map(|piece| (piece.begin, frame(image, *piece).0))
        .collect();
    for (owner, node) in &mut graph {
        node.calls = node
            .calls
            .iter()
            .map(|to| owners.get(to).copied().unwrap_or(*to))
            .filter(|to| to != owner)
            .collect();
    }
    (graph, indirect)
}

/// UNW_FLAG_CHAININFO: the piece's frame builds on another piece's.
const CHAINED: u8 = 4;

/// The function a piece belongs to, and the bytes its prologue takes, with those of the pieces it builds on.
fn frame(image: &Pe<'_>, piece: Function) -> (u32, u32) {
    let mut total = 0;
    let mut piece = piece;
    // Chains are short; a damaged image must not keep us for ever.
    for _ in 0..32 {
        let at = piece.unwind as usize;
        let Some(header) = image.memory.get(at..at + 4) else {
            break;
        };
        let flags = header[0] >> 3;
        let count = usize::from(header[2]);
        let Some(codes) = image.memory.get(at + 4..at + 4 + count * 2) else {
            break;
        };
        total += allocated(codes);
        if flags & CHAINED == 0 {
            break;
        }
        // The function entry follows the codes, of which there is an even number.
        let next = at + 4 + count.next_multiple_of(2) * 2;
        let (Some(begin), Some(end), Some(unwind)) =
            (image.word(next), image.word(next + 4), image.word(next + 8))
        else {
            break;
        };
        piece = Function { begin, end, unwind };
    }
    (piece.begin, total)
}

/// Bytes that unwind codes say are taken ("x64 exception handling", section "Struct UNWIND_CODE").
fn allocated(codes: &[u8]) -> u32 {
    let slot = |i: usize| -> u32 {
        codes
            .get(i * 2..i * 2 + 2)
            .map_or(0, |c| u32::from(u16::from_le_bytes([c[0], c[1]])))
    };
    let mut total = 0;
    let mut i = 0;
    while i * 2 + 1 < codes.len() {
        let (operation, info) = (codes[i * 2 + 1] & 0xf, u32::from(codes[i * 2 + 1] >> 4));
        i += match operation {
            // Push of a register.
            0 => {
                total += 8;
                1
            }
            // Large allocation, in eights or in bytes.
            1 if info == 0 => {
                total += slot(i + 1) * 8;
                2
            }
            1 => {
                total += slot(i + 1) | slot(i + 2) << 16;
                3
            }
            2 => {
                total += info * 8 + 8;
                1
            }
            // Frame pointer; saves of registers in what is allocated.
            3 => 1,
            4 | 8 => 2,
            5 | 9 => 3,
            _ => 1,
        };
    }
    total
}
