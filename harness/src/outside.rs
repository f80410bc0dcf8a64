//! The controllers of a scenario that live in this process, behind QEMU's USB.
//!
//! They share one air, which a thread of its own serves. What the scenario's steps do to them, the agent asks for over the record port.

use crate::evidence::Evidence;
use controller::transport::usbredir::{DongleSettings, UsbControl, UsbPort};
use controller::transport::{Port, ServeError, Server};
use controller::{Air, BtsnoopFiles, ControllerId, Entry};
use evidence::{Answer, Ask, PacketCounts, Place, Scenario, Sight, Transport};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Why controllers cannot be served from here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutsideError {
    /// A socket cannot be made.
    #[error("failed to make a socket for a dongle")]
    Socket(#[source] io::Error),
    /// What crossed cannot be written down.
    #[error("failed to write a capture")]
    Capture(#[source] io::Error),
    /// The thread cannot be started.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Running controllers, none of them plugged in yet. Dropping it ends them.
#[derive(Debug)]
pub struct Outside {
    server: Server,
    dongles: Vec<Dongle>,
}

#[derive(Debug)]
struct Dongle {
    id: ControllerId,
    control: UsbControl,
    /// Entries of the ledger before it was plugged in last: another device's, to the guest.
    since: usize,
}

impl Outside {
    /// Starts the controllers of a scenario; gives the sockets that QEMU is to have, in their order. What crosses the controllers'
    /// boundaries is captured into a folder.
    ///
    /// # Errors
    /// See [`OutsideError`].
    pub fn start(
        scenario: &Scenario,
        captures: &Path,
    ) -> Result<(Self, Vec<OwnedFd>), OutsideError> {
        let mut air = Air::new();
        air.set_tap(Box::new(BtsnoopFiles::new(captures, "hci")));
        let mut ports: Vec<Box<dyn Port>> = Vec::new();
        let (mut dongles, mut sockets) = (Vec::new(), Vec::new());
        for (number, profile) in scenario.controllers.iter().enumerate() {
            let id = air.add(profile.clone());
            let (ours, theirs) = UnixStream::pair().map_err(OutsideError::Socket)?;
            let settings = DongleSettings {
                unplugged: true,
                ..DongleSettings::default()
            };
            let port = UsbPort::connected(ours, settings).map_err(OutsideError::Socket)?;
            debug_assert_eq!(scenario.transport(number), Transport::Usb);
            dongles.push(Dongle {
                id,
                control: port.control(),
                since: 0,
            });
            sockets.push(theirs.into());
            ports.push(Box::new(port));
        }
        let server = Server::start(air, ports)?;
        Ok((Self { server, dongles }, sockets))
    }

    /// Ends the controllers, and writes out what is left of the captures.
    ///
    /// # Errors
    /// The serving thread failed, or a capture cannot be written.
    pub fn stop(self) -> Result<(), OutsideError> {
        let mut air = self.server.stop()?;
        match air.take_tap() {
            Some(mut tap) => tap.finish().map_err(OutsideError::Capture),
            None => Ok(()),
        }
    }

    /// Does what the agent asks for.
    pub fn answer(&mut self, ask: Ask, evidence: &mut Evidence) -> Answer {
        let result = match ask {
            Ask::Scenario => Err("a scenario is being carried out".to_owned()),
            Ask::Plug { controller } => self.plug(controller),
            Ask::Unplug { controller } => self.unplug(controller),
            Ask::Act { action } => self.dongle(action.controller().index()).map(|_| {
                self.server.with_air(|air| air.act(action));
            }),
            Ask::UsbFault { fault } => self.dongle(fault.controller.index()).map(|dongle| {
                dongle.control.add_fault(fault);
            }),
            Ask::Look => return Answer::Sight(self.look()),
            Ask::Report { places } => self.report(&places, evidence),
        };
        match result {
            Ok(()) => Answer::Done,
            Err(error) => Answer::Refused { error },
        }
    }

    fn plug(&mut self, number: usize) -> Result<(), String> {
        let since = self.server.with_air(|air| air.ledger().entries().len());
        let dongle = self.dongle_mut(number)?;
        dongle.since = since;
        dongle.control.plug();
        self.server.nudge();
        Ok(())
    }

    fn unplug(&mut self, number: usize) -> Result<(), String> {
        self.dongle(number)?.control.unplug();
        self.server.nudge();
        Ok(())
    }

    fn look(&self) -> Sight {
        let voice_ready = self
            .dongles
            .iter()
            .map(|dongle| dongle.control.is_voice_ready());
        let voice_ready = voice_ready.collect();
        self.server.with_air(|air| {
            let entries = air.ledger().entries();
            let counts = self
                .dongles
                .iter()
                .map(|dongle| PacketCounts::of(dongle.own(entries)));
            Sight {
                now_ns: i64::try_from(air.now().as_nanos()).unwrap_or(i64::MAX),
                crossed: entries.len(),
                counts: counts.collect(),
                voice_ready,
            }
        })
    }

    /// Files what each device's ledger holds.
    fn report(&self, places: &[Place], evidence: &mut Evidence) -> Result<(), String> {
        for Place { controller, hci } in places {
            let dongle = self.dongle(*controller)?;
            let entries = self.server.with_air(|air| {
                let own = dongle.own(air.ledger().entries());
                own.cloned().collect()
            });
            evidence.ledgers.insert(*hci, entries);
            evidence.usb.insert(*hci, dongle.control.transfers());
        }
        Ok(())
    }

    fn dongle(&self, number: usize) -> Result<&Dongle, String> {
        let found = self.dongles.get(number);
        found.ok_or_else(|| format!("there is no controller {number}"))
    }

    fn dongle_mut(&mut self, number: usize) -> Result<&mut Dongle, String> {
        let found = self.dongles.get_mut(number);
        found.ok_or_else(|| format!("there is no controller {number}"))
    }
}

impl Dongle {
    /// What crossed its boundary since it was plugged in.
    fn own<'a>(&self, entries: &'a [Entry]) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let id = self.id;
        let since = entries.iter().skip(self.since);
        since.filter(move |entry| entry.controller == id)
    }
}
