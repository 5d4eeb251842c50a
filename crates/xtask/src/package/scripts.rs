//! The scripts that a tester runs: nothing here can run them, but they are read by a grammar of PowerShell, which is not Microsoft's.

use super::AS_IT_IS;
use crate::workspace::root;
use std::ops::Range;
use tree_sitter::{Node, Parser, Tree};

/// Names and texts of the scripts, as they are packed.
fn scripts() -> Vec<(&'static str, String)> {
    AS_IT_IS
        .iter()
        .filter(|(name, _)| name.ends_with(".ps1"))
        .map(|(name, path)| {
            let text = std::fs::read_to_string(root().join(path)).unwrap();
            (*name, text.replace('\n', "\r\n"))
        })
        .collect()
}

fn parse(text: &str) -> Tree {
    let mut parser = Parser::new();
    parser
        .set_language(&tree_sitter_powershell::LANGUAGE.into())
        .unwrap();
    parser.parse(text, None).unwrap()
}

/// Looks at every node.
fn walk(tree: &Tree, mut each: impl FnMut(Node<'_>)) {
    let mut nodes = vec![tree.root_node()];
    while let Some(node) = nodes.pop() {
        each(node);
        nodes.extend((0..node.child_count()).filter_map(|n| node.child(n)));
    }
}

/// Lines, counted from 1, that are not PowerShell.
fn wrong(tree: &Tree) -> Vec<usize> {
    let mut lines = Vec::new();
    walk(tree, |node| {
        if node.is_error() || node.is_missing() {
            lines.push(node.start_position().row + 1);
        }
    });
    lines
}

/// Where the braces of blocks are.
fn braces(tree: &Tree) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    walk(tree, |node| {
        if matches!(node.kind(), "{" | "}") {
            places.push(node.byte_range());
        }
    });
    places
}

#[test]
fn the_scripts_are_powershell_and_not_without_any_of_their_braces() {
    let scripts = scripts();
    assert_eq!(scripts.len(), 3);
    for (name, text) in scripts {
        let tree = parse(&text);
        assert_eq!(wrong(&tree), [0; 0], "lines of {name}");
        let braces = braces(&tree);
        assert!(braces.len() > 20, "{name} has {} braces", braces.len());
        for brace in braces {
            let line = text[..brace.start].lines().count();
            let mut text = text.clone();
            text.replace_range(brace, " ");
            assert_ne!(
                wrong(&parse(&text)),
                [0; 0],
                "{name}, a brace less in line {line}"
            );
        }
    }
}

/// Parameters of a script to which it assigns: names of variables have no case, and a value that is meant for another may be lost.
fn assigned_parameters(tree: &Tree, text: &str) -> Vec<String> {
    let name = |node: Node<'_>| text[node.byte_range()].trim().to_ascii_lowercase();
    let (mut parameters, mut assigned) = (Vec::new(), Vec::new());
    walk(tree, |node| {
        let variables = match node.kind() {
            "script_parameter" => &mut parameters,
            "foreach_statement" | "assignment_expression" => &mut assigned,
            _ => return,
        };
        let target = (0..node.child_count())
            .filter_map(|n| node.child(n))
            .find(|child| matches!(child.kind(), "variable" | "left_assignment_expression"));
        variables.extend(target.map(name));
    });
    assert!(!assigned.is_empty());
    parameters.retain(|parameter| assigned.contains(parameter));
    parameters
}

#[test]
fn no_script_assigns_to_its_parameters() {
    for (name, text) in scripts() {
        let tree = parse(&text);
        assert_eq!(assigned_parameters(&tree, &text), [""; 0], "{name}");
    }
    for text in [
        "param([string]$Adapter, [switch]$Force)\n$x = 1\n1 | ForEach-Object { $adapter = $_ }\n",
        "param([switch]$Force, [string]$Adapter = \"a\")\n$x = 1\nforeach ($adapter in 1..2) { $x }\n",
    ] {
        assert_eq!(assigned_parameters(&parse(text), text), ["$adapter"]);
    }
}

/// Windows PowerShell reads a file without a mark of its encoding in the machine's code page; other tools stumble over the mark.
#[test]
fn what_is_packed_as_it_is_is_ascii() {
    for (name, path) in AS_IT_IS {
        let text = std::fs::read(root().join(path)).unwrap();
        let at = text.iter().position(|byte| !byte.is_ascii());
        assert_eq!(at, None, "{name}");
    }
}
