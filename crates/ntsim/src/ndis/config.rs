//! An adapter's settings in the registry.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::UNICODE_STRING;

use super::adapter::Adapter;
use super::handle::Handled;
use super::{Setting, header, ndis, rules};
use crate::pnp::MachineRegistry;
use crate::pnp::registry::Value;
use crate::verifier::violation;
use crate::world::context;

/// Opened settings.
pub(crate) struct Configuration {
    owner: NDIS_HANDLE,
    adapter: Rc<Adapter>,
    /// What was handed out and lives until the settings are closed: addresses in kernel memory.
    handed_out: RefCell<Vec<usize>>,
    closed: Cell<bool>,
}

impl Handled for Configuration {
    const KIND: &'static str = "an open configuration";
}

const BY: &str = "NdisReadConfiguration";

/// Reads a counted string.
///
/// # Safety
/// `string` is null or points at a valid `UNICODE_STRING`.
pub(crate) unsafe fn text(string: *const UNICODE_STRING) -> Option<String> {
    if string.is_null() {
        return None;
    }
    // SAFETY: valid, as the caller promises.
    unsafe {
        let s = string.read();
        if !s.Length.is_multiple_of(2)
            || s.Length > s.MaximumLength
            || (s.Buffer.is_null() && s.Length != 0)
        {
            return None;
        }
        if s.Length == 0 {
            return Some(String::new());
        }
        let units = std::slice::from_raw_parts(s.Buffer, usize::from(s.Length) / 2);
        String::from_utf16(units).ok()
    }
}

/// `NdisOpenConfigurationEx`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn open(
    object: *mut NDIS_CONFIGURATION_OBJECT,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    const F: &str = "NdisOpenConfigurationEx";
    if object.is_null() || out.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*object).Header };
    let sizes = [(
        NDIS_CONFIGURATION_OBJECT_REVISION_1,
        NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1,
    )];
    if !header::check(F, head, NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT, &sizes) {
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: as long as its header says.
    let object: NDIS_CONFIGURATION_OBJECT = unsafe { header::copy(object, head.Size) };
    if object.Flags != 0 {
        violation(rules::PARAMETER, format!("{F}: Flags must be zero"));
    }
    let ndis = ndis();
    let Some(adapter) = ndis.handles.get::<Adapter>(object.NdisHandle, F) else {
        return NDIS_STATUS_FAILURE;
    };
    if adapter.machine().faults.strikes(F) {
        return NDIS_STATUS_RESOURCES;
    }
    let configuration = Rc::new(Configuration {
        owner: object.NdisHandle,
        adapter,
        handed_out: RefCell::default(),
        closed: Cell::new(false),
    });
    let handle = ndis.handles.insert(configuration);
    // SAFETY: the driver's variable.
    unsafe { out.write(handle) };
    NDIS_STATUS_SUCCESS
}

/// `NdisCloseConfiguration`.
pub(crate) fn close(handle: NDIS_HANDLE) {
    const F: &str = "NdisCloseConfiguration";
    let ndis = ndis();
    let Some(configuration) = ndis.handles.get::<Configuration>(handle, F) else {
        return;
    };
    let machine = context::machine();
    for address in configuration.handed_out.take() {
        machine.pool_free(address, None, F);
    }
    configuration.closed.set(true);
    ndis.handles.remove(handle);
}

/// Settings of an adapter that were not closed.
pub(crate) fn check_released(owner: NDIS_HANDLE, when: &str) {
    let left = ndis()
        .handles
        .all::<Configuration>()
        .iter()
        .filter(|c| c.owner == owner)
        .count();
    if left > 0 {
        violation(
            rules::LEAK,
            format!("{when}: {left} configuration handle(s) not closed"),
        );
    }
}

impl Configuration {
    fn value(&self, keyword: &str) -> Option<Value> {
        let machine = self.adapter.machine();
        self.adapter
            .device
            .with_class_key(&machine, |key| key.value(keyword).cloned())
            .flatten()
    }

    /// Kernel memory that lives until the settings are closed.
    fn keep(&self, bytes: &[u8]) -> Option<usize> {
        let at = context::machine().kernel_alloc(bytes.len().max(1), BY)?;
        let to: *mut u8 = std::ptr::with_exposed_provenance_mut(at);
        // SAFETY: freshly allocated with that many bytes.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.handed_out.borrow_mut().push(at);
        Some(at)
    }

    fn keep_text(&self, text: &str) -> Option<UNICODE_STRING> {
        let bytes: Vec<u8> = text
            .encode_utf16()
            .chain([0])
            .flat_map(u16::to_le_bytes)
            .collect();
        let at = self.keep(&bytes)?;
        let length = u16::try_from(bytes.len() - 2).ok()?;
        Some(UNICODE_STRING {
            Length: length,
            MaximumLength: length + 2,
            Buffer: std::ptr::with_exposed_provenance_mut(at),
        })
    }
}

/// `NdisReadConfiguration`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn read(
    handle: NDIS_HANDLE,
    keyword: *const UNICODE_STRING,
    kind: NDIS_PARAMETER_TYPE,
) -> Result<*mut NDIS_CONFIGURATION_PARAMETER, NDIS_STATUS> {
    let Some(configuration) = ndis().handles.get::<Configuration>(handle, BY) else {
        return Err(NDIS_STATUS_FAILURE);
    };
    // SAFETY: the driver's string.
    let Some(keyword) = (unsafe { text(keyword) }) else {
        violation(
            rules::PARAMETER,
            format!("{BY}: the keyword is no valid string"),
        );
        return Err(NDIS_STATUS_FAILURE);
    };
    if keyword.eq_ignore_ascii_case("NdisVersion") {
        return parameter(
            &configuration,
            NdisParameterInteger,
            Setting::Integer(super::driver::NDIS_VERSION),
        );
    }
    let Some(value) = configuration.value(&keyword) else {
        return Err(NDIS_STATUS_FAILURE);
    };
    if context::machine().faults.strikes(BY) {
        return Err(NDIS_STATUS_RESOURCES);
    }
    let radix = match kind {
        NdisParameterInteger => Some(10),
        NdisParameterHexInteger => Some(16),
        NdisParameterString | NdisParameterMultiString | NdisParameterBinary => None,
        other => {
            violation(
                rules::PARAMETER,
                format!("{BY}: no such parameter type: {other}"),
            );
            return Err(NDIS_STATUS_FAILURE);
        }
    };
    match (value, radix) {
        (Value::Dword(number), Some(_)) => {
            parameter(&configuration, kind, Setting::Integer(number))
        }
        (Value::Sz(text), Some(radix)) => {
            let number = parse(&text, radix).ok_or(NDIS_STATUS_FAILURE)?;
            parameter(&configuration, kind, Setting::Integer(number))
        }
        (Value::Dword(number), None) if kind == NdisParameterString => {
            parameter(&configuration, kind, Setting::Text(number.to_string()))
        }
        (Value::Sz(text) | Value::ExpandSz(text), None) if kind == NdisParameterString => {
            parameter(&configuration, kind, Setting::Text(text))
        }
        (Value::MultiSz(list), None) if kind == NdisParameterMultiString => {
            let mut text = list.join("\0");
            text.push('\0');
            parameter(&configuration, kind, Setting::Text(text))
        }
        (Value::Binary(bytes) | Value::None(bytes), None) if kind == NdisParameterBinary => {
            parameter(&configuration, kind, Setting::Bytes(bytes))
        }
        _ => Err(NDIS_STATUS_FAILURE),
    }
}

/// What `RtlUnicodeStringToInteger` makes of a string in a base: leading digits, an optional sign.
fn parse(text: &str, radix: u32) -> Option<u32> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = if radix == 16 {
        digits.trim_start_matches("0x").trim_start_matches("0X")
    } else {
        digits
    };
    let end = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    let number = u64::from_str_radix(digits.get(..end).filter(|d| !d.is_empty())?, radix).ok()?;
    let number = number as u32;
    Some(if negative {
        number.wrapping_neg()
    } else {
        number
    })
}

fn parameter(
    configuration: &Configuration,
    kind: NDIS_PARAMETER_TYPE,
    value: Setting,
) -> Result<*mut NDIS_CONFIGURATION_PARAMETER, NDIS_STATUS> {
    let mut parameter = NDIS_CONFIGURATION_PARAMETER {
        ParameterType: kind,
        ..Default::default()
    };
    match value {
        Setting::Integer(number) => parameter.ParameterData.IntegerData = number,
        Setting::Text(text) => {
            parameter.ParameterData.StringData = configuration
                .keep_text(&text)
                .ok_or(NDIS_STATUS_RESOURCES)?;
        }
        Setting::Bytes(bytes) => {
            let at = configuration.keep(&bytes).ok_or(NDIS_STATUS_RESOURCES)?;
            parameter.ParameterData.BinaryData = BINARY_DATA {
                Length: u16::try_from(bytes.len()).map_err(|_| NDIS_STATUS_FAILURE)?,
                Buffer: std::ptr::with_exposed_provenance_mut(at),
            };
        }
    }
    let at = configuration
        .keep(&[0; size_of::<NDIS_CONFIGURATION_PARAMETER>()])
        .ok_or(NDIS_STATUS_RESOURCES)?;
    let out: *mut NDIS_CONFIGURATION_PARAMETER = std::ptr::with_exposed_provenance_mut(at);
    // SAFETY: freshly allocated with that size.
    unsafe { out.write(parameter) };
    Ok(out)
}

/// `NdisWriteConfiguration`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn write(
    handle: NDIS_HANDLE,
    keyword: *const UNICODE_STRING,
    parameter: *const NDIS_CONFIGURATION_PARAMETER,
) -> NDIS_STATUS {
    const F: &str = "NdisWriteConfiguration";
    let Some(configuration) = ndis().handles.get::<Configuration>(handle, F) else {
        return NDIS_STATUS_FAILURE;
    };
    // SAFETY: the driver's string and structure.
    let (keyword, parameter) = unsafe { (text(keyword), parameter.as_ref()) };
    let (Some(keyword), Some(parameter)) = (keyword, parameter) else {
        violation(rules::PARAMETER, format!("{F}: bad keyword or parameter"));
        return NDIS_STATUS_FAILURE;
    };
    // SAFETY: the type says which member of the union is valid.
    let value = unsafe {
        match parameter.ParameterType {
            NdisParameterInteger | NdisParameterHexInteger => {
                Value::Dword(parameter.ParameterData.IntegerData)
            }
            NdisParameterString => match text(&raw const parameter.ParameterData.StringData) {
                Some(text) => Value::Sz(text),
                None => return NDIS_STATUS_FAILURE,
            },
            _ => return NDIS_STATUS_NOT_SUPPORTED,
        }
    };
    let machine = configuration.adapter.machine();
    let path = configuration
        .adapter
        .device
        .installed
        .borrow()
        .as_ref()
        .map(|i| i.class_key.clone());
    let Some(path) = path else {
        return NDIS_STATUS_FAILURE;
    };
    let registry = machine.ext::<MachineRegistry>();
    registry.0.borrow_mut().create(&path).set(&keyword, value);
    NDIS_STATUS_SUCCESS
}

/// `NdisReadNetworkAddress`: the bytes of the address the administrator set, in memory that lives until the settings
/// are closed.
pub(crate) fn network_address(handle: NDIS_HANDLE) -> Option<(*mut c_void, u32)> {
    const F: &str = "NdisReadNetworkAddress";
    let configuration = ndis().handles.get::<Configuration>(handle, F)?;
    let value = configuration.value("NetworkAddress")?;
    let text: String = value.as_str()?.chars().filter(|c| *c != '-').collect();
    let digits: Vec<u32> = text
        .chars()
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()?;
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| (pair[0] << 4 | pair[1]) as u8)
        .collect();
    if context::machine().faults.strikes(F) {
        return None;
    }
    let at = configuration.keep(&bytes)?;
    Some((
        std::ptr::with_exposed_provenance_mut(at),
        bytes.len() as u32,
    ))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn integers_out_of_strings() {
        assert_eq!(parse("9014", 10), Some(9014));
        assert_eq!(parse(" 12 rest", 10), Some(12));
        assert_eq!(parse("-1", 10), Some(u32::MAX));
        assert_eq!(parse("1F", 16), Some(31));
        assert_eq!(parse("0x1f", 16), Some(31));
        assert_eq!(parse("", 10), None);
        assert_eq!(parse("abc", 10), None);
    }
}
