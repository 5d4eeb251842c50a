//! How deep the stack can get: the sum of frames along the deepest path of direct calls.
//!
//! Frames come from the unwind information, calls from the instructions; a function without unwind information has no frame, but may
//! end by jumping to one that has. A function that may call itself has no deepest path, and is wrong.
//!
//! An indirect call within the driver (of a closure, a trait object, a consumer's callback) is not followed, which the finding says: what
//! is found is the depth of what is called by name. Calls of the kernel are, as on Windows, on the kernel's account.

use super::code::decode;
use super::headers::guard_check;
use super::names::Names;
use super::pe::{Function, Pe};
use super::{Finding, Seen, X64_ONLY};
use iced_x86::{FlowControl, Instruction, OpKind};
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
    let graph = graph(image, names);
    let nodes = &graph.nodes;
    let mut walk = Walk {
        graph: nodes,
        depth: BTreeMap::new(),
        open: BTreeSet::new(),
        recursive: BTreeSet::new(),
    };
    let deepest = nodes.keys().map(|at| (walk.depth(*at), *at)).max();
    let Some((depth, at)) = deepest else {
        return Finding {
            what,
            seen: Seen::Wrong("no functions".into()),
        };
    };
    let mut path = vec![at];
    while let Some(next) = path.last().and_then(|at| nodes.get(at)).and_then(|node| {
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
                nodes.get(at).map_or(8, |node| node.frame)
            )
        })
        .collect();
    let largest = nodes.values().map(|node| node.frame).max().unwrap_or(0);
    let recursive: Vec<String> = walk.recursive.iter().map(|at| names.of(*at)).collect();
    let recursion = if recursive.is_empty() {
        "no function calls itself".into()
    } else {
        format!(
            "no bound, for these call themselves: {}",
            recursive.join(", ")
        )
    };
    let text = format!(
        "{depth} bytes by direct calls, at most {DEEPEST}; {recursion}; largest frame {largest}; not followed: {} indirect calls and {} \
         indirect jumps within the driver; deepest: {}",
        graph.calls,
        graph.jumps,
        told.join(" > "),
    );
    Finding {
        what,
        seen: if depth < DEEPEST && recursive.is_empty() {
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
    /// Functions that are called, by others or directly, from themselves.
    recursive: BTreeSet<u32>,
}

impl Walk<'_> {
    /// Bytes below a function, its own frame included. A recursive call counts as nothing.
    fn depth(&mut self, at: u32) -> u32 {
        if let Some(depth) = self.depth.get(&at) {
            return *depth;
        }
        let Some(node) = self.graph.get(&at) else {
            // No code of the image: nothing but the return address.
            return 8;
        };
        if !self.open.insert(at) {
            self.recursive.insert(at);
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

/// A stretch of code that belongs to one function.
struct Piece {
    begin: u32,
    end: u32,
    /// Where the function begins.
    owner: u32,
    /// Bytes of its frame, the return address aside.
    frame: u32,
}

/// All code by address: the functions with unwind information, and between them those without, which have no frame.
fn pieces(image: &Pe<'_>, names: &Names) -> Vec<Piece> {
    let with = image.functions().into_iter().map(|function| {
        let (owner, frame) = frame(image, function);
        Piece {
            begin: function.begin,
            end: function.end,
            owner,
            frame,
        }
    });
    let mut pieces: Vec<Piece> = with.collect();
    let gaps = image.gaps();
    // Where functions without unwind information begin, nothing in the image says: where others jump to, or where symbols do.
    let mut starts: BTreeSet<u32> = names.starts().collect();
    let ranges: Vec<_> = pieces.iter().map(|p| p.begin..p.end).collect();
    for range in ranges.iter().chain(&gaps) {
        for instruction in decode(image, range.start, range.end) {
            let target = instruction.near_branch_target() as u32;
            if target != 0 && !range.contains(&target) {
                starts.insert(target);
            }
        }
    }
    for gap in gaps {
        let mut begin = gap.start;
        let inside = starts.range(gap.start + 1..gap.end).copied();
        for end in inside.chain([gap.end]) {
            pieces.push(Piece {
                begin,
                end,
                owner: begin,
                frame: 0,
            });
            begin = end;
        }
    }
    pieces.sort_unstable_by_key(|piece| piece.begin);
    pieces
}

/// What is called, and from how many places it is not known.
#[derive(Default)]
struct Graph {
    /// The functions by address.
    nodes: BTreeMap<u32, Node>,
    /// Indirect calls that do not go through the import table.
    calls: usize,
    /// Indirect jumps to another function, likewise.
    jumps: usize,
}

fn graph(image: &Pe<'_>, names: &Names) -> Graph {
    let imports: BTreeSet<u64> = image
        .imports()
        .unwrap_or_default()
        .iter()
        .map(|(_, _, at)| *at as u64)
        // It only looks at the target of the call that follows.
        .chain(guard_check(image).map(|at| at as u64))
        .collect();
    let known = |instruction: &Instruction| {
        instruction.op0_kind() == OpKind::Memory
            && instruction.is_ip_rel_memory_operand()
            && imports.contains(&instruction.ip_rel_memory_address())
    };
    let pieces = pieces(image, names);
    let mut graph = Graph::default();
    for piece in &pieces {
        let node = graph.nodes.entry(piece.owner).or_default();
        node.frame = node.frame.max(piece.frame + 8);
        for instruction in decode(image, piece.begin, piece.end) {
            match instruction.flow_control() {
                flow @ (FlowControl::Call
                | FlowControl::UnconditionalBranch
                | FlowControl::ConditionalBranch) => {
                    let target = instruction.near_branch_target() as u32;
                    let before = pieces.partition_point(|piece| piece.begin <= target);
                    let owner = before
                        .checked_sub(1)
                        .and_then(|index| pieces.get(index))
                        .filter(|piece| target < piece.end)
                        .map_or(target, |piece| piece.owner);
                    // A branch to another function is a call that does not come back here.
                    if flow == FlowControl::Call || owner != piece.owner {
                        node.calls.insert(owner);
                    }
                }
                FlowControl::IndirectCall if !known(&instruction) => graph.calls += 1,
                // Jumps to the cases of a `match` are not wide; unwinders know the others by their being so.
                FlowControl::IndirectBranch
                    if !known(&instruction) && is_wide(image, &instruction) =>
                {
                    graph.jumps += 1;
                }
                _ => {}
            }
        }
    }
    graph
}

/// Whether the instruction begins with REX.W ("x64 prolog and epilog", section "Epilog code").
fn is_wide(image: &Pe<'_>, instruction: &Instruction) -> bool {
    let first = image.memory.get(instruction.ip() as usize);
    first.is_some_and(|byte| byte & 0xf8 == 0x48)
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
