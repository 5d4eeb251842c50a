//! Event tracing: providers, a session for each that a test listens to, and what it heard.
//!
//! A provider is told of its session as Windows tells it: by a call of its callback at PASSIVE_LEVEL, within `EtwRegister` if the session
//! was there first. Events must describe themselves (TraceLogging).

mod decode;
pub mod rules;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ptr;

use ndis_sys::types::{NTSTATUS, c_void};
use ndis_sys::wdm::{
    ETWENABLECALLBACK, EVENT_CONTROL_CODE_DISABLE_PROVIDER, EVENT_CONTROL_CODE_ENABLE_PROVIDER,
    EVENT_DESCRIPTOR,
};

pub use ndis_sys::wdm::GUID;

use crate::consumer::Status;
use crate::verifier::{self, Function};
use crate::world::driver::{Charged, DriverNumber};
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::PASSIVE;
use crate::world::{MachineId, World, context};

static ENABLE: Function = Function::callback("EtwEnableCallback", PASSIVE..=PASSIVE);

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number without sign.
    Number(u64),
    /// Yes or no.
    Bool(bool),
    /// A status.
    Status(NTSTATUS),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Address and port.
    Address(SocketAddr),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Bool(value) => value.fmt(f),
            Self::Status(status) => Status(*status).fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => {
                for (i, byte) in bytes.iter().enumerate() {
                    write!(f, "{}{byte:02x}", if i > 0 { "-" } else { "" })?;
                }
                Ok(())
            }
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// An event that a session got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// When, in nanoseconds of the world's clock.
    pub time: u64,
    /// The machine's name.
    pub machine: String,
    /// The provider's name.
    pub provider: String,
    /// The event's name.
    pub name: String,
    /// How urgent: 1 (critical) to 5 (verbose).
    pub level: u8,
    /// What it is about.
    pub keyword: u64,
    /// Its fields in order.
    pub fields: Vec<(String, Value)>,
}

impl Traced {
    /// The value of a field, if the event has it.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields
            .iter()
            .find_map(|(name, value)| (name == field).then_some(value))
    }

    /// The number in a field.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn number(&self, field: &str) -> u64 {
        match self.get(field) {
            Some(Value::Number(number)) => *number,
            other => panic!("{field} of {self} is {other:?}, not a number"),
        }
    }

    /// The text in a field.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn text(&self, field: &str) -> &str {
        match self.get(field) {
            Some(Value::Text(text)) => text,
            other => panic!("{field} of {self} is {other:?}, not a text"),
        }
    }

    /// The status in a field.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn status(&self, field: &str) -> NTSTATUS {
        match self.get(field) {
            Some(Value::Status(status)) => *status,
            other => panic!("{field} of {self} is {other:?}, not a status"),
        }
    }

    /// The address in a field.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn address(&self, field: &str) -> SocketAddr {
        match self.get(field) {
            Some(Value::Address(address)) => *address,
            other => panic!("{field} of {self} is {other:?}, not an address"),
        }
    }
}

impl fmt::Display for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        for (name, value) in &self.fields {
            write!(f, " {name}={value}")?;
        }
        Ok(())
    }
}

/// What a session wants of a provider.
#[derive(Clone, Copy, Debug)]
pub struct TraceConfig {
    /// The provider.
    pub provider: GUID,
    /// The least urgent level; 0 and 255 for all.
    pub level: u8,
    /// Keywords of which an event must have one; 0 for all.
    pub any: u64,
    /// Keywords of which an event must have all.
    pub all: u64,
}

impl TraceConfig {
    /// Everything that a provider writes.
    #[must_use]
    pub fn all(provider: GUID) -> Self {
        TraceConfig {
            provider,
            level: u8::MAX,
            any: 0,
            all: 0,
        }
    }

    fn wants(&self, event: &EVENT_DESCRIPTOR) -> bool {
        let keyword = event.Keyword;
        (self.level == 0 || event.Level <= self.level)
            && (keyword == 0
                || ((self.any == 0 || keyword & self.any != 0) && keyword & self.all == self.all))
    }
}

#[derive(Clone)]
struct Provider {
    id: GUID,
    callback: Option<ETWENABLECALLBACK>,
    context: *mut c_void,
    owner: DriverNumber,
    /// What it has said of itself.
    traits: Option<Vec<u8>>,
}

/// A machine's providers, sessions and what they heard.
#[derive(Default)]
pub(crate) struct Tracing {
    providers: RefCell<BTreeMap<u64, Provider>>,
    sessions: RefCell<Vec<TraceConfig>>,
    heard: RefCell<Vec<Traced>>,
    serial: Cell<u64>,
}

impl Tracing {
    fn session(&self, provider: &GUID) -> Option<TraceConfig> {
        let sessions = self.sessions.borrow();
        sessions.iter().find(|s| s.provider == *provider).copied()
    }

    /// A provider registers: its handle.
    pub(crate) fn register(
        &self,
        id: GUID,
        callback: Option<ETWENABLECALLBACK>,
        context: *mut c_void,
        owner: DriverNumber,
    ) -> u64 {
        // Never given out twice: a stale one is found out.
        let handle = self.serial.get() + 0x10;
        self.serial.set(handle);
        let provider = Provider {
            id,
            callback,
            context,
            owner,
            traits: None,
        };
        self.providers.borrow_mut().insert(handle, provider);
        handle
    }

    /// Ends a registration.
    pub(crate) fn unregister(&self, handle: u64) {
        self.providers.borrow_mut().remove(&handle);
    }

    /// Whether a provider has that handle.
    pub(crate) fn is_registered(&self, handle: u64) -> bool {
        self.providers.borrow().contains_key(&handle)
    }

    /// Whether a provider has said who it is.
    pub(crate) fn has_traits(&self, handle: u64) -> bool {
        let providers = self.providers.borrow();
        providers.get(&handle).is_some_and(|p| p.traits.is_some())
    }

    /// Whether a session wants an event of a provider.
    pub(crate) fn is_wanted(&self, handle: u64, event: &EVENT_DESCRIPTOR) -> bool {
        let id = self.providers.borrow().get(&handle).map(|p| p.id);
        id.and_then(|id| self.session(&id))
            .is_some_and(|session| session.wants(event))
    }

    /// Tells a provider what its session wants, if it has one; and if it has none any more, that.
    pub(crate) fn tell(&self, handle: u64, source: *const GUID, ended: bool) {
        let Some(provider) = self.providers.borrow().get(&handle).cloned() else {
            return;
        };
        let session = self.session(&provider.id);
        let (Some(callback), true) = (provider.callback, session.is_some() || ended) else {
            return;
        };
        let (code, level, any, all) = match &session {
            Some(session) => (
                EVENT_CONTROL_CODE_ENABLE_PROVIDER,
                session.level,
                session.any,
                session.all,
            ),
            None => (EVENT_CONTROL_CODE_DISABLE_PROVIDER, 0, 0, 0),
        };
        // The host starts traces, on behalf of nobody.
        let _charged = Charged::to(provider.owner);
        call_driver(&ENABLE, callback as *const (), || {
            // SAFETY: the provider's callback with its context, while it is registered.
            unsafe {
                callback(
                    source,
                    code,
                    level,
                    any,
                    all,
                    ptr::null_mut(),
                    provider.context,
                );
            }
        });
    }

    /// A provider says who it is.
    pub(crate) fn set_traits(&self, handle: u64, traits: Vec<u8>) {
        if let Err(wrong) = decode::provider(&traits) {
            accuse(&format!(
                "EtwSetInformation, the provider's traits: {wrong}"
            ));
        }
        if let Some(provider) = self.providers.borrow_mut().get_mut(&handle) {
            provider.traits = Some(traits);
        }
    }

    /// An event of a provider that its session wants.
    pub(crate) fn hear(
        &self,
        machine: &Machine,
        handle: u64,
        event: &EVENT_DESCRIPTOR,
        [provider, metadata, data]: [&[u8]; 3],
    ) {
        let Some(known) = self.providers.borrow().get(&handle).cloned() else {
            return;
        };
        if known.traits.as_deref() != Some(provider) {
            accuse("EtwWriteTransfer: the event names another provider than its handle");
        }
        let decoded = decode::provider(provider).and_then(|provider| {
            decode::event(metadata, data).map(|(name, fields)| (provider, name, fields))
        });
        let (provider, name, fields) = match decoded {
            Ok(decoded) => decoded,
            Err(wrong) => return accuse(&format!("EtwWriteTransfer: {wrong}")),
        };
        let traced = Traced {
            time: context::core().now(),
            machine: machine.name.clone(),
            provider,
            name,
            level: event.Level,
            keyword: event.Keyword,
            fields,
        };
        self.heard.borrow_mut().push(traced);
    }

    /// Accuses a driver that has gone of registrations that it left behind.
    pub(crate) fn check_unload(&self, driver: DriverNumber, name: &str, when: &str) {
        let mut providers = self.providers.borrow_mut();
        let before = providers.len();
        providers.retain(|_, provider| provider.owner != driver);
        if providers.len() < before {
            verifier::violation(
                rules::AT_UNLOAD,
                format!("{when}: {name} is registered as a provider of events"),
            );
        }
    }
}

/// Accuses of a description that is none.
pub(crate) fn accuse(what: &str) {
    verifier::violation(rules::DESCRIPTION, what);
}

impl World {
    /// Listens to a provider on a machine, whether it is registered already or not. What an earlier session wanted of it is forgotten.
    pub fn start_trace(&mut self, machine: MachineId, config: TraceConfig) {
        let provider = config.provider;
        self.set_session(machine, provider, Some(config));
    }

    /// Listens no more.
    pub fn stop_trace(&mut self, machine: MachineId, provider: GUID) {
        self.set_session(machine, provider, None);
    }

    fn set_session(&mut self, machine: MachineId, provider: GUID, config: Option<TraceConfig>) {
        let machine = self.machine(machine);
        let tracing = machine.ext::<Tracing>();
        let ended = config.is_none();
        {
            let mut sessions = tracing.sessions.borrow_mut();
            sessions.retain(|session| session.provider != provider);
            sessions.extend(config);
        }
        {
            let _entered = machine.enter(0);
            let handles: Vec<u64> = tracing.providers.borrow().keys().copied().collect();
            for handle in handles {
                let id = tracing.providers.borrow().get(&handle).map(|p| p.id);
                if id == Some(provider) {
                    tracing.tell(handle, &GUID::ZEROED, ended);
                }
            }
        }
        self.check();
    }

    /// What the sessions of a machine have heard so far.
    #[must_use]
    pub fn traced(&self, machine: MachineId) -> Vec<Traced> {
        self.traced_from(machine, 0)
    }

    /// The same, without the first so many events.
    #[must_use]
    pub fn traced_from(&self, machine: MachineId, from: usize) -> Vec<Traced> {
        let tracing = self.machine(machine).ext::<Tracing>();
        let heard = tracing.heard.borrow();
        heard.get(from..).unwrap_or_default().to_vec()
    }
}
