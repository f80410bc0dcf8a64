//! The controllers of a scenario that live in this process, behind /dev/vhci.

use crate::port::Port;
use anyhow::Context as _;
use controller::transport::Server;
use controller::transport::vhci::{DEFAULT_PATH, VhciPort};
use controller::{Action, Air, BtsnoopFiles, ControllerId, Detail, Entry, Opcode, Profile};
use evidence::{AgentRecord, CAPTURE_FOLDER, PacketCounts, Place, Sight};
use std::fs;
use std::path::Path;

/// Running controllers. Dropping it unplugs them.
#[derive(Debug)]
pub(crate) struct Inside {
    server: Server,
    /// Entries of the ledger before each controller was plugged in last: another device's, to the kernel.
    since: Vec<usize>,
}

/// A ledger entry is about 200 bytes of JSON; a frame holds 4 MiB.
const ENTRIES_PER_RECORD: usize = 4096;

/// Writes down what crosses the controllers' boundaries, for who wants to look at it in a guest whose case went wrong.
fn capture(air: &mut Air) -> anyhow::Result<()> {
    let folder = Path::new(CAPTURE_FOLDER);
    fs::create_dir_all(folder).context("failed to create the folder for captures")?;
    air.set_tap(Box::new(BtsnoopFiles::new(folder, "hci")));
    Ok(())
}

impl Inside {
    /// Makes the controllers, none of them plugged in yet.
    ///
    /// # Errors
    /// The thread that serves them cannot be started.
    pub(crate) fn start(profiles: &[Profile]) -> anyhow::Result<Self> {
        let mut air = Air::new();
        capture(&mut air)?;
        for profile in profiles {
            air.add(profile.clone());
        }
        Ok(Self {
            server: Server::start(air, Vec::new())?,
            since: vec![0; profiles.len()],
        })
    }

    /// Plugs a controller in; says which hciN it is. It is served from the start: the kernel asks at once, and does not wait for ever.
    ///
    /// # Errors
    /// There is no /dev/vhci, or no such controller.
    pub(crate) fn plug(&mut self, number: usize) -> anyhow::Result<u16> {
        let crossed = self.server.with_air(|air| air.ledger().entries().len());
        let since = self.since.get_mut(number);
        *since.with_context(|| format!("there is no controller {number}"))? = crossed;
        let vhci = VhciPort::open(Path::new(DEFAULT_PATH))?;
        let hci = vhci.index().0;
        self.server
            .plug(ControllerId::from_index(number), Box::new(vhci));
        Ok(hci)
    }

    /// Pulls a controller out; its device is gone afterwards.
    pub(crate) fn unplug(&self, number: usize) {
        self.server.unplug(ControllerId::from_index(number));
    }

    /// Does something to a controller.
    pub(crate) fn act(&self, action: Action) {
        self.server.with_air(|air| air.act(action));
    }

    /// How far everything is.
    pub(crate) fn look(&self) -> Sight {
        self.server.with_air(|air| Sight {
            now_ns: i64::try_from(air.now().as_nanos()).unwrap_or(i64::MAX),
            crossed: air.ledger().entries().len(),
            counts: air
                .ids()
                .map(|id| PacketCounts::of(self.own(id, air)))
                .collect(),
            voice_ready: Vec::new(),
        })
    }

    /// Sends the ledgers of these devices home as they are now.
    ///
    /// # Errors
    /// The port fails.
    pub(crate) fn report(&self, places: &[Place], port: &Port) -> anyhow::Result<()> {
        for Place { controller, hci } in places {
            let id = ControllerId::from_index(*controller);
            let entries: Vec<Entry> = self
                .server
                .with_air(|air| self.own(id, air).cloned().collect());
            for entries in entries.chunks(ENTRIES_PER_RECORD) {
                port.send(&AgentRecord::Ledger {
                    hci: *hci,
                    entries: entries.to_vec(),
                })?;
            }
        }
        Ok(())
    }

    /// What crossed a controller's boundary since it was plugged in.
    /// Was this command given to a controller since it was plugged in?
    pub(crate) fn was_told(&self, id: ControllerId, opcode: Opcode) -> bool {
        let is_it = |entry: &Entry| matches!(entry.detail, Detail::Command { opcode: told, .. } if told == opcode);
        self.server.with_air(|air| self.own(id, air).any(is_it))
    }

    fn own<'a>(&self, id: ControllerId, air: &'a Air) -> impl Iterator<Item = &'a Entry> {
        let since = self.since.get(id.index()).copied().unwrap_or(0);
        let entries = air.ledger().entries().iter().skip(since);
        entries.filter(move |entry| entry.controller == id)
    }
}
