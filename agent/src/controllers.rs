//! The scenario's virtual controllers, behind /dev/vhci or on USB, as devices of this kernel.

use crate::bluetooth::device::DeviceControl;
use crate::bluetooth::hci::Management;
use crate::calls::CallLog;
use crate::foreign::Foreign;
use crate::home::Home;
use crate::inside::Inside;
use crate::port::Port;
use crate::usb_device;
use anyhow::{Context as _, bail, ensure};
use controller::transport::usbredir::UsbFault;
use controller::{AckPolicy, Action, BdAddr, ControllerId, Fault, Opcode};
use evidence::{
    DeviceAction, DeviceCounters, PacketCounts, PastKernel, Scenario, Transport, UsbPlace,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// One controller and the device that it became.
#[derive(Debug, Clone, Copy)]
struct Place {
    id: ControllerId,
    hci: u16,
    address: BdAddr,
    transport: Transport,
    /// Others can page it.
    has_bredr: bool,
    plugged: bool,
}

/// Running controllers, all devices up and connectable. Dropping it unplugs them.
#[derive(Debug)]
pub(crate) struct Controllers {
    home: Home,
    control: DeviceControl,
    places: Vec<Place>,
    /// What a process read of each device on the user channel, past the kernel.
    past_kernel: BTreeMap<u16, PastKernel>,
}

impl Controllers {
    /// Plugs the controllers in, in order, and brings the devices up. btvirt, if it is wanted, is among the `pushed` files.
    ///
    /// # Errors
    /// There is no /dev/vhci, the kernel finds no dongle, or it does not get a device up.
    pub(crate) fn start(scenario: &Scenario, pushed: &Path, port: &Port) -> anyhow::Result<Self> {
        let control = DeviceControl::open().context("failed to open an HCI socket")?;
        port.phase("creating controllers")?;
        let home = if scenario.is_outside() {
            let transports = (0..scenario.controllers.len()).map(|n| scenario.transport(n));
            Home::Outside(port.clone(), transports.collect())
        } else if scenario.transport(0) == Transport::Btvirt {
            Home::Foreign(Foreign::start(pushed, &scenario.controllers)?)
        } else {
            Home::Inside(Inside::start(&scenario.controllers)?)
        };
        let mut controllers = Self {
            home,
            control,
            places: Vec::new(),
            past_kernel: BTreeMap::new(),
        };
        // One after the other, so that each is the next device.
        for (number, profile) in scenario.controllers.iter().enumerate() {
            port.phase(format!("plugging controller {number} in"))?;
            let hci = controllers.plug_in(number)?;
            controllers.places.push(Place {
                id: ControllerId::from_index(number),
                hci,
                address: profile.addr,
                transport: scenario.transport(number),
                has_bredr: profile.has_bredr(),
                plugged: true,
            });
        }
        for place in &controllers.places {
            port.phase(format!("bringing hci{} up", place.hci))?;
            controllers.up(place)?;
        }
        Ok(controllers)
    }

    /// Plugs a controller in; says which device it became.
    fn plug_in(&mut self, number: usize) -> anyhow::Result<u16> {
        let before = self.control.list()?;
        match self.home.plug(number)? {
            Some(hci) => Ok(hci),
            None => await_device(&self.control, &before),
        }
    }

    /// Brings a device up, and makes it connectable.
    fn up(&self, place: &Place) -> anyhow::Result<()> {
        let Place { hci, address, .. } = place;
        self.control
            .bring_up(*hci)
            .with_context(|| format!("failed to bring hci{hci} up"))?;
        let read = self.control.address(*hci)?;
        ensure!(
            self.home.is_foreign() || read == *address,
            "hci{hci} has address {read}, its controller {address}"
        );
        if place.has_bredr {
            self.control
                .make_connectable(*hci)
                .with_context(|| format!("failed to make hci{hci} connectable"))?;
        }
        Ok(())
    }

    /// Address of the n-th controller, as the kernel has it.
    ///
    /// # Errors
    /// There is no such controller, or its device is gone.
    pub(crate) fn address(&self, number: usize) -> anyhow::Result<BdAddr> {
        let hci = self.place(number)?.hci;
        let read = self.control.address(hci);
        read.with_context(|| format!("failed to read the address of hci{hci}"))
    }

    /// Does something to a controller.
    ///
    /// # Errors
    /// There is no such controller, or it cannot be reached.
    pub(crate) fn do_to(
        &self,
        number: usize,
        action: impl FnOnce(ControllerId) -> Action,
    ) -> anyhow::Result<()> {
        self.home.act(action(self.place(number)?.id))
    }

    /// Pulls a controller out; its device is gone afterwards. Says where it was on USB.
    ///
    /// # Errors
    /// There is no such controller, or its device stays.
    pub(crate) fn unplug(&mut self, number: usize) -> anyhow::Result<Option<UsbPlace>> {
        let Place { hci, transport, .. } = *self.place(number)?;
        let place = transport.is_usb().then(|| usb_device::place(hci));
        let place = place.transpose()?;
        self.home.unplug(number)?;
        await_gone(&self.control, hci)?;
        self.place_mut(number)?.plugged = false;
        Ok(place)
    }

    /// Has the kernel suspend a controller's USB device; it is suspended afterwards.
    ///
    /// # Errors
    /// There is no such controller, or it stays awake.
    pub(crate) fn suspend(&self, number: usize) -> anyhow::Result<()> {
        Ok(usb_device::suspend(self.place(number)?.hci)?)
    }

    /// Has the kernel resume a controller's USB device, and keep it awake.
    ///
    /// # Errors
    /// There is no such controller, or it does not wake.
    pub(crate) fn resume(&self, number: usize) -> anyhow::Result<()> {
        Ok(usb_device::resume(self.place(number)?.hci)?)
    }

    /// Puts a controller back in and brings its device up.
    ///
    /// # Errors
    /// There is no such controller, or the kernel does not get the device up.
    pub(crate) fn plug(&mut self, number: usize) -> anyhow::Result<()> {
        let hci = self.plug_in(number)?;
        let place = self.place_mut(number)?;
        ensure!(
            hci == place.hci,
            "the controller that was hci{} came back as hci{hci}",
            place.hci
        );
        place.plugged = true;
        self.up(self.place(number)?)
    }

    /// Has the kernel do something with a device.
    ///
    /// # Errors
    /// There is no such controller, or the kernel refuses.
    pub(crate) fn act(&self, number: usize, action: DeviceAction) -> anyhow::Result<()> {
        let place = self.place(number)?;
        let done = match action {
            DeviceAction::Up => {
                await_there(&self.control, place.hci)?;
                return self.up(place);
            }
            DeviceAction::Down => self.control.bring_down(place.hci),
            DeviceAction::Reset => self.control.reset(place.hci),
        };
        done.with_context(|| format!("{action:?} of hci{} failed", place.hci))
    }

    /// Turns LE on for a device.
    ///
    /// # Errors
    /// There is no such controller, or the kernel refuses.
    pub(crate) fn enable_le(&self, number: usize, calls: &CallLog) -> anyhow::Result<()> {
        let hci = self.place(number)?.hci;
        Management::open()
            .map_err(anyhow::Error::from)
            .and_then(|management| Ok(management.enable_le(hci, calls)?))
            .with_context(|| format!("failed to turn LE on for hci{hci}"))
    }

    /// Has a device pair with whoever wants to.
    ///
    /// # Errors
    /// There is no such controller, or the kernel refuses.
    pub(crate) fn make_pairable(&self, number: usize, calls: &CallLog) -> anyhow::Result<()> {
        let hci = self.place(number)?.hci;
        Management::open()
            .map_err(anyhow::Error::from)
            .and_then(|management| Ok(management.make_pairable(hci, calls)?))
            .with_context(|| format!("failed to make hci{hci} pairable"))
    }

    /// Advertises, so that others can connect over LE.
    ///
    /// # Errors
    /// There is no such controller, or the kernel refuses.
    pub(crate) fn advertise(&self, number: usize, calls: &CallLog) -> anyhow::Result<()> {
        self.enable_le(number, calls)?;
        let hci = self.place(number)?.hci;
        Management::open()
            .map_err(anyhow::Error::from)
            .and_then(|management| Ok(management.advertise(hci, calls)?))
            .with_context(|| format!("failed to have hci{hci} advertise"))
    }

    /// A process has read so much of a device that the kernel did not see.
    pub(crate) fn note_past_kernel(&mut self, hci: u16, read: PastKernel) {
        let sum = self.past_kernel.entry(hci).or_default();
        sum.events += read.events;
        sum.acl += read.acl;
        sum.sco += read.sco;
    }

    /// The handle of the one link of a device.
    ///
    /// # Errors
    /// It has none, or several.
    pub(crate) fn link_handle(&self, hci: u16) -> anyhow::Result<u16> {
        let handles = self.control.link_handles(hci);
        let handles = handles.with_context(|| format!("failed to list the links of hci{hci}"))?;
        match handles[..] {
            [handle] => Ok(handle),
            _ => bail!("hci{hci} has {} links", handles.len()),
        }
    }

    /// Was this command given to a controller since it was plugged in?
    ///
    /// # Errors
    /// There is no such controller, or it is not in this process.
    pub(crate) fn was_told(&self, number: usize, opcode: Opcode) -> anyhow::Result<bool> {
        self.home.was_told(self.place(number)?.id, opcode)
    }

    /// What the kernel did not see of each device.
    pub(crate) fn past_kernel(&self) -> &BTreeMap<u16, PastKernel> {
        &self.past_kernel
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
        self.do_to(number, |id| Action::Acks(id, policy))
    }

    /// Has one controller give back what is outstanding.
    ///
    /// # Errors
    /// There is no such controller.
    pub(crate) fn flush_acks_of(&self, number: usize) -> anyhow::Result<()> {
        self.do_to(number, Action::FlushAcks)
    }

    /// How many packets have crossed so far, all controllers together.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn crossed(&self) -> anyhow::Result<usize> {
        Ok(self.home.look()?.crossed)
    }

    /// How many packets have crossed by when, on the clock that the ledgers are stamped by.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn crossed_by(&self) -> anyhow::Result<(usize, i64)> {
        let sight = self.home.look()?;
        Ok((sight.crossed, sight.now_ns))
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

    fn place_mut(&mut self, number: usize) -> anyhow::Result<&mut Place> {
        self.places
            .get_mut(number)
            .with_context(|| format!("there is no controller {number}"))
    }

    /// Those that are devices at present.
    fn plugged(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.plugged)
    }

    /// Gives all buffers back that policies hold.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn flush_acks(&self) -> anyhow::Result<()> {
        self.plugged()
            .try_for_each(|place| self.home.act(Action::FlushAcks(place.id)))
    }

    /// How many packets crossed the boundary of each device.
    ///
    /// # Errors
    /// The controllers cannot be reached.
    pub(crate) fn counts(&self) -> anyhow::Result<Vec<PacketCounts>> {
        let counts = self.home.look()?.counts;
        let of = |place: &Place| counts.get(place.id.index()).copied();
        let of = |place: &Place| of(place).context("a controller is not counted");
        self.plugged().map(of).collect()
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
        let places: Vec<_> = self.plugged().map(place).collect();
        self.home.report(&places, port)
    }

    /// Where each device on USB is.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn usb_places(&self) -> anyhow::Result<Vec<UsbPlace>> {
        let on_usb = self.plugged().filter(|place| place.transport.is_usb());
        on_usb
            .map(|place| Ok(usb_device::place(place.hci)?))
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
        self.plugged().map(read).collect()
    }
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

/// Waits until a device is there: one whose driver was loaded again may come late.
fn await_there(control: &DeviceControl, hci: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + PLUG_PATIENCE;
    while Instant::now() < deadline {
        if control.list()?.contains(&hci) {
            return Ok(());
        }
        sleep(PLUG_PAUSE);
    }
    bail!("there is no hci{hci} within {PLUG_PATIENCE:?}")
}

/// Waits until a device is gone.
fn await_gone(control: &DeviceControl, hci: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + PLUG_PATIENCE;
    while Instant::now() < deadline {
        if !control.list()?.contains(&hci) {
            return Ok(());
        }
        sleep(PLUG_PAUSE);
    }
    bail!("hci{hci} is still there after {PLUG_PATIENCE:?}")
}
