//! Events that describe themselves (TraceLogging): their names and fields, from their metadata and data.

use std::net::{IpAddr, SocketAddr};

use ndis_sys::socket::{AF_INET, AF_INET6};
use ndis_sys::wdm::{
    TDH_INTYPE_BINARY, TDH_INTYPE_INT32, TDH_INTYPE_MANIFEST_COUNTEDANSISTRING, TDH_INTYPE_UINT8,
    TDH_INTYPE_UINT16, TDH_INTYPE_UINT32, TDH_INTYPE_UINT64, TlgOutBOOLEAN, TlgOutNTSTATUS,
    TlgOutSOCKETADDRESS,
};

use super::Value;

/// Another byte of the same kind follows: tags after tags, the way to show a field after the way it is stored.
const MORE: u8 = 0x80;
/// How a field is stored, without the flags of arrays.
const IN_TYPE: u8 = 0x1f;

/// Bytes taken from the front.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or_else(|| format!("{count} bytes are due, {} are there", self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u64, String> {
        let taken = self.take(bytes)?;
        Ok(taken
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    /// A terminated string.
    fn name(&mut self) -> Result<String, String> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let end = end.ok_or("a name is not terminated")?;
        let text = std::str::from_utf8(self.take(end)?).map_err(|e| e.to_string())?;
        self.take(1)?;
        Ok(text.to_owned())
    }

    /// The whole of a block that says its own length in front.
    fn block(bytes: &'a [u8]) -> Result<Self, String> {
        let mut rest = Rest(bytes);
        let said = rest.number(2)?;
        if said as usize == bytes.len() {
            Ok(rest)
        } else {
            Err(format!("it says {said} bytes and has {}", bytes.len()))
        }
    }
}

/// The name of a provider.
pub(super) fn provider(metadata: &[u8]) -> Result<String, String> {
    Rest::block(metadata)?.name()
}

/// The name of an event and its fields.
pub(super) fn event(
    metadata: &[u8],
    data: &[u8],
) -> Result<(String, Vec<(String, Value)>), String> {
    let mut description = Rest::block(metadata)?;
    while description.number(1)? as u8 & MORE != 0 {}
    let name = description.name()?;
    let mut data = Rest(data);
    let mut fields = Vec::new();
    while !description.0.is_empty() {
        let field = description.name()?;
        let stored = description.number(1)? as u8;
        let mut shown = 0;
        if stored & MORE != 0 {
            shown = description.number(1)? as u8;
            if shown & MORE != 0 {
                while description.number(1)? as u8 & MORE != 0 {}
            }
        }
        let value =
            value(stored, shown & !MORE, &mut data).map_err(|e| format!("{name}.{field}: {e}"))?;
        fields.push((field, value));
    }
    if data.0.is_empty() {
        Ok((name, fields))
    } else {
        Err(format!("{name}: {} bytes more than fields", data.0.len()))
    }
}

fn value(stored: u8, shown: u8, data: &mut Rest<'_>) -> Result<Value, String> {
    if stored & !MORE & !IN_TYPE != 0 {
        return Err(format!("arrays are not decoded (type {stored:#x})"));
    }
    let stored = stored & IN_TYPE;
    Ok(match (stored, shown) {
        (TDH_INTYPE_UINT8, TlgOutBOOLEAN) => Value::Bool(data.number(1)? != 0),
        (TDH_INTYPE_UINT8, _) => Value::Number(data.number(1)?),
        (TDH_INTYPE_UINT16, _) => Value::Number(data.number(2)?),
        (TDH_INTYPE_UINT32, TlgOutNTSTATUS) | (TDH_INTYPE_INT32, TlgOutNTSTATUS) => {
            Value::Status(data.number(4)? as u32 as i32)
        }
        (TDH_INTYPE_UINT32, _) => Value::Number(data.number(4)?),
        (TDH_INTYPE_UINT64, _) => Value::Number(data.number(8)?),
        (TDH_INTYPE_MANIFEST_COUNTEDANSISTRING, _) => {
            let length = data.number(2)? as usize;
            let text = data.take(length)?;
            Value::Text(text.iter().map(|byte| char::from(*byte)).collect())
        }
        (TDH_INTYPE_BINARY, shown) => {
            let length = data.number(2)? as usize;
            let bytes = data.take(length)?;
            if shown == TlgOutSOCKETADDRESS {
                Value::Address(address(bytes)?)
            } else {
                Value::Bytes(bytes.to_vec())
            }
        }
        _ => return Err(format!("type {stored}, shown as {shown}, is not decoded")),
    })
}

/// A SOCKADDR_IN or SOCKADDR_IN6.
fn address(bytes: &[u8]) -> Result<SocketAddr, String> {
    let mut rest = Rest(bytes);
    let family = rest.number(2)? as u16;
    let port = rest.take(2)?;
    let port = u16::from_be_bytes([port[0], port[1]]);
    let ip = match (family, bytes.len()) {
        (AF_INET, 16) => {
            let octets: [u8; 4] = rest.take(4)?.try_into().unwrap_or_default();
            IpAddr::from(octets)
        }
        (AF_INET6, 28) => {
            rest.take(4)?;
            IpAddr::from(<[u8; 16]>::try_from(rest.take(16)?).unwrap_or([0; 16]))
        }
        (family, length) => return Err(format!("{length} bytes are no address of {family}")),
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the format is documented: length, tags, name, then each field's name and types.
    const METADATA: &[u8] = b"\x1c\0\0Went\0n\0\x06why\0\x17ok\0\x88\x0eto\0\x8e\x0a";

    fn data(address: &[u8]) -> Vec<u8> {
        let mut data = vec![0x34, 0x12, 3, 0];
        data.extend(b"abc\x36\x02\x00\xc0");
        data.extend((address.len() as u16).to_le_bytes());
        data.extend(address);
        data
    }

    #[test]
    fn an_event_is_what_its_description_says() {
        let metadata = [&(METADATA.len() as u16).to_le_bytes(), &METADATA[2..]].concat();
        let v4 = [2, 0, 0x01, 0xbd, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let (name, fields) = event(&metadata, &data(&v4)).unwrap();
        assert_eq!(name, "Went");
        let field = |i: usize| (fields[i].0.as_str(), fields[i].1.clone());
        assert_eq!(field(0), ("n", Value::Number(0x1234)));
        assert_eq!(field(1), ("why", Value::Text("abc".to_owned())));
        let refused = ndis_sys::status::STATUS_CONNECTION_REFUSED;
        assert_eq!(field(2), ("ok", Value::Status(refused)));
        let to = "10.0.0.1:445".parse().unwrap();
        assert_eq!(field(3), ("to", Value::Address(to)));
        let mut v6 = vec![23, 0, 0, 9, 0, 0, 0, 0];
        v6.extend([0; 15]);
        v6.extend([1, 0, 0, 0, 0]);
        let (_, fields) = event(&metadata, &data(&v6)).unwrap();
        assert_eq!(fields[3].1, Value::Address("[::1]:9".parse().unwrap()));
    }

    #[test]
    fn data_and_description_must_fit() {
        let metadata = [&(METADATA.len() as u16).to_le_bytes(), &METADATA[2..]].concat();
        let v4 = [2, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let good = data(&v4);
        for end in 0..good.len() {
            assert!(event(&metadata, &good[..end]).is_err(), "{end}");
        }
        assert!(event(&metadata, &[&good[..], &[0]].concat()).is_err());
        for end in 0..metadata.len() {
            assert!(event(&metadata[..end], &good).is_err(), "{end}");
        }
        assert!(event(&metadata, &data(&v4[..8])).is_err());
        assert!(provider(b"\x07\0vroc\0").is_ok());
        assert!(provider(b"\x08\0vroc\0").is_err());
    }
}
