//! Constants and structs of the kernel's Bluetooth sockets, under the kernel's names.
//!
//! Kernel: include/net/bluetooth/{bluetooth,hci_sock,iso,l2cap}.h.

use libc::{c_int, c_ulong};

pub(super) const AF_BLUETOOTH: c_int = 31;

pub(super) const BTPROTO_L2CAP: c_int = 0;
pub(super) const BTPROTO_HCI: c_int = 1;

pub(super) const BTPROTO_SCO: c_int = 2;
pub(super) const BTPROTO_RFCOMM: c_int = 3;
pub(super) const BTPROTO_ISO: c_int = 8;

pub(super) const SOL_BLUETOOTH: c_int = 274;
pub(super) const BT_VOICE: c_int = 11;
pub(super) const BT_VOICE_CVSD_16BIT: u16 = 0x0060;
pub(super) const BT_VOICE_TRANSPARENT: u16 = 0x0003;
pub(super) const BT_SECURITY: c_int = 4;
pub(super) const BT_SECURITY_MEDIUM: u8 = 2;
pub(super) const BT_DEFER_SETUP: c_int = 7;
pub(super) const BT_RCVMTU: c_int = 13;

pub(super) const BDADDR_LE_PUBLIC: u8 = 1;

/// Control message with a `struct sock_extended_err`.
pub(super) const BT_SCM_ERROR: c_int = 4;

/// Kernel: include/uapi/linux/net_tstamp.h.
pub(super) const SOF_TIMESTAMPING_TX_SOFTWARE: u32 = 1 << 1;
pub(super) const SOF_TIMESTAMPING_SOFTWARE: u32 = 1 << 4;
pub(super) const SOF_TIMESTAMPING_OPT_ID: u32 = 1 << 7;
pub(super) const SOF_TIMESTAMPING_OPT_TSONLY: u32 = 1 << 11;
/// Since 6.15.
pub(super) const SOF_TIMESTAMPING_TX_COMPLETION: u32 = 1 << 18;
/// Kernel: include/uapi/linux/errqueue.h `SCM_TSTAMP_*`.
pub(super) const SCM_TSTAMP_SND: u32 = 0;
pub(super) const SCM_TSTAMP_COMPLETION: u32 = 3;

pub(super) const SOL_L2CAP: c_int = 6;
pub(super) const L2CAP_OPTIONS: c_int = 1;
pub(super) const L2CAP_MODE_BASIC: u8 = 0;
pub(super) const L2CAP_MODE_ERTM: u8 = 3;
pub(super) const L2CAP_MODE_STREAMING: u8 = 4;

pub(super) const SOL_HCI: c_int = 0;
pub(super) const HCI_FILTER: c_int = 2;
pub(super) const HCI_CHANNEL_RAW: u16 = 0;
pub(super) const HCI_CHANNEL_USER: u16 = 1;
pub(super) const HCI_CHANNEL_CONTROL: u16 = 3;
pub(super) const HCI_DEV_NONE: u16 = 0xffff;

pub(super) const HCIDEVUP: c_ulong = 0x4004_48c9;
pub(super) const HCIGETDEVLIST: c_ulong = 0x8004_48d2;
pub(super) const HCIDEVDOWN: c_ulong = 0x4004_48ca;
pub(super) const HCIDEVRESET: c_ulong = 0x4004_48cb;
pub(super) const HCIGETDEVINFO: c_ulong = 0x8004_48d3;
pub(super) const HCIGETCONNLIST: c_ulong = 0x8004_48d4;
pub(super) const HCISETSCAN: c_ulong = 0x4004_48dd;

pub(super) const SCAN_PAGE: u32 = 2;

/// `struct sockaddr_l2`. PSM and CID are little-endian.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct sockaddr_l2 {
    pub(super) l2_family: u16,
    pub(super) l2_psm: u16,
    pub(super) l2_bdaddr: [u8; 6],
    pub(super) l2_cid: u16,
    pub(super) l2_bdaddr_type: u8,
}

/// `struct sockaddr_rc`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct sockaddr_rc {
    pub(super) rc_family: u16,
    pub(super) rc_bdaddr: [u8; 6],
    pub(super) rc_channel: u8,
}

/// `struct sockaddr_sco`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct sockaddr_sco {
    pub(super) sco_family: u16,
    pub(super) sco_bdaddr: [u8; 6],
}

/// `struct sockaddr_hci`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct sockaddr_hci {
    pub(super) hci_family: u16,
    pub(super) hci_dev: u16,
    pub(super) hci_channel: u16,
}

/// `struct sockaddr_iso`, without the part for broadcasts.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct sockaddr_iso {
    pub(super) iso_family: u16,
    pub(super) iso_bdaddr: [u8; 6],
    pub(super) iso_bdaddr_type: u8,
}

/// `struct hci_ufilter`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct hci_ufilter {
    pub(super) type_mask: u32,
    pub(super) event_mask: [u32; 2],
    pub(super) opcode: u16,
}

/// `struct bt_voice`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct bt_voice {
    pub(super) setting: u16,
}

/// `struct bt_security`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct bt_security {
    pub(super) level: u8,
    pub(super) key_size: u8,
}

/// `struct l2cap_options`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct l2cap_options {
    pub(super) omtu: u16,
    pub(super) imtu: u16,
    pub(super) flush_to: u16,
    pub(super) mode: u8,
    pub(super) fcs: u8,
    pub(super) max_tx: u8,
    pub(super) txwin_size: u16,
}

/// `struct hci_dev_req`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct hci_dev_req {
    pub(super) dev_id: u16,
    pub(super) dev_opt: u32,
}

/// Devices that a list has room for.
pub(super) const LISTED_DEVICES: usize = 16;

/// `struct hci_dev_list_req`, with room for so many devices.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct hci_dev_list {
    /// Room at first, then how many there are.
    pub(super) dev_num: u16,
    pub(super) dev_req: [hci_dev_req; LISTED_DEVICES],
}

impl Default for hci_dev_list {
    fn default() -> Self {
        Self {
            dev_num: 16,
            dev_req: [hci_dev_req::default(); LISTED_DEVICES],
        }
    }
}

/// Room for so many links in [`hci_conn_list`].
pub(super) const LISTED_LINKS: usize = 8;

/// `struct hci_conn_info`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct hci_conn_info {
    pub(super) handle: u16,
    pub(super) bdaddr: [u8; 6],
    pub(super) type_: u8,
    pub(super) out: u8,
    pub(super) state: u16,
    pub(super) link_mode: u32,
}

/// `struct hci_conn_list_req`, with room for so many links.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct hci_conn_list {
    pub(super) dev_id: u16,
    /// Room at first, then how many there are.
    pub(super) conn_num: u16,
    pub(super) conn_info: [hci_conn_info; LISTED_LINKS],
}

impl Default for hci_conn_list {
    fn default() -> Self {
        Self {
            dev_id: 0,
            conn_num: 8,
            conn_info: [hci_conn_info::default(); LISTED_LINKS],
        }
    }
}

/// `struct hci_dev_stats`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct hci_dev_stats {
    pub(super) err_rx: u32,
    pub(super) err_tx: u32,
    pub(super) cmd_tx: u32,
    pub(super) evt_rx: u32,
    pub(super) acl_tx: u32,
    pub(super) acl_rx: u32,
    pub(super) sco_tx: u32,
    pub(super) sco_rx: u32,
    pub(super) byte_rx: u32,
    pub(super) byte_tx: u32,
}

/// `struct hci_dev_info`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct hci_dev_info {
    pub(super) dev_id: u16,
    pub(super) name: [u8; 8],
    pub(super) bdaddr: [u8; 6],
    pub(super) flags: u32,
    pub(super) type_: u8,
    pub(super) features: [u8; 8],
    pub(super) pkt_type: u32,
    pub(super) link_policy: u32,
    pub(super) link_mode: u32,
    pub(super) acl_mtu: u16,
    pub(super) acl_pkts: u16,
    pub(super) sco_mtu: u16,
    pub(super) sco_pkts: u16,
    pub(super) stat: hci_dev_stats,
}

const _: () = {
    assert!(size_of::<sockaddr_l2>() == 14);
    assert!(size_of::<sockaddr_rc>() == 10);
    assert!(size_of::<sockaddr_sco>() == 8);
    assert!(size_of::<sockaddr_hci>() == 6);
    assert!(size_of::<sockaddr_iso>() == 10);
    assert!(size_of::<hci_ufilter>() == 16);
    assert!(size_of::<bt_voice>() == 2);
    assert!(size_of::<bt_security>() == 2);
    assert!(size_of::<l2cap_options>() == 12);
    assert!(size_of::<hci_dev_req>() == 8);
    assert!(size_of::<hci_dev_list>() == 4 + 8 * LISTED_DEVICES);
    assert!(size_of::<hci_conn_list>() == 4 + 16 * LISTED_LINKS);
    assert!(size_of::<hci_dev_stats>() == 40);
    assert!(size_of::<hci_dev_info>() == 92);
};
