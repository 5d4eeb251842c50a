//! Ndi\Params: what the Advanced page shows, and what Microsoft fixed of it.

use super::Lint;
use super::registry::{SZ, Value};
use super::rules::Rule;
use std::collections::BTreeMap;

/// What an NDK provider's INF has (INF Requirements for NDKPI).
pub const NDK: [&str; 3] = [
    "*NetworkDirect",
    "*NetworkDirectTechnology",
    "*NetworkDirectRoCEFrameSize",
];

const TABLE: &str = include_str!("../../data/keywords.tsv");

/// Names that the system uses in the same key.
const RESERVED: [&str; 21] = [
    "BundleId",
    "BusType",
    "Characteristics",
    "ComponentId",
    "Description",
    "DeviceInstanceId",
    "DriverDate",
    "DriverDesc",
    "DriverVersion",
    "InfPath",
    "InfSection",
    "InfSectionExt",
    "*IfType",
    "InstallTimeStamp",
    "Manufacturer",
    "*MediaType",
    "NetCfgInstanceId",
    "NetLuidIndex",
    "*PhysicalMediaType",
    "Provider",
    "ProviderName",
];

/// A keyword as the documentation has it.
struct Standard {
    name: &'static str,
    text: &'static str,
    kind: &'static str,
    default: Option<&'static str>,
    min: Option<i64>,
    max: Option<i64>,
    choices: Vec<Choice>,
}

/// What may be, or has to be, chosen.
struct Choice {
    value: &'static str,
    text: Option<&'static str>,
    and_above: bool,
    required: bool,
}

fn table() -> Vec<Standard> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let mut next = || fields.next().filter(|field| *field != "-");
            let (name, text, kind) = (next()?, next()?, next()?);
            let (default, min, max) = (next(), next(), next());
            let choices = next().map_or_else(Vec::new, |all| all.split('|').map(choice).collect());
            Some(Standard {
                name,
                text,
                kind,
                default,
                min: min.and_then(|n| n.parse().ok()),
                max: max.and_then(|n| n.parse().ok()),
                choices,
            })
        })
        .collect()
}

fn choice(written: &'static str) -> Choice {
    let (value, text) = match written.split_once('=') {
        Some((value, text)) => (value, Some(text)),
        None => (written, None),
    };
    let (value, required) = match value.strip_prefix('!') {
        Some(value) => (value, true),
        None => (value, false),
    };
    let (value, and_above) = match value.strip_suffix('+') {
        Some(value) => (value, true),
        None => (value, false),
    };
    Choice {
        value,
        text,
        and_above,
        required,
    }
}

/// A parameter as the INF has it.
#[derive(Default)]
struct Parameter<'a> {
    line: usize,
    name: &'a str,
    /// Small letters.
    values: BTreeMap<String, &'a Value>,
    choices: Vec<&'a Value>,
}

impl<'a> Parameter<'a> {
    fn text(&self, name: &str) -> Option<(usize, &'a str)> {
        self.values.get(name).map(|v| (v.line, v.text()))
    }

    /// Line and value of a number; `None` if there is none.
    fn number(&self, name: &str) -> Option<(usize, Option<i64>)> {
        let (line, text) = self.text(name)?;
        Some((line, text.trim().parse().ok()))
    }

    fn optional(&self) -> bool {
        self.text("optional").is_some_and(|(_, text)| text == "1")
    }
}

/// Looks at all parameters of a software key.
pub fn look(lint: &mut Lint<'_>, line: usize, class_key: &[Value]) {
    let parameters = parameters(lint, class_key);
    let standard = table();
    for parameter in parameters.values() {
        page(lint, parameter);
        let known = standard
            .iter()
            .find(|s| s.name.eq_ignore_ascii_case(parameter.name));
        match known {
            Some(standard) => keyword(lint, parameter, standard),
            None if parameter.name.starts_with('*') => {
                let text = format!("{} is not in data/keywords.tsv", parameter.name);
                lint.complain(parameter.line, Rule::KeywordUnknown, text);
            }
            None => {}
        }
    }
    let has = |name: &str| parameters.contains_key(&name.to_ascii_lowercase());
    if NDK.iter().any(|name| has(name)) {
        for name in NDK.iter().filter(|name| !has(name)) {
            lint.complain(line, Rule::NdkKeyword, format!("no {name}"));
        }
    }
}

/// Sorts values by parameter.
fn parameters<'a>(lint: &mut Lint<'_>, values: &'a [Value]) -> BTreeMap<String, Parameter<'a>> {
    let mut all: BTreeMap<String, Parameter<'a>> = BTreeMap::new();
    for value in values {
        let parts: Vec<&str> = value.key.split('\\').collect();
        let (name, choice) = match parts.as_slice() {
            [ndi, params, name, rest @ ..]
                if ndi.eq_ignore_ascii_case("Ndi") && params.eq_ignore_ascii_case("params") =>
            {
                (*name, rest)
            }
            _ => continue,
        };
        let parameter = all
            .entry(name.to_ascii_lowercase())
            .or_insert_with(|| Parameter {
                line: value.line,
                name,
                ..Parameter::default()
            });
        if value.kind != SZ {
            let text = format!("{name}: {} is not REG_SZ", value.name);
            lint.complain(value.line, Rule::ParamValue, text);
        }
        match choice {
            [] => {
                let lower = value.name.to_ascii_lowercase();
                let known = [
                    "paramdesc",
                    "type",
                    "default",
                    "optional",
                    "min",
                    "max",
                    "step",
                    "limittext",
                    "uppercase",
                ];
                if !known.contains(&lower.as_str()) {
                    let text = format!("{name}: nobody reads {}", value.name);
                    lint.complain(value.line, Rule::ParamValue, text);
                }
                parameter.values.insert(lower, value);
            }
            [key] if key.eq_ignore_ascii_case("enum") => parameter.choices.push(value),
            _ => {
                let text = format!("{name}: nobody reads {}", value.key);
                lint.complain(value.line, Rule::ParamValue, text);
            }
        }
    }
    all
}

/// What holds for every parameter of the Advanced page.
fn page(lint: &mut Lint<'_>, parameter: &Parameter<'_>) {
    let (line, name) = (parameter.line, parameter.name);
    if RESERVED.iter().any(|r| r.eq_ignore_ascii_case(name)) {
        lint.complain(line, Rule::ParamReserved, format!("{name} is the system's"));
    }
    if parameter
        .text("paramdesc")
        .is_none_or(|(_, text)| text.is_empty())
    {
        lint.complain(
            line,
            Rule::ParamIncomplete,
            format!("{name} has no ParamDesc"),
        );
    }
    if let Some((line, text)) = parameter.text("optional")
        && !["0", "1"].contains(&text)
    {
        lint.complain(
            line,
            Rule::ParamOptional,
            format!("{name}: \"{text}\" is not 0 or 1"),
        );
    }
    let Some((line, kind)) = parameter.text("type") else {
        lint.complain(line, Rule::ParamIncomplete, format!("{name} has no Type"));
        return;
    };
    match kind.to_ascii_lowercase().as_str() {
        "enum" => choices(lint, parameter),
        "int" | "long" | "word" | "dword" => numeric(lint, parameter),
        "edit" => {}
        _ => lint.complain(
            line,
            Rule::ParamType,
            format!("{name}: \"{kind}\" is no type"),
        ),
    }
    if !kind.eq_ignore_ascii_case("enum")
        && let Some(choice) = parameter.choices.first()
    {
        let text = format!("{name} has choices but is {kind}");
        lint.complain(choice.line, Rule::ParamChoices, text);
    }
    if parameter.text("default").is_none() && !parameter.optional() {
        let text = format!("{name} is not optional and has no Default");
        lint.complain(parameter.line, Rule::ParamDefault, text);
    }
}

fn choices(lint: &mut Lint<'_>, parameter: &Parameter<'_>) {
    let name = parameter.name;
    if parameter.choices.is_empty() {
        let text = format!("{name} is enum and has no choices");
        lint.complain(parameter.line, Rule::ParamChoices, text);
        return;
    }
    for choice in &parameter.choices {
        if choice.name.parse::<u32>().is_err() || choice.text().is_empty() {
            let text = format!("{name}: \"{}\" = \"{}\"", choice.name, choice.text());
            lint.complain(choice.line, Rule::ParamChoices, text);
        }
    }
    if let Some((line, default)) = parameter.text("default")
        && !parameter
            .choices
            .iter()
            .any(|choice| choice.name == default)
    {
        let text = format!("{name}: {default} cannot be chosen");
        lint.complain(line, Rule::ParamDefault, text);
    }
}

fn numeric(lint: &mut Lint<'_>, parameter: &Parameter<'_>) {
    let name = parameter.name;
    let [min, max, step, default] = ["min", "max", "step", "default"].map(|value| {
        let (line, number) = parameter.number(value)?;
        if number.is_none() {
            let text = format!("{name}: {value} is not a number");
            lint.complain(line, Rule::ParamRange, text);
        }
        Some((line, number?))
    });
    if let (Some((line, min)), Some((_, max))) = (min, max)
        && min > max
    {
        lint.complain(line, Rule::ParamRange, format!("{name}: {min} to {max}"));
    }
    if let Some((line, step)) = step
        && step < 1
    {
        lint.complain(line, Rule::ParamRange, format!("{name}: steps of {step}"));
    }
    if let Some((line, default)) = default {
        let (least, most) = (
            min.map_or(i64::MIN, |(_, min)| min),
            max.map_or(i64::MAX, |(_, max)| max),
        );
        let step = step.map_or(1, |(_, step)| step.max(1));
        let off = min.is_some_and(|(_, min)| default.saturating_sub(min) % step != 0);
        if !(least..=most).contains(&default) || off {
            let text = format!("{name}: {default} is not among {least} to {most} by {step}");
            lint.complain(line, Rule::ParamDefault, text);
        }
    }
}

/// What Microsoft fixed of a keyword.
fn keyword(lint: &mut Lint<'_>, parameter: &Parameter<'_>, standard: &Standard) {
    let name = standard.name;
    if let Some((line, text)) = parameter.text("paramdesc")
        && text != standard.text
    {
        let text = format!("{name} is called \"{}\"", standard.text);
        lint.complain(line, Rule::KeywordText, text);
    }
    if let Some((line, kind)) = parameter.text("type")
        && !kind.eq_ignore_ascii_case(standard.kind)
    {
        let text = format!("{name} is {}", standard.kind);
        lint.complain(line, Rule::KeywordType, text);
        return;
    }
    if let (Some(right), Some((line, default))) = (standard.default, parameter.text("default"))
        && default != right
    {
        let text = format!("the default of {name} is {right}");
        lint.complain(line, Rule::KeywordDefault, text);
    }
    let bounds = [
        ("min", standard.min, i64::MIN),
        ("max", standard.max, i64::MAX),
    ];
    for (value, bound, unbounded) in bounds {
        let Some((line, Some(number))) = parameter.number(value) else {
            if let Some(bound) = bound {
                let text = format!("{name} has no {value}, which is {bound}");
                lint.complain(parameter.line, Rule::KeywordRange, text);
            }
            continue;
        };
        let bound = bound.unwrap_or(unbounded);
        let within = if value == "min" {
            number >= bound
        } else {
            number <= bound
        };
        if !within {
            let text = format!("{name}: {value} {number} is beyond {bound}");
            lint.complain(line, Rule::KeywordRange, text);
        }
    }
    for offered in &parameter.choices {
        let value: Option<u32> = offered.name.parse().ok();
        let known = standard.choices.iter().find(|choice| {
            choice.value == offered.name
                || (choice.and_above && value >= choice.value.parse().ok() && value.is_some())
        });
        match known {
            None if !standard.choices.is_empty() => {
                let text = format!("{name} has no choice {}", offered.name);
                lint.complain(offered.line, Rule::KeywordChoices, text);
            }
            Some(Choice {
                text: Some(text), ..
            }) if *text != offered.text() => {
                let text = format!("{} of {name} is called \"{text}\"", offered.name);
                lint.complain(offered.line, Rule::KeywordText, text);
            }
            _ => {}
        }
    }
    for choice in standard.choices.iter().filter(|choice| choice.required) {
        if !parameter.choices.iter().any(|c| c.name == choice.value) {
            let text = format!("{name} does not offer {}", choice.value);
            lint.complain(parameter.line, Rule::KeywordChoices, text);
        }
    }
}
