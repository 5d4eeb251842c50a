//! The rules: what each is called, and which document states it.
//!
//! A number is infverif's own code for the rule ("INF Validation Errors and Warnings"); a name is a rule of a setup class, which
//! infverif does not look at.

use std::fmt;

/// A rule and where it is broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// 1-based line.
    pub line: usize,
    /// What is broken.
    pub rule: Rule,
    /// How.
    pub text: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, rule) = (self.line, self.rule);
        write!(
            f,
            "{line}: {}: {} ({})",
            rule.id(),
            self.text,
            rule.source()
        )
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $source:literal;)*) => {
        /// A rule.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// Every rule.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// infverif's code, or a name.
            pub fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// Title of the page of Microsoft's driver documentation that states it.
            pub fn source(self) -> &'static str {
                match self {
                    $(Self::$name => $source,)*
                }
            }
        }
    };
}

rules! {
    /// What the file is not.
    Signature = "1001", "INF Version section";
    /// A line that is none.
    Syntax = "1002", "General syntax rules for INF files";
    /// Characters beyond ASCII mean different things on different machines, unless the file is UTF-16.
    Encoding = "1003", "INF Validation Errors and Warnings";
    /// A directive without what it needs.
    ValueMissing = "1006", "INF Validation Errors and Warnings";
    /// Two sections of one name.
    SectionTwice = "1209", "General syntax rules for INF files";
    /// A reference to a section that is not there.
    SectionNotFound = "1203", "INF Validation Errors and Warnings";
    /// One section, two kinds of directive.
    SectionKind = "1206", "INF Validation Errors and Warnings";
    /// A section that nothing refers to.
    SectionUnused = "2083", "INF Validation Errors and Warnings";
    /// A directive that the section does not have.
    DirectiveInvalid = "1290", "INF Validation Errors and Warnings";
    /// A directive twice, of which one takes effect.
    DirectiveTwice = "1088", "INF Validation Errors and Warnings";

    /// %token% without a string.
    StringUndefined = "1235", "INF Strings section";
    /// A string of one name twice.
    StringTwice = "1294", "INF Strings section";
    /// A string that no token names.
    StringUnused = "strings.unused", "INF Strings section";

    /// Class, ClassGuid, Provider, DriverVer.
    VersionMissing = "1234", "INF Version section";
    /// CatalogFile.
    CatalogMissing = "1233", "INF Version section";
    /// Not NAME.cat.
    CatalogName = "1214", "INF Version section";
    /// Not a GUID in braces.
    ClassGuid = "1010", "INF Version section";
    /// Another class's GUID.
    ClassMismatch = "1281", "INF Version section";
    /// Somebody else's name.
    Provider = "1204", "INF Validation Errors and Warnings";
    /// w.x.y.z.
    DriverVersion = "1217", "INF DriverVer directive";
    /// mm/dd/yyyy.
    DriverDate = "1218", "INF DriverVer directive";
    /// PnpLockdown = 1.
    Lockdown = "1324", "INF Version section";
    /// Directives of installers that are gone.
    LegacyVersion = "2009", "INF Version section";

    /// A manufacturer without models.
    ModelsMissing = "1011", "INF Manufacturer section";
    /// What is no TargetOSVersion.
    Decoration = "1287", "INF Manufacturer section";
    /// Builds are told apart from 14310 on only.
    DecorationBuild = "1288", "INF Manufacturer section";
    /// $ARCH$ that nobody replaced.
    Unstamped = "1274", "Stampinf Command Options";
    /// Without an architecture: x86.
    Undecorated = "2010", "INF Models section";
    /// An older Windows than the syntax needs.
    TooOld = "1199", "Run From Driver Store";
    /// A model without an install section.
    InstallMissing = "1271", "INF Models section";
    /// A model whose install section is not there.
    InstallNotFound = "1261", "INF Models section";
    /// One hardware id, two models.
    HardwareIdTwice = "1086", "INF Models section";
    /// A virtio card's subsystem, which the usual driver of such cards names too: of equals the newer takes every card.
    Outranks = "models.rank", "How Windows Ranks Drivers";

    /// Co-installers.
    CoInstaller = "1303", "INF Validation Errors and Warnings";
    /// Sections and directives that Windows no longer carries out.
    Legacy = "1300", "INF Validation Errors and Warnings";
    /// An INF only adds.
    NotAdditive = "1308", "INF Validation Errors and Warnings";
    /// A class that Microsoft defines installs itself.
    ClassInstall = "1285", "INF ClassInstall32 section";
    /// A device's INF is not a primitive one.
    DefaultInstall = "1212", "INF DefaultInstall section";

    /// CopyFiles of a file that has no source.
    SourceMissing = "1230", "INF SourceDisksFiles section";
    /// A disk that is none.
    DiskInvalid = "1008", "INF SourceDisksFiles section";
    /// A disk that is not listed.
    DiskMissing = "1273", "INF SourceDisksNames section";
    /// The catalog is not copied.
    CatalogCopied = "1213", "INF Version section";
    /// .sy_
    Compressed = "1231", "INF SourceDisksFiles section";
    /// A file that goes nowhere.
    DestinationMissing = "1275", "INF DestinationDirs section";
    /// Anything but the driver store.
    DestinationShared = "1322", "Driver package isolation";
    /// Renamed or moved within the driver store.
    DestinationMoved = "1100", "Run From Driver Store";

    /// No such root.
    RootInvalid = "1224", "INF AddReg directive";
    /// A root that others share.
    RootShared = "1320", "Driver package isolation";
    /// A service's values are in Parameters.
    ServiceKey = "1323", "Driver package isolation";
    /// No number.
    Number = "1268", "INF AddReg directive";
    /// No byte.
    Byte = "1267", "INF AddReg directive";
    /// Flags that mean nothing.
    RegistryFlags = "1082", "INF AddReg directive";
    /// Appending to what others wrote.
    Append = "1305", "INF Validation Errors and Warnings";
    /// A value that Windows knows, of another type.
    WellKnownType = "1431", "INF AddReg directive";
    /// One value twice.
    ValueTwice = "1331", "INF Validation Errors and Warnings";

    /// No function driver.
    ServiceMissing = "1296", "INF AddService directive";
    /// Two function drivers.
    ServiceTwice = "1211", "INF AddService directive";
    /// Flags that a function driver does not have.
    ServiceFlags = "1083", "INF AddService directive";
    /// ServiceType, StartType, ErrorControl, ServiceBinary.
    ServiceIncomplete = "1289", "INF AddService directive";
    /// A value that the directive does not have.
    ServiceValue = "1081", "INF AddService directive";
    /// A service that never starts.
    ServiceDisabled = "1251", "INF AddService directive";
    /// A path that is not under a directory id.
    BinaryPath = "2085", "INF AddService directive";
    /// A file that is not in the package.
    BinaryForeign = "2084", "INF AddService directive";
    /// System, Application, Security.
    EventLogType = "1250", "INF AddService directive";
    /// A framework's directive for nobody's service.
    WdfService = "2501", "Specifying WDF Directives in INF Files";
    /// KmdfService without KmdfLibraryVersion.
    WdfVersion = "1084", "Specifying WDF Directives in INF Files";

    /// *IfType, *MediaType and *PhysicalMediaType, which NDIS demands.
    NetType = "net.type", "Standardized INF Keywords for Network Devices";
    /// Characteristics.
    NetCharacteristics = "net.characteristics", "DDInstall Section in a Network INF File";
    /// BusType.
    NetBus = "net.bus", "DDInstall Section in a Network INF File";
    /// Ndi\Service.
    NetService = "net.service", "Adding Service-Related Values to the Ndi Key";
    /// Ndi\Interfaces.
    NetInterfaces = "net.interfaces", "Specifying Binding Interfaces";
    /// What an NDK provider's UpperRange is.
    NdkUpperRange = "ndk.upperrange", "INF Requirements for NDKPI";
    /// The three keywords that an NDK provider has.
    NdkKeyword = "ndk.keyword", "INF Requirements for NDKPI";
    /// Interrupt Management\MessageSignaledInterruptProperties.
    Msi = "msi", "Enabling message-signaled interrupts in the registry";

    /// A parameter without ParamDesc or Type.
    ParamIncomplete = "param.incomplete", "Specifying config parameters for the Advanced Properties page";
    /// A value that parameters do not have, or of another registry type than text.
    ParamValue = "param.value", "Specifying config parameters for the Advanced Properties page";
    /// A type that parameters do not have.
    ParamType = "param.type", "Specifying config parameters for the Advanced Properties page";
    /// Optional is 0 or 1.
    ParamOptional = "param.optional", "Specifying config parameters for the Advanced Properties page";
    /// A default that is missing or that nobody could choose.
    ParamDefault = "param.default", "Specifying config parameters for the Advanced Properties page";
    /// Min, Max and Step.
    ParamRange = "param.range", "Specifying config parameters for the Advanced Properties page";
    /// Choices where there are none, or none where there should be.
    ParamChoices = "param.choices", "Specifying config parameters for the Advanced Properties page";
    /// A name of the system's.
    ParamReserved = "param.reserved", "Specifying config parameters for the Advanced Properties page";

    /// A * that Microsoft did not give.
    KeywordUnknown = "keyword.unknown", "Standardized INF Keywords for Network Devices";
    /// The text that administrators know it by.
    KeywordText = "keyword.text", "Standardized INF Keywords for Network Devices";
    /// enum, int or edit.
    KeywordType = "keyword.type", "Standardized INF Keywords for Network Devices";
    /// The default that the documentation gives.
    KeywordDefault = "keyword.default", "Standardized INF Keywords for Network Devices";
    /// The choices that the documentation gives.
    KeywordChoices = "keyword.choices", "Standardized INF Keywords for Network Devices";
    /// Outside the range that the documentation gives.
    KeywordRange = "keyword.range", "Standardized INF Keywords for Network Devices";
}
