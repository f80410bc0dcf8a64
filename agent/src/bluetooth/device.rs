//! HCI devices by the kernel's own interface: bring up, make connectable, read counters.

use super::{fd, sys};
use controller::BdAddr;
use evidence::DeviceCounters;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

/// A raw HCI socket that is bound to no device and serves ioctls only.
#[derive(Debug)]
pub(crate) struct DeviceControl {
    socket: OwnedFd,
}

impl DeviceControl {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel has no Bluetooth, or we may not use it.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: fd::socket(libc::SOCK_RAW, sys::BTPROTO_HCI)?,
        })
    }

    /// HCIDEVUP: waits for the kernel's setup of the device, then brings it up to stay.
    ///
    /// # Errors
    /// What the kernel says; a device that is up already is none.
    pub(crate) fn bring_up(&self, hci: u16) -> io::Result<()> {
        match fd::ioctl_number(self.socket.as_fd(), sys::HCIDEVUP, hci.into()) {
            Err(error) if error.raw_os_error() == Some(libc::EALREADY) => Ok(()),
            other => other,
        }
    }

    /// HCIGETDEVLIST: the devices that there are.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn list(&self) -> io::Result<Vec<u16>> {
        let mut list = sys::hci_dev_list::default();
        fd::ioctl_struct(self.socket.as_fd(), sys::HCIGETDEVLIST, &mut list)?;
        let devices = list.dev_req.iter().take(list.dev_num.into());
        Ok(devices.map(|device| device.dev_id).collect())
    }

    /// HCIGETCONNLIST: the handles of a device's links.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn link_handles(&self, hci: u16) -> io::Result<Vec<u16>> {
        let mut list = sys::hci_conn_list {
            dev_id: hci,
            ..Default::default()
        };
        fd::ioctl_struct(self.socket.as_fd(), sys::HCIGETCONNLIST, &mut list)?;
        let links = list.conn_info.iter().take(list.conn_num.into());
        Ok(links.map(|link| link.handle).collect())
    }

    /// HCIDEVDOWN.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn bring_down(&self, hci: u16) -> io::Result<()> {
        fd::ioctl_number(self.socket.as_fd(), sys::HCIDEVDOWN, hci.into())
    }

    /// HCIDEVRESET.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn reset(&self, hci: u16) -> io::Result<()> {
        fd::ioctl_number(self.socket.as_fd(), sys::HCIDEVRESET, hci.into())
    }

    /// HCISETSCAN: lets others page this device.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn make_connectable(&self, hci: u16) -> io::Result<()> {
        let mut request = sys::hci_dev_req {
            dev_id: hci,
            dev_opt: sys::SCAN_PAGE,
        };
        fd::ioctl_struct(self.socket.as_fd(), sys::HCISETSCAN, &mut request)
    }

    /// HCIGETDEVINFO: the address that the kernel read from the controller.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn address(&self, hci: u16) -> io::Result<BdAddr> {
        Ok(BdAddr::from_wire(self.info(hci)?.bdaddr))
    }

    /// HCIGETDEVINFO: what the kernel itself counted.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn counters(&self, hci: u16) -> io::Result<DeviceCounters> {
        let sys::hci_dev_info {
            acl_mtu,
            acl_pkts,
            stat,
            ..
        } = self.info(hci)?;
        Ok(DeviceCounters {
            hci,
            acl_packets: acl_pkts,
            acl_mtu,
            commands_sent: stat.cmd_tx,
            events_received: stat.evt_rx,
            acl_sent: stat.acl_tx,
            acl_received: stat.acl_rx,
            sco_sent: stat.sco_tx,
            sco_received: stat.sco_rx,
            errors_sent: stat.err_tx,
            errors_received: stat.err_rx,
        })
    }

    fn info(&self, hci: u16) -> io::Result<sys::hci_dev_info> {
        let mut info = sys::hci_dev_info {
            dev_id: hci,
            ..Default::default()
        };
        fd::ioctl_struct(self.socket.as_fd(), sys::HCIGETDEVINFO, &mut info)?;
        Ok(info)
    }
}
