//! What NVMe over Fabrics puts on an RDMA connection, as far as an initiator needs it.
//!
//! Integers are little-endian. The commands are of NVM Express Base 1.4 (Admin Command Set, NVM Command Set, Scatter Gather List), the
//! Fabrics commands and the private data of the connection manager of NVM Express over Fabrics 1.1 (Connect, Property Get, Property
//! Set; RDMA Transport).

/// A namespace, as the commands name it.
pub const NAMESPACE: u32 = 1;

/// Entries of an admin queue that every controller accepts.
pub const ADMIN_ENTRIES: u16 = 32;

/// What the host says in the private data of a connection request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectRequest {
    /// 0 for the admin queue.
    pub queue: u16,
    /// Entries of the submission queue; as many receives can be outstanding on either side.
    pub entries: u16,
}

impl ConnectRequest {
    /// RECFMT 0, QID, HRQSIZE, HSQSIZE (which counts from 0), the rest reserved.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        put(&mut bytes, 2, &self.queue.to_le_bytes());
        put(&mut bytes, 4, &self.entries.to_le_bytes());
        put(&mut bytes, 6, &(self.entries - 1).to_le_bytes());
        bytes
    }
}

/// CRQSIZE of the private data with which a controller accepts: the commands that it can receive. None if the record is too short or
/// of another format.
pub fn accepted(private_data: &[u8]) -> Option<u16> {
    (u16_at(private_data, 0)? == 0)
        .then(|| u16_at(private_data, 2))
        .flatten()
}

/// Where a command's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sgl {
    /// Nowhere: the command has none.
    None,
    /// Behind the command in its capsule, from offset 0 on.
    InCapsule {
        /// Bytes.
        length: u32,
    },
    /// In memory of the host's.
    Keyed {
        /// As the host registered it.
        address: u64,
        /// Bytes, less than 16 MiB.
        length: u32,
        /// R_Key, or token, of the registration.
        key: u32,
        /// Asks the controller to end the registration with the response.
        invalidate: bool,
    },
}

impl Sgl {
    /// The descriptor: Data Block (type 0h) by offset (subtype 1h), Keyed Data Block (type 4h) by address (subtype 0h) or with
    /// remote invalidation (subtype Fh).
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        match self {
            Sgl::None => bytes[15] = 0x40,
            Sgl::InCapsule { length } => {
                put(&mut bytes, 8, &length.to_le_bytes());
                bytes[15] = 0x01;
            }
            Sgl::Keyed {
                address,
                length,
                key,
                invalidate,
            } => {
                debug_assert!(length < 1 << 24, "the length has three bytes");
                put(&mut bytes, 0, &address.to_le_bytes());
                put(&mut bytes, 8, &length.to_le_bytes()[..3]);
                put(&mut bytes, 11, &key.to_le_bytes());
                bytes[15] = if invalidate { 0x4F } else { 0x40 };
            }
        }
        bytes
    }
}

/// Controller properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// CAP: capabilities, 8 bytes.
    Capabilities,
    /// VS: the version of the specification.
    Version,
    /// CC: configuration.
    Configuration,
    /// CSTS: status.
    Status,
}

impl Property {
    fn offset(self) -> u32 {
        match self {
            Property::Capabilities => 0x00,
            Property::Version => 0x08,
            Property::Configuration => 0x14,
            Property::Status => 0x1C,
        }
    }

    /// ATTRIB: 1 for a property of 8 bytes.
    fn attributes(self) -> u8 {
        u8::from(self == Property::Capabilities)
    }
}

/// CC.EN, CC.IOSQES 64 bytes, CC.IOCQES 16 bytes; NVM Command Set, pages of 4 KiB.
pub const ENABLED: u32 = 1 | 6 << 16 | 4 << 20;
/// CC.SHN: a normal shutdown, of an enabled controller.
pub const SHUTDOWN: u32 = ENABLED | 1 << 14;
/// CSTS.RDY.
pub const READY: u64 = 1;
/// CSTS.SHST: mask, and the value of a shutdown that is complete.
pub const SHUTDOWN_STATUS: u64 = 3 << 2;
/// See [`SHUTDOWN_STATUS`].
pub const SHUTDOWN_COMPLETE: u64 = 2 << 2;

/// What Identify is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identify {
    /// [`NAMESPACE`]: CNS 0.
    Namespace,
    /// The controller: CNS 1.
    Controller,
}

/// Transfers of the NVM command set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the controller: Write.
    Write,
    /// To the host: Read.
    Read,
}

/// A submission queue entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command([u8; Command::LEN]);

impl Command {
    /// Bytes; a command capsule has no more unless it carries data.
    pub const LEN: usize = 64;

    /// FUSE 0, PSDT 1: every command over Fabrics uses SGLs.
    fn new(opcode: u8) -> Command {
        let mut bytes = [0; Self::LEN];
        bytes[0] = opcode;
        bytes[1] = 0x40;
        Command(bytes)
    }

    fn fabrics(kind: u8) -> Command {
        Command::new(0x7F).with(4, &[kind])
    }

    fn with(mut self, at: usize, field: &[u8]) -> Command {
        put(&mut self.0, at, field);
        self
    }

    /// Connect a queue, with the data of [`connect_data`](super::data::connect_data) and no keep-alive.
    pub fn connect(request: ConnectRequest) -> Command {
        Command::fabrics(0x01)
            .with(42, &request.queue.to_le_bytes())
            .with(44, &(request.entries - 1).to_le_bytes())
    }

    /// Property Get.
    pub fn property_get(property: Property) -> Command {
        Command::fabrics(0x04)
            .with(40, &[property.attributes()])
            .with(44, &property.offset().to_le_bytes())
    }

    /// Property Set of 4 bytes.
    pub fn property_set(property: Property, value: u32) -> Command {
        Command::fabrics(0x00)
            .with(44, &property.offset().to_le_bytes())
            .with(48, &value.to_le_bytes())
    }

    /// Identify: 4096 bytes to the host.
    pub fn identify(what: Identify) -> Command {
        match what {
            Identify::Namespace => Command::new(0x06).with(4, &NAMESPACE.to_le_bytes()),
            Identify::Controller => Command::new(0x06).with(40, &[1]),
        }
    }

    /// Set Features, Number of Queues: one pair for I/O.
    pub fn one_io_queue() -> Command {
        Command::new(0x09).with(40, &[0x07])
    }

    /// Read or Write `blocks` logical blocks of [`NAMESPACE`].
    pub fn transfer(direction: Direction, lba: u64, blocks: u16) -> Command {
        let opcode = match direction {
            Direction::Write => 0x01,
            Direction::Read => 0x02,
        };
        Command::new(opcode)
            .with(4, &NAMESPACE.to_le_bytes())
            .with(40, &lba.to_le_bytes())
            .with(48, &(blocks - 1).to_le_bytes())
    }

    /// Flush [`NAMESPACE`].
    pub fn flush() -> Command {
        Command::new(0x00).with(4, &NAMESPACE.to_le_bytes())
    }

    /// A command that transfers to the host by its opcode, which no command set defines (7Eh is before Fabrics' own).
    pub fn unknown() -> Command {
        Command::new(0x7E).with(4, &NAMESPACE.to_le_bytes())
    }

    /// The capsule's bytes, with the command's identifier and its data's place.
    pub fn to_bytes(self, id: u16, data: Sgl) -> [u8; Self::LEN] {
        self.with(2, &id.to_le_bytes()).with(24, &data.to_bytes()).0
    }
}

/// A completion queue entry: a response capsule is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Specific to the command.
    pub result: u64,
    /// Identifier of the command.
    pub id: u16,
    /// 0 is success.
    pub status: Status,
}

impl Response {
    /// Bytes.
    pub const LEN: usize = 16;

    /// From a received capsule.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Response {
        let [a, b, c, d, e, f, g, h, .., id0, id1, status0, status1] = bytes;
        Response {
            result: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            id: u16::from_le_bytes([id0, id1]),
            status: Status(u16::from_le_bytes([status0, status1]) >> 1),
        }
    }
}

/// The status field, without the phase tag: code in bits 7:0, type in bits 10:8, Do Not Retry in bit 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u16);

impl Status {
    /// Generic command status: successful.
    pub const SUCCESS: Status = Status(0);
    /// Generic command status: Invalid Command Opcode.
    pub const INVALID_OPCODE: Status = Status(0x001);

    /// Without the bit that says whether to try again.
    pub fn code(self) -> Status {
        Status(self.0 & 0x7FF)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "status type {} code {:#04x}",
            self.0 >> 8 & 7,
            self.0 & 0xFF
        )
    }
}

/// Writes a field.
pub fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..][..field.len()].copy_from_slice(field);
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A field, if it is there.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

/// A field, if it is there.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

/// A field, if it is there.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Bytes by their offset; all others are zero.
    pub fn sparse<const N: usize>(parts: &[(usize, &[u8])]) -> [u8; N] {
        let mut bytes = [0; N];
        for (at, part) in parts {
            put(&mut bytes, *at, part);
        }
        bytes
    }

    #[test]
    fn a_connection_request_tells_queue_and_sizes() {
        let request = ConnectRequest {
            queue: 0x0102,
            entries: 32,
        };
        assert_eq!(
            request.to_bytes(),
            sparse::<32>(&[(2, &[2, 1]), (4, &[32, 0]), (6, &[31, 0])])
        );
        assert_eq!(accepted(&[0, 0, 0x80, 0x01, 0xEE]), Some(0x180));
        assert_eq!(accepted(&[1, 0, 0x80, 0x01]), None, "another format");
        assert_eq!(accepted(&[0, 0, 0x80]), None, "too short");
    }

    #[test]
    fn descriptors_say_where_data_is() {
        let keyed = |invalidate| Sgl::Keyed {
            address: 0x1122_3344_5566_7788,
            length: 0x0010_0203,
            key: 0xAABB_CCDD,
            invalidate,
        };
        let mut bytes = [
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, // address
            0x03, 0x02, 0x10, // length
            0xDD, 0xCC, 0xBB, 0xAA, // key
            0x40,
        ];
        assert_eq!(keyed(false).to_bytes(), bytes);
        bytes[15] = 0x4F;
        assert_eq!(keyed(true).to_bytes(), bytes);
        assert_eq!(
            Sgl::InCapsule { length: 0x1200 }.to_bytes(),
            sparse::<16>(&[(9, &[0x12]), (15, &[0x01])])
        );
        assert_eq!(Sgl::None.to_bytes(), sparse::<16>(&[(15, &[0x40])]));
    }

    #[test]
    fn fabrics_commands_are_laid_out() {
        let of = |command: Command| command.to_bytes(0x0201, Sgl::None);
        let common: [(usize, &[u8]); 2] = [(0, &[0x7F, 0x40, 0x01, 0x02]), (39, &[0x40])];
        let expected = |kind: u8, rest: &[(usize, &[u8])]| {
            let kind = [kind];
            let parts = [common.as_slice(), &[(4, &kind)], rest].concat();
            sparse::<64>(&parts)
        };
        let queue = ConnectRequest {
            queue: 1,
            entries: 16,
        };
        assert_eq!(
            of(Command::connect(queue)),
            expected(0x01, &[(42, &[1]), (44, &[15])])
        );
        assert_eq!(
            of(Command::property_get(Property::Capabilities)),
            expected(0x04, &[(40, &[1])])
        );
        assert_eq!(
            of(Command::property_get(Property::Status)),
            expected(0x04, &[(44, &[0x1C])])
        );
        // What a host writes to enable a controller: 00460001h.
        assert_eq!(
            of(Command::property_set(Property::Configuration, ENABLED)),
            expected(0x00, &[(44, &[0x14]), (48, &[0x01, 0x00, 0x46])])
        );
        assert_eq!(SHUTDOWN, 0x0046_4001);
    }

    #[test]
    fn admin_and_io_commands_are_laid_out() {
        let of = |command: Command| command.to_bytes(7, Sgl::InCapsule { length: 512 });
        let expected = |opcode: u8, rest: &[(usize, &[u8])]| {
            let head = [opcode, 0x40, 7];
            let common: [(usize, &[u8]); 3] = [(0, &head), (33, &[2]), (39, &[1])];
            sparse::<64>(&[common.as_slice(), rest].concat())
        };
        assert_eq!(
            of(Command::identify(Identify::Controller)),
            expected(0x06, &[(40, &[1])])
        );
        assert_eq!(
            of(Command::identify(Identify::Namespace)),
            expected(0x06, &[(4, &[1])])
        );
        assert_eq!(of(Command::one_io_queue()), expected(0x09, &[(40, &[7])]));
        let lba = 0x0000_0001_0203_0405;
        let range: [(usize, &[u8]); 3] = [
            (4, &[1]),
            (40, &[0x05, 0x04, 0x03, 0x02, 0x01]),
            (48, &[0xFF, 0x07]),
        ];
        assert_eq!(
            of(Command::transfer(Direction::Write, lba, 2048)),
            expected(0x01, &range)
        );
        assert_eq!(
            of(Command::transfer(Direction::Read, lba, 2048)),
            expected(0x02, &range)
        );
        assert_eq!(of(Command::flush()), expected(0x00, &[(4, &[1])]));
    }

    #[test]
    fn responses_carry_result_and_status() {
        let bytes = [
            0x01, 0, 0, 0, 0xFF, 0, 0, 0, // result
            0x05, 0, 0x01, 0, // SQHD, SQID
            0x34, 0x12, // identifier
            0x02, 0x80, // Invalid Opcode, Do Not Retry, phase 0
        ];
        let response = Response::from_bytes(bytes);
        assert_eq!((response.result, response.id), (0xFF_0000_0001, 0x1234));
        assert_eq!(response.status, Status(0x4001));
        assert_eq!(response.status.code(), Status::INVALID_OPCODE);
        assert_eq!(
            Status(0x4182).to_string(),
            "status type 1 code 0x82",
            "Connect Invalid Parameters"
        );
    }
}
