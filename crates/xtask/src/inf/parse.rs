//! Text to sections and entries. Unlike the simulator's reader, which installs from an INF and stops at the first fault, this one goes
//! on, and remembers which strings were used.

use super::rules::{Diagnostic, Rule};
use std::collections::{BTreeMap, BTreeSet};

/// One entry: `key = field, field, ...` or `field, field, ...`.
#[derive(Debug, Clone)]
pub struct Entry {
    /// 1-based line where it starts.
    pub line: usize,
    /// Before the equals sign.
    pub key: Option<String>,
    /// After it: unquoted, tokens replaced; omitted ones are empty.
    pub fields: Vec<String>,
}

impl Entry {
    /// The field, empty if it is not there.
    pub fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", String::as_str)
    }

    /// Whether this is the directive `key`.
    pub fn is(&self, key: &str) -> bool {
        self.key
            .as_deref()
            .is_some_and(|k| k.eq_ignore_ascii_case(key))
    }
}

/// One section.
#[derive(Debug)]
pub struct Section {
    /// As first written.
    pub name: String,
    /// Line of the first header.
    pub line: usize,
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

impl Section {
    /// The first entry of the directive.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is(key))
    }
}

/// An INF, and what is wrong with its text.
#[derive(Debug, Default)]
pub struct Inf {
    /// In the order of the file.
    pub sections: Vec<Section>,
    index: BTreeMap<String, usize>,
    /// What the text alone shows to be wrong.
    pub found: Vec<Diagnostic>,
}

impl Inf {
    /// The section, whatever the case of its name.
    pub fn section(&self, name: &str) -> Option<&Section> {
        let index = self.index.get(&name.to_ascii_lowercase())?;
        self.sections.get(*index)
    }

    /// Reads an INF.
    pub fn parse(text: &str) -> Self {
        let mut inf = Self::default();
        let mut current = None;
        for (line, text) in inf.logical_lines(text) {
            if let Some(rest) = text.strip_prefix('[') {
                match rest.strip_suffix(']').map(str::trim) {
                    Some(name) if (1..=255).contains(&name.len()) => {
                        current = Some(inf.open(name, line));
                    }
                    _ => inf.complain(line, Rule::Syntax, "not a section's header".into()),
                }
                continue;
            }
            let Some(section) = current else {
                inf.complain(line, Rule::Syntax, "before the first section".into());
                continue;
            };
            match split(&text) {
                Ok((key, fields)) => {
                    let entry = Entry { line, key, fields };
                    inf.sections[section].entries.push(entry);
                }
                Err(wrong) => inf.complain(line, Rule::Syntax, wrong.into()),
            }
        }
        inf.replace_tokens();
        inf
    }

    fn complain(&mut self, line: usize, rule: Rule, text: String) {
        self.found.push(Diagnostic { line, rule, text });
    }

    fn open(&mut self, name: &str, line: usize) -> usize {
        let next = self.sections.len();
        let index = *self.index.entry(name.to_ascii_lowercase()).or_insert(next);
        if index == next {
            self.sections.push(Section {
                name: name.into(),
                line,
                entries: Vec::new(),
            });
        } else {
            let first = self.sections[index].line;
            let text = format!("[{name}] is there already, in line {first}");
            self.complain(line, Rule::SectionTwice, text);
        }
        index
    }

    /// Physical lines joined at `\`, without comments and empty ones, each with its number.
    fn logical_lines(&mut self, text: &str) -> Vec<(usize, String)> {
        let mut lines: Vec<(usize, String)> = Vec::new();
        let mut goes_on = false;
        for (index, physical) in text.lines().enumerate() {
            let line = index + 1;
            let text = match without_comment(physical) {
                Ok(text) => text.trim(),
                Err(wrong) => {
                    self.complain(line, Rule::Syntax, wrong.into());
                    goes_on = false;
                    continue;
                }
            };
            let (text, more) = match text.strip_suffix('\\') {
                Some(head) => (head, true),
                None => (text, false),
            };
            match lines.last_mut() {
                Some((_, joined)) if goes_on => joined.push_str(text),
                _ if text.is_empty() => {}
                _ => lines.push((line, text.into())),
            }
            goes_on = more;
        }
        lines
    }

    /// Replaces %token% by what `[Strings]` says.
    fn replace_tokens(&mut self) {
        let mut sections = std::mem::take(&mut self.sections);
        let mut strings = BTreeMap::new();
        for entry in sections
            .iter()
            .filter(|section| section.name.eq_ignore_ascii_case("strings"))
            .flat_map(|section| &section.entries)
        {
            let Some(key) = &entry.key else {
                self.complain(entry.line, Rule::Syntax, "not NAME = \"TEXT\"".into());
                continue;
            };
            let value = (entry.line, entry.fields.join(","));
            if strings.insert(key.to_ascii_lowercase(), value).is_some() {
                let text = format!("the string {key} is there already");
                self.complain(entry.line, Rule::StringTwice, text);
            }
        }
        let mut used = BTreeSet::new();
        for section in &mut sections {
            if section.name.eq_ignore_ascii_case("strings") {
                continue;
            }
            for entry in &mut section.entries {
                for text in entry.key.iter_mut().chain(&mut entry.fields) {
                    if let Err((rule, wrong)) = replace(text, &strings, &mut used) {
                        self.complain(entry.line, rule, wrong);
                    }
                }
            }
        }
        for (name, (line, _)) in &strings {
            if !used.contains(name) {
                let text = format!("nothing uses %{name}%");
                self.complain(*line, Rule::StringUnused, text);
            }
        }
        self.sections = sections;
    }
}

fn without_comment(line: &str) -> Result<&str, &'static str> {
    let mut quoted = false;
    for (index, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ';' if !quoted => return Ok(&line[..index]),
            _ => {}
        }
    }
    if quoted {
        Err("a quotation mark without its partner")
    } else {
        Ok(line)
    }
}

/// Key and fields of an entry, unquoted.
fn split(text: &str) -> Result<(Option<String>, Vec<String>), &'static str> {
    let mut key = None;
    let mut fields = Vec::new();
    let mut field = String::new();
    let (mut inside, mut quoted) = (false, false);
    let take = |field: &mut String, quoted: &mut bool| {
        let text = std::mem::take(field);
        if std::mem::take(quoted) {
            text
        } else {
            text.trim().to_owned()
        }
    };
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => {
                if !inside && field.trim().is_empty() {
                    field.clear();
                }
                inside = !inside;
                quoted = true;
            }
            ',' if !inside => fields.push(take(&mut field, &mut quoted)),
            '=' if !inside && key.is_none() && fields.is_empty() => {
                key = Some(take(&mut field, &mut quoted));
            }
            c if c.is_whitespace() && quoted && !inside => {}
            c => field.push(c),
        }
    }
    fields.push(take(&mut field, &mut quoted));
    if key.as_deref() == Some("") {
        return Err("nothing before the equals sign");
    }
    Ok((key, fields))
}

/// Replaces the tokens of one field in place. `%%` is a percent sign, `%13%` a directory.
fn replace(
    field: &mut String,
    strings: &BTreeMap<String, (usize, String)>,
    used: &mut BTreeSet<String>,
) -> Result<(), (Rule, String)> {
    let mut out = String::with_capacity(field.len());
    let mut rest = field.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let Some((name, after)) = after.split_once('%') else {
            let wrong = format!("\"{field}\" has a percent sign without its partner");
            return Err((Rule::Syntax, wrong));
        };
        rest = after;
        let lower = name.to_ascii_lowercase();
        if name.is_empty() {
            out.push('%');
        } else if name.bytes().all(|b| b.is_ascii_digit()) {
            out.push_str(&format!("%{name}%"));
        } else if let Some((_, value)) = strings.get(&lower) {
            out.push_str(value);
            used.insert(lower);
        } else {
            let wrong = format!("%{name}% is not in [Strings]");
            return Err((Rule::StringUndefined, wrong));
        }
    }
    out.push_str(rest);
    *field = out;
    Ok(())
}

/// A number as INF files write it: decimal, or hexadecimal after 0x. Nothing is 0.
pub fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.is_empty() => Some(0),
        None => text.parse().ok(),
    }
}
