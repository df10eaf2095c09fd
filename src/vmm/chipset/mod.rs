//! The system components of a PC, one file each.

pub mod clock;
pub mod debug_exit;
pub mod debugcon;
pub mod fw_cfg;
pub mod hpet;
pub mod i8042;
pub mod pflash;
pub mod port92;
pub mod power;
pub mod pvpanic;
pub mod rtc;
pub mod serial;
pub mod vmgenid;
