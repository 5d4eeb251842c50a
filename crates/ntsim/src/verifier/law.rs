//! What rules say, for reports.

use std::fmt;

use crate::ndk::rules::{RULES, Whose};

/// The text of each of some rules, by name.
pub(crate) type Texts = &'static [(&'static str, &'static str)];

/// Declares rules: constants whose documentation is what reports say of them.
macro_rules! stated {
    ($( $(#[doc = $text:literal])+ pub const $constant:ident: &str = $name:literal; )*) => {
        $( $(#[doc = $text])+ pub const $constant: &str = $name; )*

        /// What each says.
        pub(crate) static TEXTS: $crate::verifier::law::Texts =
            &[$( ($name, concat!($($text),+)) ),*];
    };
}
pub(crate) use stated;

static ALL: [Texts; 5] = [
    super::rules::TEXTS,
    crate::etw::rules::TEXTS,
    crate::ndis::rules::TEXTS,
    crate::pci::rules::TEXTS,
    crate::virtio_net::rules::TEXTS,
];

/// A rule as a report explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Law {
    /// Who must obey it, if that is not every driver.
    pub(crate) whose: Option<&'static str>,
    text: &'static str,
    source: Option<&'static str>,
}

impl Law {
    /// The rule of that name; None for names that tests invent.
    pub(crate) fn of(rule: &str) -> Option<Law> {
        let of_ndk = RULES.iter().find(|r| r.name == rule).map(|r| Law {
            whose: Some(match r.whose {
                Whose::Provider => "the NDK provider",
                Whose::Consumer => "the NDK consumer",
            }),
            text: r.text,
            source: Some(r.source),
        });
        of_ndk.or_else(|| {
            let (_, text) = ALL.iter().flat_map(|t| t.iter()).find(|t| t.0 == rule)?;
            Some(Law {
                whose: None,
                text: text.trim(),
                source: None,
            })
        })
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            // What NDK demands; the kernel's rules are worded as what was done.
            Some(source) => write!(f, "the rule: {} (page {source})", self.text),
            None => write!(f, "that is: {}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Law;

    #[test]
    fn every_kind_of_rule_has_its_text() {
        for (rule, part) in [
            (crate::verifier::rules::POOL_TAG, "with another tag"),
            (crate::ndis::rules::HANDLE, "was freed"),
            (
                crate::pci::rules::NOT_DECODING,
                "before it was started or after it was stopped",
            ),
            (crate::virtio_net::rules::RING, "descriptor chain"),
            (
                crate::ndk::rules::OBJECT_TYPE,
                "names its type. (page ns-ndkpi-_ndk_object_header)",
            ),
        ] {
            let law = Law::of(rule).expect(rule).to_string();
            assert!(law.contains(part), "{part:?} in {law:?}");
        }
        assert_eq!(Law::of("test"), None);
    }
}
