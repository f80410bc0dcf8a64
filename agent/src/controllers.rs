//! The scenario's virtual controllers, behind /dev/vhci, as devices of this kernel.

use crate::bluetooth::device::DeviceControl;
use crate::port::Port;
use anyhow::{Context as _, ensure};
use controller::transport::vhci::{DEFAULT_PATH, VhciPort};
use controller::transport::{Port as ControllerPort, Server};
use controller::{AckPolicy, Air, BdAddr, ControllerId, Entry, Fault, Profile};
use evidence::DeviceCounters;
use std::path::Path;

/// One controller and the device that it became.
#[derive(Debug, Clone, Copy)]
struct Place {
    id: ControllerId,
    hci: u16,
    address: BdAddr,
}

/// Running controllers, all devices up and connectable. Dropping it unplugs them.
#[derive(Debug)]
pub(crate) struct Controllers {
    server: Server,
    control: DeviceControl,
    places: Vec<Place>,
}

impl Controllers {
    /// Plugs the controllers in, in order, and brings the devices up.
    ///
    /// # Errors
    /// There is no /dev/vhci, or the kernel does not get a device up.
    pub(crate) fn start(profiles: &[Profile], port: &Port) -> anyhow::Result<Self> {
        let mut air = Air::new();
        let ids: Vec<ControllerId> = profiles
            .iter()
            .map(|profile| air.add(profile.clone()))
            .collect();
        port.phase("creating controllers")?;
        let mut ports: Vec<Box<dyn ControllerPort>> = Vec::new();
        let mut places = Vec::new();
        for (id, profile) in ids.into_iter().zip(profiles) {
            let vhci = VhciPort::open(Path::new(DEFAULT_PATH))?;
            places.push(Place {
                id,
                hci: vhci.index().0,
                address: profile.addr,
            });
            ports.push(Box::new(vhci));
        }
        let server = Server::start(air, ports)?;
        let control = DeviceControl::open().context("failed to open an HCI socket")?;
        let controllers = Self {
            server,
            control,
            places,
        };
        controllers.bring_up(port)?;
        Ok(controllers)
    }

    fn bring_up(&self, port: &Port) -> anyhow::Result<()> {
        for Place { hci, address, .. } in &self.places {
            port.phase(format!("bringing hci{hci} up"))?;
            self.control
                .bring_up(*hci)
                .with_context(|| format!("failed to bring hci{hci} up"))?;
            let read = self.control.address(*hci)?;
            ensure!(
                read == *address,
                "hci{hci} has address {read}, its controller {address}"
            );
            self.control
                .make_connectable(*hci)
                .with_context(|| format!("failed to make hci{hci} connectable"))?;
        }
        Ok(())
    }

    /// Address of the n-th controller.
    ///
    /// # Errors
    /// There is no such controller.
    pub(crate) fn address(&self, number: usize) -> anyhow::Result<BdAddr> {
        Ok(self.place(number)?.address)
    }

    /// Has a controller misbehave.
    pub(crate) fn inject(&self, fault: Fault) {
        self.server.with_air(|air| air.add_fault(fault));
    }

    /// Changes when a controller gives buffers back.
    ///
    /// # Errors
    /// There is no such controller.
    pub(crate) fn set_acks(&self, number: usize, policy: AckPolicy) -> anyhow::Result<()> {
        let id = self.place(number)?.id;
        self.server
            .with_air(|air| air.set_ack_policy(id, None, policy));
        Ok(())
    }

    /// Has one controller give back what is outstanding.
    ///
    /// # Errors
    /// There is no such controller.
    pub(crate) fn flush_acks_of(&self, number: usize) -> anyhow::Result<()> {
        let id = self.place(number)?.id;
        self.server.with_air(|air| air.flush_acks(id));
        Ok(())
    }

    /// How many packets have crossed so far, all controllers together.
    pub(crate) fn crossed(&self) -> usize {
        self.server.with_air(|air| air.ledger().entries().len())
    }

    fn place(&self, number: usize) -> anyhow::Result<&Place> {
        self.places
            .get(number)
            .with_context(|| format!("there is no controller {number}"))
    }

    /// Gives all buffers back that policies hold.
    pub(crate) fn flush_acks(&self) {
        self.server.with_air(|air| {
            for Place { id, .. } in &self.places {
                air.flush_acks(*id);
            }
        });
    }

    /// The ledger so far, by device.
    pub(crate) fn ledgers(&self) -> Vec<(u16, Vec<Entry>)> {
        self.server.with_air(|air| {
            let of = |place: &Place| air.ledger().of(place.id).cloned().collect();
            self.places
                .iter()
                .map(|place| (place.hci, of(place)))
                .collect()
        })
    }

    /// The kernel's own counters of each device.
    ///
    /// # Errors
    /// A device is gone.
    pub(crate) fn counters(&self) -> anyhow::Result<Vec<DeviceCounters>> {
        let read = |place: &Place| {
            let hci = place.hci;
            self.control
                .counters(hci)
                .with_context(|| format!("failed to read hci{hci}"))
        };
        self.places.iter().map(read).collect()
    }
}
