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

/// What a rule is about: options of Driver Verifier, and what it has none for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Special pool.
    SpecialPool,
    /// Force IRQL checking.
    Irql,
    /// Pool tracking.
    PoolTracking,
    /// Deadlock detection.
    Deadlock,
    /// DMA checking.
    Dma,
    /// DDI compliance checking.
    Ddi,
    /// Invariant MDL checking.
    Mdl,
    /// I/O verification, as far as there is I/O: work items, handles, device memory.
    Io,
    /// What a driver leaves behind when it is unloaded.
    Unload,
    /// Stack use.
    Stack,
    /// Faults and loops, which no machine survives.
    Crash,
    /// Control flow guard.
    Guard,
    /// NDIS and the framework (NDIS/WIFI verification).
    Ndis,
    /// The hardware: PCI, and the virtio NIC.
    Device,
    /// Event tracing.
    Tracing,
    /// What NDK demands of providers.
    NdkProvider,
    /// What NDK demands of consumers.
    NdkConsumer,
    /// No rule: what the simulator cannot do.
    Simulator,
}

impl Class {
    /// Of a rule of that name; None for what is no rule's.
    fn of(rule: &str) -> Option<Class> {
        if let Some(rule) = RULES.iter().find(|r| r.name == rule) {
            return Some(match rule.whose {
                Whose::Provider => Class::NdkProvider,
                Whose::Consumer => Class::NdkConsumer,
            });
        }
        // The first that a name begins with.
        const CLASSES: &[(&str, Class)] = &[
            ("not-simulated", Class::Simulator),
            ("pool-guard", Class::SpecialPool),
            ("pool-use-after-free", Class::SpecialPool),
            ("freed-in-use", Class::SpecialPool),
            ("pool-argument", Class::Ddi),
            ("pool-", Class::PoolTracking),
            ("irql", Class::Irql),
            ("paged-access", Class::Irql),
            ("lock-", Class::Deadlock),
            ("wait-", Class::Deadlock),
            ("set-and-wait", Class::Ddi),
            ("deadlock", Class::Deadlock),
            ("dma-", Class::Dma),
            ("mdl-", Class::Mdl),
            ("timer-at-unload", Class::Unload),
            ("dpc-at-unload", Class::Unload),
            ("thread-at-unload", Class::Unload),
            ("work-item-at-unload", Class::Unload),
            ("handle-at-unload", Class::Unload),
            ("executive-at-unload", Class::Unload),
            ("io-mapping-leak", Class::Unload),
            ("work-item", Class::Io),
            ("stack-", Class::Stack),
            ("dpc-storm", Class::Crash),
            ("stall", Class::Crash),
            ("hang", Class::Crash),
            ("bugcheck", Class::Crash),
            ("access-violation", Class::Crash),
            ("guard-target", Class::Guard),
            ("uninitialized-object", Class::Ddi),
            ("object-in-use", Class::Ddi),
            ("bad-address", Class::Ddi),
            ("rundown", Class::Ddi),
            ("resource", Class::Ddi),
            ("reference", Class::Ddi),
            ("register-instruction", Class::Device),
            ("pci-", Class::Device),
            ("virtio-", Class::Device),
            ("ndis.", Class::Ndis),
            ("netio", Class::Ndis),
            ("wdf", Class::Ndis),
            ("etw-", Class::Tracing),
        ];
        let found = CLASSES.iter().find(|(begin, _)| rule.starts_with(begin));
        found.map(|(_, class)| *class)
    }
}

/// A rule, for lists and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in reports.
    pub name: &'static str,
    /// What it is about.
    pub class: Class,
    /// What it says: of NDK's what is demanded, of all others what it is that was done.
    pub text: &'static str,
    /// Page of the Windows driver documentation that says so, of NDK's.
    pub source: Option<&'static str>,
}

/// Every rule, part by part.
#[must_use]
pub fn all_rules() -> Vec<Rule> {
    let others = ALL.iter().flat_map(|texts| texts.iter());
    let others = others.map(|(name, text)| (*name, text.trim(), None));
    let of_ndk = RULES.iter().map(|r| (r.name, r.text, Some(r.source)));
    others
        .chain(of_ndk)
        .map(|(name, text, source)| Rule {
            name,
            class: Class::of(name).expect("a test looks that each has one"),
            text,
            source,
        })
        .collect()
}

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
    use super::{ALL, Class, Law, RULES, all_rules};

    #[test]
    fn every_rule_has_a_name_of_its_own_and_a_class() {
        let all = ALL.iter().flat_map(|texts| texts.iter().map(|t| t.0));
        let mut names: Vec<_> = all.chain(RULES.iter().map(|r| r.name)).collect();
        for name in &names {
            assert!(Class::of(name).is_some(), "{name} has no class");
        }
        assert_eq!(all_rules().len(), names.len());
        names.sort_unstable();
        let doubled = names.windows(2).find(|two| two[0] == two[1]);
        assert_eq!(doubled, None);
        assert_eq!(Class::of("test"), None);
    }

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
