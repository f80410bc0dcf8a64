//! The kernel functions that programs attach to: where they are, and what passes through them.

/// A kernel function, or datum, that values are taken from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Function {
    /// `module:name`, as [`super::Metric::functions`] has it.
    pub name: &'static str,
    /// Its file in the kernel's sources.
    pub file: &'static str,
    /// What passes through it.
    pub about: &'static str,
}

/// The function of that name.
#[must_use]
pub fn find_function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

macro_rules! functions {
    ($($name:literal $file:literal $about:literal;)*) => {
        &[$(Function { name: $name, file: $file, about: $about }),*]
    };
}

/// Every function that some metric names, and some that others may.
#[rustfmt::skip]
pub static FUNCTIONS: &[Function] = functions! {
    "bluetooth:l2cap_sock_sendmsg" "net/bluetooth/l2cap_sock.c" "writes to L2CAP sockets";
    "bluetooth:l2cap_sock_recvmsg" "net/bluetooth/l2cap_sock.c" "reads from L2CAP sockets";
    "bluetooth:sco_sock_sendmsg" "net/bluetooth/sco.c" "writes to SCO sockets";
    "bluetooth:sco_sock_recvmsg" "net/bluetooth/sco.c" "reads from SCO sockets";
    "bluetooth:hci_sock_sendmsg" "net/bluetooth/hci_sock.c" "writes to HCI sockets";
    "bluetooth:hci_sock_recvmsg" "net/bluetooth/hci_sock.c" "reads from HCI sockets";
    "bluetooth:iso_sock_sendmsg" "net/bluetooth/iso.c" "writes to ISO sockets";
    "bluetooth:iso_sock_recvmsg" "net/bluetooth/iso.c" "reads from ISO sockets";
    "rfcomm:rfcomm_sock_sendmsg" "net/bluetooth/rfcomm/sock.c" "writes to RFCOMM sockets";
    "rfcomm:rfcomm_sock_recvmsg" "net/bluetooth/rfcomm/sock.c" "reads from RFCOMM sockets";
    "vmlinux:sock_alloc_send_pskb" "net/core/sock.c" "room for a message in a socket's send buffer, of every protocol";
    "bluetooth:bt_sock_wait_ready" "net/bluetooth/af_bluetooth.c" "the wait of a write until its L2CAP channel may send";
    "bluetooth:hci_dev_list" "net/bluetooth/hci_core.c" "the list of all devices: read, not attached to";
    "bluetooth:hci_sock_dev_event" "net/bluetooth/hci_sock.c" "what becomes of devices: they come, go, are opened and closed";
    "bluetooth:hci_unregister_dev" "net/bluetooth/hci_core.c" "a device that goes";
    "bluetooth:hci_register_dev" "net/bluetooth/hci_core.c" "a device that comes";
    "bluetooth:hci_send_frame" "net/bluetooth/hci_core.c" "each packet to a driver";
    "bluetooth:hci_recv_frame" "net/bluetooth/hci_core.c" "each packet from a driver";
    "bluetooth:hci_send_acl" "net/bluetooth/hci_core.c" "each ACL packet into its queue";
    "bluetooth:hci_send_sco" "net/bluetooth/hci_core.c" "each SCO packet into its queue";
    "bluetooth:hci_send_iso" "net/bluetooth/hci_core.c" "each ISO packet into its queue";
    "bluetooth:hci_send_to_monitor" "net/bluetooth/hci_sock.c" "each packet either way, for monitors";
    "bluetooth:hci_tx_work" "net/bluetooth/hci_core.c" "the scheduler of data packets, one run of it";
    "bluetooth:hci_num_comp_pkts_evt" "net/bluetooth/hci_event.c" "each Number Of Completed Packets event";
    "bluetooth:hci_cmd_work" "net/bluetooth/hci_core.c" "the scheduler of commands, one run of it";
    "bluetooth:hci_cmd_timeout" "net/bluetooth/hci_core.c" "a command that the controller did not answer";
    "bluetooth:hci_ncmd_timeout" "net/bluetooth/hci_core.c" "a controller that takes no more commands";
    "bluetooth:hci_error_reset" "net/bluetooth/hci_core.c" "a controller that is reset after an error";
    "bluetooth:hci_conn_add" "net/bluetooth/hci_conn.c" "a connection that comes";
    "bluetooth:hci_conn_del" "net/bluetooth/hci_conn.c" "a connection that goes";
    "bluetooth:hci_conn_tx_queue" "net/bluetooth/hci_conn.c" "each packet as it leaves the queue, since 6.15";
    "bluetooth:hci_conn_tx_dequeue" "net/bluetooth/hci_conn.c" "each packet as it is completed, since 6.15";
    "usbcore:usb_submit_urb" "drivers/usb/core/urb.c" "each USB request block to a host controller";
    "usbcore:usb_anchor_urb" "drivers/usb/core/urb.c" "each USB request block that a driver keeps on a list";
    "usbcore:usb_unanchor_urb" "drivers/usb/core/urb.c" "each USB request block that a driver or usbcore takes off such a list";
    "usbcore:usb_hcd_giveback_urb" "drivers/usb/core/hcd.c" "each USB request block that a host controller has ended";
    "usbcore:__usb_hcd_giveback_urb" "drivers/usb/core/hcd.c" "each USB request block as its driver is told";
    "btusb:btusb_disconnect" "drivers/bluetooth/btusb.c" "a Bluetooth USB device that goes";
    "btusb:btusb_tx_complete" "drivers/bluetooth/btusb.c" "the end of a request to send commands or ACL data";
    "btusb:btusb_isoc_tx_complete" "drivers/bluetooth/btusb.c" "the end of a request to send SCO data";
    "btusb:btusb_intr_complete" "drivers/bluetooth/btusb.c" "the end of a request to receive events";
    "btusb:btusb_bulk_complete" "drivers/bluetooth/btusb.c" "the end of a request to receive ACL data";
    "btusb:btusb_isoc_complete" "drivers/bluetooth/btusb.c" "the end of a request to receive SCO data";
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CATALOGUE;

    /// Check that every function that a metric names is described, once.
    #[test]
    fn functions_of_metrics_are_described() {
        for metric in CATALOGUE {
            for name in metric.functions {
                let described = FUNCTIONS.iter().filter(|f| f.name == *name).count();
                assert_eq!(described, 1, "{} of {}", name, metric.name);
            }
        }
    }
}
