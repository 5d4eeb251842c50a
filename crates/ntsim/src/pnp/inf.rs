//! Setup information files: text to sections, lines and fields.
//!
//! Accepts what Windows accepts (general syntax rules for INF files): case-insensitive names, merged sections of one
//! name, quoted fields with doubled quotes, `%token%` substitution from `[Strings]`, `;` comments and `\` continuation.
//! An `.inx` is the same text before `stampinf` has run over it; [`Inf::parse`] does what that tool would do
//! (`$ARCH$`, `$KMDFVERSION$`, ...).

use std::collections::HashMap;
use std::fmt;

/// What is wrong with an INF, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfError {
    /// 1-based line in the file; 0 when the fault is something missing from the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

impl InfError {
    pub(crate) fn new(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for InfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            write!(f, "INF: {}", self.text)
        } else {
            write!(f, "INF line {}: {}", self.line, self.text)
        }
    }
}

impl std::error::Error for InfError {}

/// One entry of a section: `key = field, field, ...` or just `field, field, ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// 1-based line in the file where the entry starts.
    pub number: usize,
    /// The part before `=`, if there is one.
    pub key: Option<String>,
    /// The comma-separated fields, unquoted and with tokens substituted. Omitted fields are empty.
    pub fields: Vec<String>,
}

impl Line {
    /// The field at `index`, empty when the line is shorter.
    #[must_use]
    pub fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", String::as_str)
    }

    /// The field at `index` as a number: decimal, `0x` hexadecimal, empty counts as 0.
    ///
    /// # Errors
    /// [`InfError`] with this line's number when the text is no number.
    pub fn number_field(&self, index: usize) -> Result<u64, InfError> {
        let text = self.field(index);
        if text.is_empty() {
            return Ok(0);
        }
        parse_number(text)
            .ok_or_else(|| InfError::new(self.number, format!("\"{text}\" is not a number")))
    }

    pub(crate) fn is(&self, key: &str) -> bool {
        self.key
            .as_deref()
            .is_some_and(|k| k.eq_ignore_ascii_case(key))
    }
}

pub(crate) fn parse_number(text: &str) -> Option<u64> {
    let text = text.trim();
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(magnitude) = text.strip_prefix('-') {
        magnitude.parse::<u64>().ok().map(u64::wrapping_neg)
    } else {
        text.parse().ok()
    }
}

/// One section.
#[derive(Debug, Clone)]
pub struct Section {
    /// The name as first written in the file.
    pub name: String,
    /// Line of the (first) header.
    pub number: usize,
    /// The entries in file order.
    pub lines: Vec<Line>,
}

impl Section {
    /// Entries whose key is `key`, case-insensitively.
    pub fn entries<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a Line> + 'a {
        self.lines.iter().filter(move |l| l.is(key))
    }

    /// The first such entry.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Line> {
        self.lines.iter().find(|l| l.is(key))
    }
}

/// A parsed INF.
#[derive(Debug, Clone)]
pub struct Inf {
    sections: Vec<Section>,
    index: HashMap<String, usize>,
}

/// A line as written, before token substitution.
struct RawLine {
    section: usize,
    number: usize,
    key: Option<String>,
    fields: Vec<String>,
}

impl Inf {
    /// Parses the text of an `.inf` or `.inx`.
    ///
    /// # Errors
    /// The first syntax error, with its line.
    pub fn parse(text: &str) -> Result<Self, InfError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // The build variables that stampinf replaces.
        let text = text
            .replace("$ARCH$", "amd64")
            .replace("$KMDFVERSION$", "1.15")
            .replace("$KMDFCOINSTALLERVERSION$", "01015");
        let mut inf = Self {
            sections: Vec::new(),
            index: HashMap::new(),
        };
        let mut raw = Vec::new();
        let mut current = None;
        for (number, line) in logical_lines(&text)? {
            let trimmed = line.trim();
            if let Some(rest) = trimmed.strip_prefix('[') {
                let Some(name) = rest.strip_suffix(']') else {
                    return Err(InfError::new(
                        number,
                        "section header without closing bracket",
                    ));
                };
                let name = name.trim();
                if name.is_empty() || name.len() > 255 {
                    return Err(InfError::new(
                        number,
                        "section name must have 1 to 255 characters",
                    ));
                }
                current = Some(inf.section_index(name, number));
                continue;
            }
            let Some(section) = current else {
                return Err(InfError::new(number, "text before the first section"));
            };
            let (key, fields) = split_line(trimmed, number)?;
            raw.push(RawLine {
                section,
                number,
                key,
                fields,
            });
        }
        let strings = inf.collect_strings(&raw)?;
        for line in raw {
            let key = line
                .key
                .map(|k| substitute(&k, &strings, line.number))
                .transpose()?;
            let fields = line
                .fields
                .iter()
                .map(|f| substitute(f, &strings, line.number))
                .collect::<Result<Vec<_>, _>>()?;
            inf.sections[line.section].lines.push(Line {
                number: line.number,
                key,
                fields,
            });
        }
        Ok(inf)
    }

    /// The section called `name`, case-insensitively.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.index
            .get(&name.to_ascii_lowercase())
            .map(|&i| &self.sections[i])
    }

    /// All sections in file order.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    fn section_index(&mut self, name: &str, number: usize) -> usize {
        let next = self.sections.len();
        let index = *self.index.entry(name.to_ascii_lowercase()).or_insert(next);
        if index == next {
            self.sections.push(Section {
                name: name.to_owned(),
                number,
                lines: Vec::new(),
            });
        }
        index
    }

    /// `[Strings]`, overlaid by `[Strings.0409]` (US English, the simulated system's language).
    fn collect_strings(&self, raw: &[RawLine]) -> Result<HashMap<String, String>, InfError> {
        let mut strings = HashMap::new();
        for wanted in ["strings", "strings.0409"] {
            let Some(&section) = self.index.get(wanted) else {
                continue;
            };
            for line in raw.iter().filter(|l| l.section == section) {
                let Some(key) = &line.key else {
                    return Err(InfError::new(
                        line.number,
                        "a string needs the form name = \"value\"",
                    ));
                };
                strings.insert(key.to_ascii_lowercase(), line.fields.join(","));
            }
        }
        Ok(strings)
    }
}

/// Physical lines joined at `\`, comments and empty lines removed, each with the number of its first physical line.
fn logical_lines(text: &str) -> Result<Vec<(usize, String)>, InfError> {
    let mut out = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (i, physical) in text.lines().enumerate() {
        let number = i + 1;
        let stripped = strip_comment(physical, number)?;
        let stripped = stripped.trim();
        let (start, mut joined) = pending.take().unwrap_or((number, String::new()));
        if let Some(head) = stripped.strip_suffix('\\') {
            joined.push_str(head);
            pending = Some((start, joined));
            continue;
        }
        joined.push_str(stripped);
        if !joined.trim().is_empty() {
            out.push((start, joined));
        }
    }
    if let Some((start, joined)) = pending
        && !joined.trim().is_empty()
    {
        out.push((start, joined));
    }
    Ok(out)
}

fn strip_comment(line: &str, number: usize) -> Result<&str, InfError> {
    let mut quoted = false;
    for (i, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ';' if !quoted => return Ok(&line[..i]),
            _ => {}
        }
    }
    if quoted {
        Err(InfError::new(number, "quotation mark without its partner"))
    } else {
        Ok(line)
    }
}

/// Splits `key = a, b` into its parts; quotes are taken off here, tokens stay.
fn split_line(line: &str, number: usize) -> Result<(Option<String>, Vec<String>), InfError> {
    let mut key = None;
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut was_quoted = false;
    let mut chars = line.chars().peekable();
    let finish = |field: &mut String, was_quoted: &mut bool| {
        let text = if *was_quoted {
            field.clone()
        } else {
            field.trim().to_owned()
        };
        field.clear();
        *was_quoted = false;
        text
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted => {
                if chars.peek() == Some(&'"') {
                    chars.next();
                    field.push('"');
                } else {
                    quoted = false;
                }
            }
            '"' => {
                if field.trim().is_empty() && !was_quoted {
                    field.clear();
                }
                quoted = true;
                was_quoted = true;
            }
            ',' if !quoted => fields.push(finish(&mut field, &mut was_quoted)),
            '=' if !quoted && key.is_none() && fields.is_empty() => {
                key = Some(finish(&mut field, &mut was_quoted));
            }
            c if c.is_whitespace() && was_quoted && !quoted => {}
            c => field.push(c),
        }
    }
    if quoted {
        return Err(InfError::new(number, "quotation mark without its partner"));
    }
    fields.push(finish(&mut field, &mut was_quoted));
    if key.as_deref() == Some("") {
        return Err(InfError::new(number, "nothing before the equals sign"));
    }
    Ok((key, fields))
}

/// Replaces `%name%`. `%%` stands for one percent sign; `%12%` and other purely numeric names are directory ids and stay.
fn substitute(
    text: &str,
    strings: &HashMap<String, String>,
    number: usize,
) -> Result<String, InfError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let Some(end) = rest.find('%') else {
            return Err(InfError::new(
                number,
                format!("\"{text}\": percent sign without its partner"),
            ));
        };
        let name = &rest[..end];
        rest = &rest[end + 1..];
        if name.is_empty() {
            out.push('%');
        } else if name.bytes().all(|b| b.is_ascii_digit()) {
            out.push('%');
            out.push_str(name);
            out.push('%');
        } else if let Some(value) = strings.get(&name.to_ascii_lowercase()) {
            out.push_str(value);
        } else {
            return Err(InfError::new(
                number,
                format!("%{name}% is not defined in [Strings]"),
            ));
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(inf: &'a Inf, section: &str, index: usize) -> &'a Line {
        &inf.section(section).expect("section").lines[index]
    }

    #[test]
    fn sections_of_one_name_merge_whatever_their_case() {
        let inf = Inf::parse("[A]\na=1\n[b]\nx=2\n[a]\nb=3\n").unwrap();
        assert_eq!(inf.sections().len(), 2);
        let a = inf.section("A").unwrap();
        assert_eq!(a.lines.len(), 2);
        assert_eq!(a.entry("B").unwrap().field(0), "3");
    }

    #[test]
    fn quotes_comments_and_continuations() {
        let inf = Inf::parse(
            "[S]\nHKR,,\"a;b\",,\"say \"\"hi\"\"\" ; tail\nCopyFiles = \"Dir\\\"\\ ; comment\n,Some, \\\n  More\n",
        )
        .unwrap();
        assert_eq!(
            line(&inf, "s", 0).fields,
            ["HKR", "", "a;b", "", "say \"hi\""]
        );
        assert_eq!(line(&inf, "s", 1).fields, ["Dir\\", "Some", "More"]);
        assert_eq!(line(&inf, "s", 1).number, 3);
    }

    #[test]
    fn tokens_come_from_strings_and_directory_ids_stay() {
        let inf = Inf::parse(
            "[S]\n%Desc% = X, %12%\\y.sys, \"%%SystemRoot%%\\z\"\n[Strings]\nDesc = \"vroce\"\nB=\"has = and %, sign\"\n",
        );
        // The odd percent sign in an unused string is still an error only where it is substituted.
        let err = inf.expect_err("odd percent sign");
        assert_eq!(err.line, 5);
        let inf = Inf::parse(
            "[S]\n%Desc% = X, %12%\\y.sys, \"%%SystemRoot%%\\z\"\n[strings]\nDESC = \"v, w\"\n",
        )
        .unwrap();
        let l = line(&inf, "S", 0);
        assert_eq!(l.key.as_deref(), Some("v, w"));
        assert_eq!(l.fields, ["X", "%12%\\y.sys", "%SystemRoot%\\z"]);
    }

    #[test]
    fn inx_variables_are_stamped() {
        let inf = Inf::parse("[Manufacturer]\n%M%=Models,NT$ARCH$.10.0...17763\n[Strings]\nM=m\n")
            .unwrap();
        assert_eq!(
            line(&inf, "manufacturer", 0).field(1),
            "NTamd64.10.0...17763"
        );
    }

    #[test]
    fn errors_name_their_line() {
        for (text, number) in [
            ("junk\n", 1),
            ("[A\n", 1),
            ("[A]\n\nx=\"abc\n", 3),
            ("[A]\nx=%nope%\n", 2),
            ("[A]\n=5\n", 2),
            ("[]\n", 1),
        ] {
            let err = Inf::parse(text).expect_err(text);
            assert_eq!(err.line, number, "{text:?}: {err}");
        }
    }

    #[test]
    fn numbers() {
        let inf = Inf::parse("[A]\n10, 0x1F, , zz\n").unwrap();
        let l = line(&inf, "a", 0);
        assert_eq!(l.number_field(0), Ok(10));
        assert_eq!(l.number_field(1), Ok(31));
        assert_eq!(l.number_field(2), Ok(0));
        assert_eq!(l.number_field(9), Ok(0));
        assert_eq!(l.number_field(3).unwrap_err().line, 2);
    }
}
