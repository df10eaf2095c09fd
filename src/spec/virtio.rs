//! Virtual I/O Device (VIRTIO) version 1.3: numbers of the PCI transport, the device status and the device types that are
//! offered here. Sections are named beside each item.

/// What kind of device it is (VIRTIO 1.3, chapter 5). Unknown values are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceType(pub u16);

impl DeviceType {
    /// Network card (5.1).
    pub const NET: Self = Self(1);
    /// Block device (5.2).
    pub const BLOCK: Self = Self(2);
    /// Console (5.3).
    pub const CONSOLE: Self = Self(3);
    /// Entropy source (5.4).
    pub const ENTROPY: Self = Self(4);
}

/// Feature bits that belong to no device type (chapter 6).
pub mod feature {
    /// Descriptors may point to tables of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications are suppressed by ring index.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The driver knows version 1 of the standard; without it there is no device for it here.
    pub const VERSION_1: u64 = 1 << 32;
}

bitflags::bitflags! {
    /// The device status field (2.1).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Status: u8 {
        /// The guest found the device.
        const ACKNOWLEDGE = 1;
        /// The guest has a driver for it.
        const DRIVER = 2;
        /// The driver is ready: the device is live.
        const DRIVER_OK = 4;
        /// Features are agreed upon.
        const FEATURES_OK = 8;
        /// The device met an error from which only a reset leads back.
        const DEVICE_NEEDS_RESET = 64;
        /// The driver gave up.
        const FAILED = 128;
    }
}

/// The PCI transport (4.1).
pub mod pci {
    /// Vendor of all virtio functions (4.1.2).
    pub const VENDOR_ID: u16 = 0x1AF4;
    /// Device ID of a function is this plus its device type (4.1.2.1).
    pub const DEVICE_ID_BASE: u16 = 0x1040;
    /// Least revision of a function that is not transitional (4.1.2.1).
    pub const REVISION: u8 = 1;
    /// "No vector" in the vector registers (4.1.5.1.2).
    pub const NO_VECTOR: u16 = 0xFFFF;

    /// `cfg_type` of the vendor capabilities (4.1.4).
    pub mod capability {
        /// Common configuration.
        pub const COMMON: u8 = 1;
        /// Notifications.
        pub const NOTIFY: u8 = 2;
        /// ISR status.
        pub const ISR: u8 = 3;
        /// Device-specific configuration.
        pub const DEVICE: u8 = 4;
        /// A window to the BARs in configuration space.
        pub const PCI_ACCESS: u8 = 5;

        /// Offset of `bar` in the capability.
        pub const BAR: u16 = 4;
        /// Offset of `offset`.
        pub const OFFSET: u16 = 8;
        /// Offset of `length`.
        pub const LENGTH: u16 = 12;
        /// Offset of `pci_cfg_data` in a [`PCI_ACCESS`] capability (4.1.4.9).
        pub const DATA: u16 = 16;
    }

    /// Offsets in the common configuration structure (4.1.4.3).
    pub mod common {
        /// Selects 32 feature bits for [`DEVICE_FEATURE`].
        pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
        /// Offered features.
        pub const DEVICE_FEATURE: u64 = 0x04;
        /// Selects 32 feature bits for [`DRIVER_FEATURE`].
        pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
        /// Accepted features.
        pub const DRIVER_FEATURE: u64 = 0x0C;
        /// MSI-X vector of configuration changes.
        pub const CONFIG_MSIX_VECTOR: u64 = 0x10;
        /// Number of queues.
        pub const NUM_QUEUES: u64 = 0x12;
        /// [`Status`](super::super::Status).
        pub const DEVICE_STATUS: u64 = 0x14;
        /// Changes whenever the device-specific configuration changes.
        pub const CONFIG_GENERATION: u64 = 0x15;
        /// Selects a queue for the registers below.
        pub const QUEUE_SELECT: u64 = 0x16;
        /// Entries of the queue: the most at first, then what the driver wants.
        pub const QUEUE_SIZE: u64 = 0x18;
        /// MSI-X vector of the queue.
        pub const QUEUE_MSIX_VECTOR: u64 = 0x1A;
        /// 1 when the driver set the queue up.
        pub const QUEUE_ENABLE: u64 = 0x1C;
        /// Place of the queue's doorbell, in units of the notify multiplier.
        pub const QUEUE_NOTIFY_OFF: u64 = 0x1E;
        /// Descriptor table, 64 bits.
        pub const QUEUE_DESC: u64 = 0x20;
        /// Available ring, 64 bits.
        pub const QUEUE_DRIVER: u64 = 0x28;
        /// Used ring, 64 bits.
        pub const QUEUE_DEVICE: u64 = 0x30;
        /// Length of the part of the structure that is offered here.
        pub const LENGTH: u64 = 0x38;
    }

    /// ISR status bits (4.1.4.5).
    pub mod isr {
        /// A queue has used buffers.
        pub const QUEUE: u8 = 1;
        /// The configuration changed.
        pub const CONFIG: u8 = 2;
    }
}

/// Split virtqueues (2.7).
pub mod ring {
    /// Most entries of a queue.
    pub const MAX_SIZE: u16 = 32768;
    /// Alignment of the descriptor table in bytes.
    pub const DESC_ALIGN: u64 = 16;
    /// Alignment of the available ring in bytes.
    pub const AVAIL_ALIGN: u64 = 2;
    /// Alignment of the used ring in bytes.
    pub const USED_ALIGN: u64 = 4;

    /// Bytes of a descriptor table of `size` entries.
    #[must_use]
    pub const fn desc_bytes(size: u16) -> usize {
        16 * size as usize
    }

    /// Bytes of an available ring of `size` entries, with the event index behind it.
    #[must_use]
    pub const fn avail_bytes(size: u16) -> usize {
        6 + 2 * size as usize
    }

    /// Bytes of a used ring of `size` entries, with the event index behind it.
    #[must_use]
    pub const fn used_bytes(size: u16) -> usize {
        6 + 8 * size as usize
    }
}

/// Block device (5.2).
pub mod block {
    /// Size of a sector in bytes, whatever the medium has.
    pub const SECTOR: u64 = 512;

    /// Feature bits (5.2.3).
    pub mod feature {
        /// A request has at most `seg_max` data buffers.
        pub const SEG_MAX: u64 = 1 << 2;
        /// The disk cannot be written.
        pub const RO: u64 = 1 << 5;
        /// `blk_size` is valid.
        pub const BLK_SIZE: u64 = 1 << 6;
        /// The flush command exists.
        pub const FLUSH: u64 = 1 << 9;
        /// The discard command exists.
        pub const DISCARD: u64 = 1 << 13;
        /// The write zeroes command exists.
        pub const WRITE_ZEROES: u64 = 1 << 14;
    }

    /// Offsets in the device configuration (5.2.4).
    pub mod config {
        /// Capacity in sectors, 64 bits.
        pub const CAPACITY: usize = 0x00;
        /// Most data buffers of a request, 32 bits.
        pub const SEG_MAX: usize = 0x0C;
        /// Block size in bytes, 32 bits.
        pub const BLK_SIZE: usize = 0x14;
        /// Most sectors of a discard segment, 32 bits.
        pub const MAX_DISCARD_SECTORS: usize = 0x24;
        /// Most segments of a discard request, 32 bits.
        pub const MAX_DISCARD_SEG: usize = 0x28;
        /// Alignment of discards in sectors, 32 bits.
        pub const DISCARD_SECTOR_ALIGNMENT: usize = 0x2C;
        /// Most sectors of a write zeroes segment, 32 bits.
        pub const MAX_WRITE_ZEROES_SECTORS: usize = 0x30;
        /// Most segments of a write zeroes request, 32 bits.
        pub const MAX_WRITE_ZEROES_SEG: usize = 0x34;
        /// Write zeroes may deallocate, 8 bits.
        pub const WRITE_ZEROES_MAY_UNMAP: usize = 0x38;
        /// Length of the configuration in bytes.
        pub const LENGTH: usize = 0x3C;
    }

    /// Request types (5.2.6).
    pub mod request {
        /// Read sectors.
        pub const IN: u32 = 0;
        /// Write sectors.
        pub const OUT: u32 = 1;
        /// Make what was written durable.
        pub const FLUSH: u32 = 4;
        /// Read the serial number, 20 bytes.
        pub const GET_ID: u32 = 8;
        /// Deallocate sectors.
        pub const DISCARD: u32 = 11;
        /// Make sectors read as zeros.
        pub const WRITE_ZEROES: u32 = 13;
        /// Bytes of a request's header.
        pub const HEADER: usize = 16;
        /// Bytes of a discard or write zeroes segment.
        pub const SEGMENT: usize = 16;
        /// Flag of a write zeroes segment: may deallocate.
        pub const UNMAP: u32 = 1;
        /// Bytes of the serial number.
        pub const ID_BYTES: usize = 20;
    }

    /// The last byte of a request (5.2.6).
    pub mod status {
        /// Done.
        pub const OK: u8 = 0;
        /// Failed.
        pub const IOERR: u8 = 1;
        /// No such request.
        pub const UNSUPP: u8 = 2;
    }
}

/// Network card (5.1).
pub mod net {
    /// Receive queue (5.1.2).
    pub const RX_QUEUE: usize = 0;
    /// Transmit queue (5.1.2).
    pub const TX_QUEUE: usize = 1;
    /// Bytes of the header before each packet (5.1.6).
    pub const HEADER: usize = 12;
    /// Offset of `num_buffers` in the header.
    pub const HEADER_NUM_BUFFERS: u64 = 10;
    /// Link status bit: up (5.1.4).
    pub const LINK_UP: u16 = 1;

    /// Feature bits (5.1.3).
    pub mod feature {
        /// The device completes checksums of what the guest sends.
        pub const CSUM: u64 = 1 << 0;
        /// The guest takes packets with partial checksums.
        pub const GUEST_CSUM: u64 = 1 << 1;
        /// The MAC address is in the configuration.
        pub const MAC: u64 = 1 << 5;
        /// The guest takes TSO packets over IPv4.
        pub const GUEST_TSO4: u64 = 1 << 7;
        /// The guest takes TSO packets over IPv6.
        pub const GUEST_TSO6: u64 = 1 << 8;
        /// The guest takes TSO packets with ECN.
        pub const GUEST_ECN: u64 = 1 << 9;
        /// The device takes TSO packets over IPv4.
        pub const HOST_TSO4: u64 = 1 << 11;
        /// The device takes TSO packets over IPv6.
        pub const HOST_TSO6: u64 = 1 << 12;
        /// The device takes TSO packets with ECN.
        pub const HOST_ECN: u64 = 1 << 13;
        /// A received packet may span several buffers.
        pub const MRG_RXBUF: u64 = 1 << 15;
        /// The link status is in the configuration.
        pub const STATUS: u64 = 1 << 16;
    }
}

/// Console (5.3).
pub mod console {
    /// Queue of bytes for the guest (5.3.2).
    pub const RX_QUEUE: usize = 0;
    /// Queue of bytes from the guest (5.3.2).
    pub const TX_QUEUE: usize = 1;
}
