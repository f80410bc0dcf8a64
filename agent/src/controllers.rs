//! The scenario's virtual controllers, behind /dev/vhci or on USB, as devices of this kernel.

use crate::bluetooth::device::DeviceControl;
use crate::home::{self, Home};
use crate::port::Port;
use anyhow::{Context as _, bail, ensure};
use controller::transport::usbredir::UsbFault;
use controller::transport::vhci::{DEFAULT_PATH, VhciPort};
use controller::transport::{Port as ControllerPort, Server};
use controller::{AckPolicy, Action, Air, BdAddr, BtsnoopFiles, ControllerId, Fault, Profile};
use evidence::{Ask, CAPTURE_FOLDER, DeviceCounters, PacketCounts, Scenario, UsbPlace};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// One controller and the device that it became.
#[derive(Debug, Clone, Copy)]
struct Place {
    id: ControllerId,
    hci: u16,
    address: BdAddr,
}

/// Writes down what crosses the controllers' boundaries, for who wants to look at it in a guest
/// whose case went wrong.
fn capture(air: &mut Air) -> anyhow::Result<()> {
    let folder = Path::new(CAPTURE_FOLDER);
    fs::create_dir_all(folder).context("failed to create the folder for captures")?;
    air.set_tap(Box::new(BtsnoopFiles::new(folder, "hci")));
    Ok(())
}

/// Running controllers, all devices up and connectable. Dropping it unplugs them.
#[derive(Debug)]
pub(crate) struct Controllers {
    home: Home,
    control: DeviceControl,
    places: Vec<Place>,
}

impl Controllers {
    /// Plugs the controllers in, in order, and brings the devices up.
    ///
    /// # Errors
    /// There is no /dev/vhci, the kernel finds no dongle, or it does not get a device up.
    pub(crate) fn start(scenario: &Scenario, port: &Port) -> anyhow::Result<Self> {
        let control = DeviceControl::open().context("failed to open an HCI socket")?;
        port.phase("creating controllers")?;
        let (home, places) = if scenario.is_outside() {
            start_outside(scenario, &control, port)?
        } else {
            start_inside(&scenario.controllers)?
        };
        let controllers = Self {
            home,
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
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn inject(&self, fault: Fault) -> anyhow::Result<()> {
        self.home.act(Action::Inject(fault))
    }

    /// Has something go wrong on a controller's bus.
    ///
    /// # Errors
    /// It is on none.
    pub(crate) fn add_usb_fault(&self, fault: UsbFault) -> anyhow::Result<()> {
        self.home.add_usb_fault(fault)
    }

    /// Waits until the kernel polls a controller on USB for voice, or not any more.
    ///
    /// # Errors
    /// It goes on as it does.
    pub(crate) fn await_voice(&self, number: usize, wanted: bool) -> anyhow::Result<()> {
        self.home.await_voice(number, wanted)
    }

    /// Changes when a controller gives buffers back.
    ///
    /// # Errors
    /// There is no such controller.
    pub(crate) fn set_acks(&self, number: usize, policy: AckPolicy) -> anyhow::Result<()> {
        let id = self.place(number)?.id;
        self.home.act(Action::Acks(id, policy))
    }

    /// Has one controller give back what is outstanding.
    ///
    /// # Errors
    /// There is no such controller.
    pub(crate) fn flush_acks_of(&self, number: usize) -> anyhow::Result<()> {
        let id = self.place(number)?.id;
        self.home.act(Action::FlushAcks(id))
    }

    /// How many packets have crossed so far, all controllers together.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn crossed(&self) -> anyhow::Result<usize> {
        Ok(self.home.look()?.crossed)
    }

    /// The time on the clock that the ledgers are stamped by, at some moment of this call.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn now_ns(&self) -> anyhow::Result<i64> {
        Ok(self.home.look()?.now_ns)
    }

    /// The N of hciN of the n-th controller.
    ///
    /// # Errors
    /// There is no such controller.
    pub(crate) fn hci(&self, number: usize) -> anyhow::Result<u16> {
        Ok(self.place(number)?.hci)
    }

    fn place(&self, number: usize) -> anyhow::Result<&Place> {
        self.places
            .get(number)
            .with_context(|| format!("there is no controller {number}"))
    }

    /// Gives all buffers back that policies hold.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn flush_acks(&self) -> anyhow::Result<()> {
        let mut places = self.places.iter();
        places.try_for_each(|place| self.home.act(Action::FlushAcks(place.id)))
    }

    /// How many packets crossed the boundary of each device.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn counts(&self) -> anyhow::Result<Vec<PacketCounts>> {
        let counts = self.home.look()?.counts;
        let of = |place: &Place| counts.get(place.id.index()).copied();
        let of = |place: &Place| of(place).context("a controller is not counted");
        self.places.iter().map(of).collect()
    }

    /// Has the ledgers filed as they are now.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn report_ledgers(&self, port: &Port) -> anyhow::Result<()> {
        let place = |place: &Place| evidence::Place {
            controller: place.id.index(),
            hci: place.hci,
        };
        let places: Vec<_> = self.places.iter().map(place).collect();
        self.home.report(&places, port)
    }

    /// Where each device is on USB.
    ///
    /// # Errors
    /// It is on none.
    pub(crate) fn usb_places(&self) -> anyhow::Result<Vec<UsbPlace>> {
        self.places
            .iter()
            .map(|place| usb_place(place.hci))
            .collect()
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

/// Puts controllers of this process behind /dev/vhci.
fn start_inside(profiles: &[Profile]) -> anyhow::Result<(Home, Vec<Place>)> {
    let mut air = Air::new();
    capture(&mut air)?;
    let mut ports: Vec<Box<dyn ControllerPort>> = Vec::new();
    let mut places = Vec::new();
    for profile in profiles {
        let vhci = VhciPort::open(Path::new(DEFAULT_PATH))?;
        places.push(Place {
            id: air.add(profile.clone()),
            hci: vhci.index().0,
            address: profile.addr,
        });
        ports.push(Box::new(vhci));
    }
    Ok((Home::Inside(Server::start(air, ports)?), places))
}

/// Has the harness plug its controllers in, one after the other, so that each is the next device.
fn start_outside(
    scenario: &Scenario,
    control: &DeviceControl,
    port: &Port,
) -> anyhow::Result<(Home, Vec<Place>)> {
    let mut places = Vec::new();
    for (number, profile) in scenario.controllers.iter().enumerate() {
        port.phase(format!("plugging controller {number} in"))?;
        let before = control.list()?;
        home::done(port, Ask::Plug { controller: number })?;
        places.push(Place {
            id: ControllerId::from_index(number),
            hci: await_device(control, &before)?,
            address: profile.addr,
        });
    }
    Ok((Home::Outside(port.clone()), places))
}

/// A device's parent is the interface that the driver is bound to, whose parent is the USB device.
fn usb_place(hci: u16) -> anyhow::Result<UsbPlace> {
    let folder = format!("/sys/class/bluetooth/hci{hci}/device/..");
    let read = |file: &str| -> anyhow::Result<u16> {
        let path = format!("{folder}/{file}");
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        text.trim()
            .parse()
            .with_context(|| format!("{path} holds {text:?}"))
    };
    Ok(UsbPlace {
        hci,
        bus: read("busnum")?,
        device: u8::try_from(read("devnum")?).context("no USB device has that number")?,
    })
}

/// How long the kernel may take to find a dongle.
const PLUG_PATIENCE: Duration = Duration::from_secs(60);
const PLUG_PAUSE: Duration = Duration::from_millis(10);

/// Waits for a device that was not there before.
fn await_device(control: &DeviceControl, before: &[u16]) -> anyhow::Result<u16> {
    let deadline = Instant::now() + PLUG_PATIENCE;
    while Instant::now() < deadline {
        let new = control.list()?;
        if let Some(hci) = new.iter().find(|hci| !before.contains(hci)) {
            return Ok(*hci);
        }
        sleep(PLUG_PAUSE);
    }
    bail!("no new device within {PLUG_PATIENCE:?}")
}
