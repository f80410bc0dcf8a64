//! The controllers of a scenario that live in this process: behind QEMU's USB, or behind a port whose other end the agent joins to
//! `/dev/vhci`.
//!
//! They share one air, which a thread of its own serves. What the scenario's steps do to them, the agent asks for over the record port.

use crate::evidence::Evidence;
use controller::transport::usbredir::{DongleSettings, UsbControl, UsbPort, UsbTransfers};
use controller::transport::{H4Port, Port, ServeError, Server};
use controller::{Air, BtsnoopFiles, ControllerId, Entry};
use evidence::{Answer, Ask, PacketCounts, Place, Scenario, Sight, Transport};
use std::collections::BTreeMap;
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
    controllers: Vec<Served>,
}

#[derive(Debug)]
struct Served {
    id: ControllerId,
    /// `None`: it is on vhci.
    dongle: Option<UsbControl>,
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
        let (mut controllers, mut sockets) = (Vec::new(), Vec::new());
        for (number, profile) in scenario.controllers.iter().enumerate() {
            let id = air.add(profile.clone());
            let (ours, theirs) = UnixStream::pair().map_err(OutsideError::Socket)?;
            let opened = open(scenario.transport(number), ours);
            let (port, dongle) = opened.map_err(OutsideError::Socket)?;
            controllers.push(Served {
                id,
                dongle,
                since: 0,
            });
            sockets.push(theirs.into());
            ports.push(port);
        }
        let server = Server::start(air, ports)?;
        Ok((
            Self {
                server,
                controllers,
            },
            sockets,
        ))
    }

    /// What crossed the bus of each dongle so far, by controller.
    pub fn transfers(&self) -> BTreeMap<usize, Vec<UsbTransfers>> {
        let of = |(number, served): (usize, &Served)| {
            let dongle = served.dongle.as_ref()?;
            Some((number, dongle.transfers()))
        };
        self.controllers.iter().enumerate().filter_map(of).collect()
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
            Ask::Act { action } => self.served(action.controller().index()).map(|_| {
                self.server.with_air(|air| air.act(action));
            }),
            Ask::UsbFault { fault } => self.dongle(fault.controller.index()).map(|dongle| {
                dongle.add_fault(fault);
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
        let found = self.controllers.get_mut(number);
        let served = found.ok_or_else(|| none(number))?;
        served.since = since;
        if let Some(dongle) = &served.dongle {
            dongle.plug();
        }
        self.server.nudge();
        Ok(())
    }

    fn unplug(&mut self, number: usize) -> Result<(), String> {
        self.dongle(number)?.unplug();
        let id = self.served(number)?.id;
        self.server.with_air(|air| air.unplug(id));
        Ok(())
    }

    fn look(&self) -> Sight {
        let is_voice_ready = |served: &Served| {
            let dongle = served.dongle.as_ref();
            dongle.is_some_and(UsbControl::is_voice_ready)
        };
        let voice_ready = self.controllers.iter().map(is_voice_ready).collect();
        self.server.with_air(|air| {
            let entries = air.ledger().entries();
            let counts = self
                .controllers
                .iter()
                .map(|served| PacketCounts::of(served.own(entries)));
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
            let served = self.served(*controller)?;
            let entries = self.server.with_air(|air| {
                let own = served.own(air.ledger().entries());
                own.cloned().collect()
            });
            evidence.ledgers.insert(*hci, entries);
            if let Some(dongle) = &served.dongle {
                evidence.usb.insert(*hci, dongle.transfers());
            }
        }
        Ok(())
    }

    fn served(&self, number: usize) -> Result<&Served, String> {
        let found = self.controllers.get(number);
        found.ok_or_else(|| none(number))
    }

    fn dongle(&self, number: usize) -> Result<&UsbControl, String> {
        let dongle = self.served(number)?.dongle.as_ref();
        dongle.ok_or_else(|| format!("controller {number} is not on USB"))
    }
}

fn none(number: usize) -> String {
    format!("there is no controller {number}")
}

/// A port on our end of a socket; and a hand on the dongle, if it is one.
fn open(transport: Transport, ours: UnixStream) -> io::Result<(Box<dyn Port>, Option<UsbControl>)> {
    let remote_wakeup = match transport {
        Transport::Vhci | Transport::Btvirt => {
            return Ok((Box::new(H4Port::connected(ours)?), None));
        }
        Transport::Usb => false,
        Transport::UsbSuspendable => true,
    };
    let settings = DongleSettings {
        remote_wakeup,
        unplugged: true,
    };
    let port = UsbPort::connected(ours, settings)?;
    let control = port.control();
    Ok((Box::new(port), Some(control)))
}

impl Served {
    /// What crossed its boundary since it was plugged in.
    fn own<'a>(&self, entries: &'a [Entry]) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let id = self.id;
        let since = entries.iter().skip(self.since);
        since.filter(move |entry| entry.controller == id)
    }
}
