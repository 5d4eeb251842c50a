//! The registry: keys and typed values, as the configuration manager keeps them.

use std::fmt;

/// A registry value's data with its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `REG_NONE`
    None(Vec<u8>),
    /// `REG_SZ`
    Sz(String),
    /// `REG_EXPAND_SZ`
    ExpandSz(String),
    /// `REG_BINARY`
    Binary(Vec<u8>),
    /// `REG_DWORD`
    Dword(u32),
    /// `REG_MULTI_SZ`
    MultiSz(Vec<String>),
    /// `REG_QWORD`
    Qword(u64),
}

impl Value {
    /// The text of a `REG_SZ` or `REG_EXPAND_SZ`.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Sz(s) | Self::ExpandSz(s) => Some(s),
            _ => None,
        }
    }

    /// The number of a `REG_DWORD`.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        match self {
            Self::Dword(v) => Some(*v),
            _ => None,
        }
    }
}

impl From<u32> for Value {
    fn from(v: u32) -> Self {
        Self::Dword(v)
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Sz(v.to_owned())
    }
}

impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Sz(v)
    }
}

/// One key: named values and subkeys. Names compare case-insensitively and keep the case they were created with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Key {
    values: Vec<(String, Value)>,
    subkeys: Vec<(String, Key)>,
}

impl Key {
    /// The value called `name`; the empty name is the key's default value.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v)
    }

    /// Creates or replaces a value.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        let value = value.into();
        if let Some(slot) = self
            .values
            .iter_mut()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            slot.1 = value;
        } else {
            self.values.push((name.to_owned(), value));
        }
    }

    /// Removes a value; true when it was there.
    pub fn remove_value(&mut self, name: &str) -> bool {
        let before = self.values.len();
        self.values.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.values.len() != before
    }

    /// The values in creation order.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// The direct subkeys in creation order.
    pub fn subkeys(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.subkeys.iter().map(|(n, k)| (n.as_str(), k))
    }

    /// The key at `path` below this one (components separated by `\`); the empty path is this key.
    #[must_use]
    pub fn open(&self, path: &str) -> Option<&Key> {
        components(path).try_fold(self, |key, name| {
            key.subkeys
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, k)| k)
        })
    }

    /// The key at `path`, created with everything on the way to it.
    pub fn create(&mut self, path: &str) -> &mut Key {
        components(path).fold(self, |key, name| {
            let index = key
                .subkeys
                .iter()
                .position(|(n, _)| n.eq_ignore_ascii_case(name))
                .unwrap_or_else(|| {
                    key.subkeys.push((name.to_owned(), Key::default()));
                    key.subkeys.len() - 1
                });
            &mut key.subkeys[index].1
        })
    }

    /// Deletes the key at `path` with everything below it; true when it was there.
    pub fn remove_key(&mut self, path: &str) -> bool {
        let (parent, name) = path
            .trim_matches('\\')
            .rsplit_once('\\')
            .unwrap_or(("", path.trim_matches('\\')));
        if self.open(parent).is_none() || name.is_empty() {
            return false;
        }
        let parent = self.create(parent);
        let before = parent.subkeys.len();
        parent
            .subkeys
            .retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        parent.subkeys.len() != before
    }
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('\\').filter(|c| !c.is_empty())
}

/// One machine's `HKEY_LOCAL_MACHINE` (the only root that installation of a network adapter touches).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    root: Key,
}

impl Registry {
    /// The key at `path` below `HKEY_LOCAL_MACHINE`.
    #[must_use]
    pub fn open(&self, path: &str) -> Option<&Key> {
        self.root.open(path)
    }

    /// The key at `path`, created if need be.
    pub fn create(&mut self, path: &str) -> &mut Key {
        self.root.create(path)
    }

    /// Deletes a key and all below it; true when it was there.
    pub fn remove(&mut self, path: &str) -> bool {
        self.root.remove_key(path)
    }
}

/// `reg query`-like text, for failure messages.
impl fmt::Display for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn walk(key: &Key, path: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (name, value) in key.values() {
                writeln!(f, "{path}: {name} = {value:?}")?;
            }
            key.subkeys()
                .try_for_each(|(name, sub)| walk(sub, &format!("{path}\\{name}"), f))
        }
        walk(&self.root, "HKLM", f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_ignore_case_and_keep_it() {
        let mut r = Registry::default();
        r.create("SYSTEM\\CurrentControlSet\\Services\\vroce")
            .set("Start", 3);
        let key = r
            .open("system\\currentcontrolset\\SERVICES\\VROCE")
            .unwrap();
        assert_eq!(key.value("START").and_then(Value::as_u32), Some(3));
        assert_eq!(key.values().next().unwrap().0, "Start");
        assert!(r.open("SYSTEM\\nope").is_none());
    }

    #[test]
    fn values_are_replaced_and_removed() {
        let mut k = Key::default();
        k.set("a", "x");
        k.set("A", 5);
        assert_eq!(k.values().count(), 1);
        assert_eq!(k.value("a"), Some(&Value::Dword(5)));
        assert!(k.remove_value("a"));
        assert!(!k.remove_value("a"));
    }

    #[test]
    fn removing_a_key_takes_its_children_along() {
        let mut r = Registry::default();
        r.create("a\\b\\c");
        assert!(r.remove("a\\b"));
        assert!(r.open("a").is_some());
        assert!(r.open("a\\b\\c").is_none());
        assert!(!r.remove("a\\b"));
        assert!(!r.remove("x\\y"));
    }
}
