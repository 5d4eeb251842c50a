//! What an INF does to a machine: driver selection and the registry writes of an installation.
//!
//! Pure: nothing is loaded or started here. [`Package::select`] finds the install section for a device,
//! [`Package::install`] executes it against a [`Registry`].

use super::ids::PciIdentity;
use super::inf::{Inf, InfError, Line, Section};
use super::registry::{Key, Registry, Value};

/// `{4d36e972-...}`: the setup class of network adapters.
pub const NET_CLASS_GUID: &str = "{4d36e972-e325-11ce-bfc1-08002be10318}";

/// The simulated system as INF decorations see it: Windows Server 2022 x64.
const OS: OsVersion = OsVersion {
    architecture: "amd64",
    major: 10,
    minor: 0,
    product: 3,
    build: 20348,
};

struct OsVersion {
    architecture: &'static str,
    major: u64,
    minor: u64,
    product: u64,
    build: u64,
}

const FLG_BINVALUETYPE: u64 = 0x1;
const FLG_NOCLOBBER: u64 = 0x2;
const FLG_DELVAL: u64 = 0x4;
const FLG_APPEND: u64 = 0x8;
const FLG_KEYONLY: u64 = 0x10;
const FLG_OVERWRITEONLY: u64 = 0x20;
const FLG_64BITKEY: u64 = 0x1000;
const FLG_TYPE_SZ: u64 = 0;
const FLG_TYPE_MULTI_SZ: u64 = 0x0001_0000;
const FLG_TYPE_EXPAND_SZ: u64 = 0x0002_0000;
const FLG_TYPE_DWORD: u64 = 0x0001_0001;
const FLG_TYPE_NONE: u64 = 0x0002_0001;
const FLG_TYPE_QWORD: u64 = 0x000b_0001;
const FLG_TYPE_MASK: u64 = 0xffff_0001;

const SPSVCINST_ASSOCSERVICE: u64 = 0x2;

/// A driver package: its parsed and checked INF.
#[derive(Debug, Clone)]
pub struct Package {
    inf: Inf,
}

/// The model that matched a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The identification string that matched.
    pub id: String,
    /// Position of that string in the device's list; lower is more specific.
    pub rank: usize,
    /// `DriverDesc`.
    pub description: String,
    /// The manufacturer's name.
    pub manufacturer: String,
    /// The install section as named by the model, undecorated.
    pub section: String,
    /// The section with the decoration that applies here (`.NT`, `.NTamd64`, or none).
    pub decorated: String,
    /// Line of the model.
    pub line: usize,
}

/// What an installation left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// What matched.
    pub matched: Match,
    /// Service name of the function driver.
    pub service: String,
    /// Path of the driver's service key.
    pub service_key: String,
    /// Path of the device's software key (`HKR` of the install section; configuration keywords live here).
    pub class_key: String,
    /// Path of the device's hardware key.
    pub device_key: String,
    /// Image file name.
    pub binary: String,
}

impl Package {
    /// Parses an `.inx`/`.inf` and checks what every network adapter's INF must have.
    ///
    /// # Errors
    /// The first fault, with its line.
    pub fn parse(text: &str) -> Result<Self, InfError> {
        let inf = Inf::parse(text)?;
        let version = inf
            .section("Version")
            .ok_or_else(|| InfError::new(0, "no [Version] section"))?;
        let signature = required(version, "Signature")?;
        if !["$windows nt$", "$chicago$"]
            .contains(&signature.field(0).to_ascii_lowercase().as_str())
        {
            return Err(InfError::new(
                signature.number,
                "Signature must be \"$Windows NT$\"",
            ));
        }
        let class = required(version, "Class")?;
        if !class.field(0).eq_ignore_ascii_case("Net") {
            return Err(InfError::new(
                class.number,
                format!("class {} is not Net", class.field(0)),
            ));
        }
        let guid = required(version, "ClassGuid")?;
        if !guid.field(0).eq_ignore_ascii_case(NET_CLASS_GUID) {
            return Err(InfError::new(
                guid.number,
                format!("ClassGuid of class Net is {NET_CLASS_GUID}"),
            ));
        }
        for key in ["Provider", "CatalogFile", "PnpLockdown"] {
            required(version, key)?;
        }
        // DriverVer may be empty in an .inx (stampinf writes it), but the directive must be there.
        if version.entry("DriverVer").is_none() {
            return Err(InfError::new(version.number, "[Version] has no DriverVer"));
        }
        Ok(Self { inf })
    }

    /// The parsed INF.
    #[must_use]
    pub fn inf(&self) -> &Inf {
        &self.inf
    }

    /// Finds the best model for a device: hardware ids before compatible ids, each most specific first.
    ///
    /// # Errors
    /// When nothing matches, or the sections on the way there are broken.
    pub fn select(&self, device: &PciIdentity) -> Result<Match, InfError> {
        let mut ids = device.hardware_ids();
        ids.extend(device.compatible_ids());
        let manufacturers = self
            .inf
            .section("Manufacturer")
            .ok_or_else(|| InfError::new(0, "no [Manufacturer] section"))?;
        let mut best: Option<Match> = None;
        for line in &manufacturers.lines {
            let Some(models) = self.models_section(line)? else {
                continue;
            };
            for model in &models.lines {
                let Some(description) = &model.key else {
                    return Err(InfError::new(
                        model.number,
                        "a model needs the form description = section, id",
                    ));
                };
                if model.fields.len() < 2 || model.field(0).is_empty() {
                    return Err(InfError::new(
                        model.number,
                        "a model needs an install section and a device id",
                    ));
                }
                for id in model.fields.iter().skip(1).filter(|f| !f.is_empty()) {
                    let Some(rank) = ids.iter().position(|d| d.eq_ignore_ascii_case(id)) else {
                        continue;
                    };
                    if best.as_ref().is_some_and(|b| b.rank <= rank) {
                        continue;
                    }
                    best = Some(Match {
                        id: id.clone(),
                        rank,
                        description: description.clone(),
                        manufacturer: line.key.clone().unwrap_or_else(|| line.field(0).to_owned()),
                        section: model.field(0).to_owned(),
                        decorated: String::new(),
                        line: model.number,
                    });
                }
            }
        }
        let mut found = best.ok_or_else(|| {
            InfError::new(
                0,
                format!("no model for {} in any applicable Models section", ids[0]),
            )
        })?;
        found.decorated = self.decorate(&found.section, found.line)?;
        Ok(found)
    }

    /// The Models section that applies to this system, if the manufacturer has one.
    fn models_section(&self, line: &Line) -> Result<Option<&Section>, InfError> {
        let (base, decorations): (&str, &[String]) = match &line.key {
            Some(_) => (line.field(0), line.fields.get(1..).unwrap_or(&[])),
            None => (line.field(0), &[]),
        };
        let mut best: Option<(Vec<u64>, &str)> = None;
        for decoration in decorations.iter().filter(|d| !d.is_empty()) {
            if let Some(score) = applies(decoration, line.number)?
                && best.as_ref().is_none_or(|(s, _)| *s < score)
            {
                best = Some((score, decoration));
            }
        }
        match best {
            Some((_, decoration)) => {
                let name = format!("{base}.{decoration}");
                self.inf.section(&name).map(Some).ok_or_else(|| {
                    InfError::new(line.number, format!("section [{name}] does not exist"))
                })
            }
            // An undecorated Models section is for x86 only.
            None => Ok(None),
        }
    }

    fn decorate(&self, section: &str, line: usize) -> Result<String, InfError> {
        [
            format!("{section}.NT{}", OS.architecture),
            format!("{section}.NT"),
            section.to_owned(),
        ]
        .into_iter()
        .find(|name| self.inf.section(name).is_some())
        .ok_or_else(|| InfError::new(line, format!("install section [{section}] does not exist")))
    }

    /// Executes the install section of `matched` for the `instance`-th network adapter of the machine.
    ///
    /// # Errors
    /// A directive that Windows would refuse, or one this simulator does not carry out, with its line.
    pub fn install(
        &self,
        matched: &Match,
        device: &PciIdentity,
        instance: u32,
        registry: &mut Registry,
    ) -> Result<Installed, InfError> {
        let section = self.section(&matched.decorated, matched.line)?;
        let class_key =
            format!("SYSTEM\\CurrentControlSet\\Control\\Class\\{NET_CLASS_GUID}\\{instance:04}");
        let instance_path = format!("{}\\{instance:X}&0&{instance:X}", device.device_id());
        let enum_key = format!("SYSTEM\\CurrentControlSet\\Enum\\{instance_path}");
        let device_key = format!("{enum_key}\\Device Parameters");

        let (service, binary) = self.services(matched, registry)?;
        let service_key = format!("SYSTEM\\CurrentControlSet\\Services\\{service}");

        let key = registry.create(&class_key);
        for directive in [
            "*IfType",
            "*MediaType",
            "*PhysicalMediaType",
            "Characteristics",
            "BusType",
        ] {
            let line = section.entry(directive).ok_or_else(|| {
                InfError::new(
                    section.number,
                    format!(
                        "[{}] has no {directive}: required for class Net",
                        section.name
                    ),
                )
            })?;
            let number = line.number_field(0)?;
            let number = u32::try_from(number)
                .map_err(|_| InfError::new(line.number, "value exceeds 32 bits"))?;
            key.set(directive, number);
        }
        let characteristics = key
            .value("Characteristics")
            .and_then(Value::as_u32)
            .unwrap_or(0);
        if (characteristics & 0x7).count_ones() > 1 {
            return Err(InfError::new(
                section.number,
                "Characteristics: NCF_VIRTUAL, NCF_SOFTWARE_ENUMERATED and NCF_PHYSICAL exclude one another",
            ));
        }
        key.set("DriverDesc", matched.description.as_str());
        key.set("ProviderName", self.version("Provider"));
        key.set("MatchingDeviceId", matched.id.as_str());
        key.set("InfSection", matched.section.as_str());
        key.set(
            "InfSectionExt",
            matched.decorated.get(matched.section.len()..).unwrap_or(""),
        );
        key.set("DeviceInstanceID", instance_path);
        key.set("ComponentId", matched.id.as_str());
        key.set(
            "NetCfgInstanceId",
            format!("{{76726f63-6500-0000-0000-{instance:012x}}}"),
        );
        key.set("NetLuidIndex", 0x8000 + instance);

        let key = registry.create(&enum_key);
        key.set("ClassGUID", NET_CLASS_GUID);
        key.set("Service", service.as_str());
        key.set("DeviceDesc", matched.description.as_str());
        key.set("Mfg", matched.manufacturer.as_str());
        key.set("HardwareID", Value::MultiSz(device.hardware_ids()));
        key.set("CompatibleIDs", Value::MultiSz(device.compatible_ids()));
        key.set("Driver", format!("{NET_CLASS_GUID}\\{instance:04}"));
        registry.create(&device_key);

        self.directives(section, &class_key, registry)?;
        if let Some(hw) = self.inf.section(&format!("{}.HW", matched.decorated)) {
            self.directives(hw, &device_key, registry)?;
        }
        let key = registry.create(&class_key);
        apply_parameter_defaults(key, section.number)?;
        Ok(Installed {
            matched: matched.clone(),
            service,
            service_key,
            class_key,
            device_key,
            binary,
        })
    }

    /// `AddReg` (and only that) of a section; the directives without an effect on a simulated machine are passed over.
    fn directives(
        &self,
        section: &Section,
        root: &str,
        registry: &mut Registry,
    ) -> Result<(), InfError> {
        const NO_EFFECT: [&str; 12] = [
            "CopyFiles",
            "Characteristics",
            "BusType",
            "*IfType",
            "*MediaType",
            "*PhysicalMediaType",
            "Include",
            "Needs",
            "FeatureScore",
            "AddProperty",
            "Port1DeviceNumber",
            "Port1FunctionNumber",
        ];
        const SERVICE: [&str; 9] = [
            "DisplayName",
            "Description",
            "ServiceType",
            "StartType",
            "ErrorControl",
            "ServiceBinary",
            "LoadOrderGroup",
            "Dependencies",
            "TextModeFlags",
        ];
        for line in &section.lines {
            if line.is("AddReg") {
                for name in line.fields.iter().filter(|f| !f.is_empty()) {
                    let add = self.section(name, line.number)?;
                    for entry in &add.lines {
                        add_registry(entry, root, registry)?;
                    }
                }
            } else if line.is("CopyFiles") {
                for name in line
                    .fields
                    .iter()
                    .filter(|f| !f.is_empty() && !f.starts_with('@'))
                {
                    self.section(name, line.number)?;
                }
            } else if let Some(key) = &line.key
                && !NO_EFFECT
                    .iter()
                    .chain(&SERVICE)
                    .any(|d| d.eq_ignore_ascii_case(key))
            {
                return Err(InfError::new(
                    line.number,
                    format!("directive {key} in [{}] is not known", section.name),
                ));
            }
        }
        Ok(())
    }

    /// The `.Services` section: service keys, and the name and image of the function driver.
    fn services(
        &self,
        matched: &Match,
        registry: &mut Registry,
    ) -> Result<(String, String), InfError> {
        let name = format!("{}.Services", matched.decorated);
        let section = self.section(&name, matched.line)?;
        let mut function_driver = None;
        for line in section.entries("AddService") {
            let service = line.field(0);
            let flags = line.number_field(1)?;
            if service.is_empty() {
                return Err(InfError::new(
                    line.number,
                    "AddService without a service name",
                ));
            }
            let install = self.section(line.field(2), line.number)?;
            let mut numbers = [0u32; 3];
            for (slot, key) in numbers
                .iter_mut()
                .zip(["ServiceType", "StartType", "ErrorControl"])
            {
                *slot = u32::try_from(required(install, key)?.number_field(0)?)
                    .map_err(|_| InfError::new(install.number, format!("{key} exceeds 32 bits")))?;
            }
            if numbers[0] != 1 {
                return Err(InfError::new(
                    install.number,
                    "ServiceType of a kernel driver is 1",
                ));
            }
            if numbers[1] == 4 {
                return Err(InfError::new(
                    install.number,
                    "StartType 4: a disabled service cannot be installed",
                ));
            }
            let binary = required(install, "ServiceBinary")?;
            let path = directory(binary.field(0), binary.number)?;
            let root = format!("SYSTEM\\CurrentControlSet\\Services\\{service}");
            let key = registry.create(&root);
            key.set("Type", numbers[0]);
            key.set("Start", numbers[1]);
            key.set("ErrorControl", numbers[2]);
            key.set("ImagePath", Value::ExpandSz(path.clone()));
            for (entry, value) in [("DisplayName", "DisplayName"), ("LoadOrderGroup", "Group")] {
                if let Some(line) = install.entry(entry) {
                    key.set(value, line.field(0));
                }
            }
            self.directives(install, &root, registry)?;
            if !line.field(3).is_empty() {
                let log = self.section(line.field(3), line.number)?;
                let kind = if line.field(4).is_empty() {
                    "System"
                } else {
                    line.field(4)
                };
                let name = if line.field(5).is_empty() {
                    service
                } else {
                    line.field(5)
                };
                self.directives(
                    log,
                    &format!("SYSTEM\\CurrentControlSet\\Services\\EventLog\\{kind}\\{name}"),
                    registry,
                )?;
            }
            if flags & SPSVCINST_ASSOCSERVICE != 0 {
                if function_driver.is_some() {
                    return Err(InfError::new(
                        line.number,
                        "a second service with SPSVCINST_ASSOCSERVICE (0x2)",
                    ));
                }
                let file = path.rsplit('\\').next().unwrap_or(&path).to_owned();
                function_driver = Some((service.to_owned(), file));
            }
        }
        function_driver.ok_or_else(|| {
            InfError::new(
                section.number,
                format!("[{name}] adds no service with SPSVCINST_ASSOCSERVICE (0x2)"),
            )
        })
    }

    fn section(&self, name: &str, line: usize) -> Result<&Section, InfError> {
        self.inf
            .section(name)
            .ok_or_else(|| InfError::new(line, format!("section [{name}] does not exist")))
    }

    fn version(&self, key: &str) -> &str {
        self.inf
            .section("Version")
            .and_then(|s| s.entry(key))
            .map_or("", |l| l.field(0))
    }
}

fn required<'a>(section: &'a Section, key: &str) -> Result<&'a Line, InfError> {
    match section.entry(key) {
        Some(line) if !line.field(0).is_empty() => Ok(line),
        Some(line) => Err(InfError::new(line.number, format!("{key} is empty"))),
        None => Err(InfError::new(
            section.number,
            format!("[{}] has no {key}", section.name),
        )),
    }
}

/// Whether `NTamd64.10.0...16299` and the like apply here; if so, how specifically (greater is better).
fn applies(decoration: &str, line: usize) -> Result<Option<Vec<u64>>, InfError> {
    let bad = || {
        InfError::new(
            line,
            format!("\"{decoration}\" is not a TargetOSVersion decoration"),
        )
    };
    let (os, rest) = decoration.split_once('.').unwrap_or((decoration, ""));
    let lower = os.to_ascii_lowercase();
    let architecture = lower.strip_prefix("nt").ok_or_else(bad)?;
    if !["", "x86", "amd64", "arm", "arm64", "ia64"].contains(&architecture) {
        return Err(bad());
    }
    let mut fields = [None; 5];
    if !rest.is_empty() {
        for (i, text) in rest.split('.').enumerate() {
            let slot = fields.get_mut(i).ok_or_else(bad)?;
            if !text.is_empty() {
                *slot = Some(super::inf::parse_number(text).ok_or_else(bad)?);
            }
        }
    }
    let [major, minor, product, suite, build] = fields;
    if architecture != OS.architecture
        || suite.is_some()
        || product.is_some_and(|p| p != OS.product)
    {
        return Ok(None);
    }
    let target = (major.unwrap_or(0), minor.unwrap_or(0));
    if target > (OS.major, OS.minor) {
        return Ok(None);
    }
    if target == (OS.major, OS.minor) && build.is_some_and(|b| b > OS.build) {
        return Ok(None);
    }
    Ok(Some(vec![
        target.0,
        target.1,
        build.unwrap_or(0),
        u64::from(product.is_some()),
    ]))
}

/// Expands the directory ids that name where a driver's image lands.
fn directory(path: &str, line: usize) -> Result<String, InfError> {
    if let Some(file) = path.strip_prefix("%12%\\") {
        return Ok(format!("\\SystemRoot\\System32\\drivers\\{file}"));
    }
    if let Some(file) = path.strip_prefix("%13%\\") {
        return Ok(format!(
            "\\SystemRoot\\System32\\DriverStore\\FileRepository\\{file}"
        ));
    }
    Err(InfError::new(
        line,
        format!("ServiceBinary {path}: expected %12%\\ or %13%\\ and a file name"),
    ))
}

/// One line of an add-registry section.
fn add_registry(line: &Line, relative_root: &str, registry: &mut Registry) -> Result<(), InfError> {
    let error = |text: String| InfError::new(line.number, text);
    let subkey = line.field(1);
    let path = match line.field(0).to_ascii_uppercase().as_str() {
        "HKR" => format!("{relative_root}\\{subkey}"),
        "HKLM" => subkey.to_owned(),
        "HKCR" => format!("SOFTWARE\\Classes\\{subkey}"),
        other => {
            return Err(error(format!(
                "registry root \"{other}\" is not HKR, HKLM or HKCR"
            )));
        }
    };
    let name = line.field(2);
    let flags = line.number_field(3)? & !FLG_64BITKEY;
    if flags & FLG_DELVAL != 0 {
        if name.is_empty() {
            registry.remove(&path);
        } else {
            registry.create(&path).remove_value(name);
        }
        return Ok(());
    }
    let key = registry.create(&path);
    if flags & FLG_KEYONLY != 0 || (name.is_empty() && line.fields.len() <= 3) {
        return Ok(());
    }
    if line.fields.len() == 3 && super::inf::parse_number(name).is_some() {
        return Err(error(format!(
            "a value called \"{name}\" without data: are these flags, and a comma is missing before them?"
        )));
    }
    let exists = key.value(name).is_some();
    if (flags & FLG_NOCLOBBER != 0 && exists) || (flags & FLG_OVERWRITEONLY != 0 && !exists) {
        return Ok(());
    }
    let data = line.fields.get(4..).unwrap_or(&[]);
    let value = match flags & FLG_TYPE_MASK {
        FLG_TYPE_SZ => Value::Sz(data.first().cloned().unwrap_or_default()),
        FLG_TYPE_EXPAND_SZ => Value::ExpandSz(data.first().cloned().unwrap_or_default()),
        FLG_TYPE_MULTI_SZ => {
            let mut list: Vec<String> = data.to_vec();
            if flags & FLG_APPEND != 0
                && let Some(Value::MultiSz(old)) = key.value(name)
            {
                let mut merged = old.clone();
                list.retain(|s| !merged.contains(s));
                merged.append(&mut list);
                list = merged;
            }
            Value::MultiSz(list)
        }
        FLG_TYPE_DWORD => {
            let number = line.number_field(4)?;
            // Negative numbers come as their two's complement.
            let signed = i32::try_from(number.cast_signed()).map(i32::cast_unsigned);
            Value::Dword(
                u32::try_from(number)
                    .or(signed)
                    .map_err(|_| error(format!("{} does not fit a REG_DWORD", line.field(4))))?,
            )
        }
        FLG_TYPE_QWORD => Value::Qword(line.number_field(4)?),
        FLG_TYPE_NONE => Value::None(bytes(data, line)?),
        FLG_BINVALUETYPE => Value::Binary(bytes(data, line)?),
        other => {
            return Err(error(format!(
                "AddReg flags {other:#x}: no such value type"
            )));
        }
    };
    key.set(name, value);
    Ok(())
}

/// Binary data: bytes in hexadecimal without a prefix.
fn bytes(fields: &[String], line: &Line) -> Result<Vec<u8>, InfError> {
    fields
        .iter()
        .filter(|f| !f.is_empty())
        .map(|f| {
            u8::from_str_radix(f.trim_start_matches("0x"), 16).map_err(|_| {
                InfError::new(line.number, format!("\"{f}\" is not a hexadecimal byte"))
            })
        })
        .collect()
}

/// What the network class installer does with `Ndi\params`: checks each parameter's description and writes the
/// default of every parameter that is not optional and has no value yet.
fn apply_parameter_defaults(key: &mut Key, line: usize) -> Result<(), InfError> {
    let Some(params) = key.open("Ndi\\params") else {
        return Ok(());
    };
    let mut defaults = Vec::new();
    for (name, parameter) in params.subkeys() {
        let text = |value: &str| {
            parameter
                .value(value)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let error = |what: &str| InfError::new(line, format!("Ndi\\params\\{name}: {what}"));
        text("ParamDesc").ok_or_else(|| error("no ParamDesc"))?;
        let kind = text("Type")
            .ok_or_else(|| error("no Type"))?
            .to_ascii_lowercase();
        let default = text("Default").or_else(|| text("default"));
        let optional = text("Optional").is_some_and(|o| o.trim() == "1");
        match kind.as_str() {
            "enum" => {
                let choices = parameter
                    .open("enum")
                    .ok_or_else(|| error("an enum without choices"))?;
                if let Some(default) = &default
                    && choices.value(default).is_none()
                {
                    return Err(error(&format!(
                        "the default {default} is not among the choices"
                    )));
                }
            }
            "int" | "long" | "word" | "dword" => {
                let number = |value: &str| -> Result<Option<i64>, InfError> {
                    text(value)
                        .map(|t| {
                            t.trim()
                                .parse()
                                .map_err(|_| error(&format!("{value} \"{t}\" is not a number")))
                        })
                        .transpose()
                };
                let (min, max, default) = (number("Min")?, number("Max")?, number("Default")?);
                if let Some(d) = default
                    && (min.is_some_and(|m| d < m) || max.is_some_and(|m| d > m))
                {
                    return Err(error(&format!("the default {d} is outside Min..Max")));
                }
            }
            "edit" => {}
            other => {
                return Err(error(&format!(
                    "Type \"{other}\" is not int, long, word, dword, edit or enum"
                )));
            }
        }
        match default {
            Some(default) if !optional => defaults.push((name.to_owned(), default)),
            None if !optional => return Err(error("a required parameter without Default")),
            _ => {}
        }
    }
    for (name, default) in defaults {
        if key.value(&name).is_none() {
            key.set(&name, default);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "package_tests.rs"]
mod tests;
