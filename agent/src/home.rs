//! Where the scenario's controllers live: in this process, or in the harness's.

use crate::port::Port;
use anyhow::{Context as _, bail};
use controller::transport::Server;
use controller::transport::usbredir::UsbFault;
use controller::{Action, ControllerId, Entry};
use evidence::{AgentRecord, Answer, Ask, PacketCounts, Place, Sight};
use std::time::Duration;

/// A way to reach the controllers.
#[derive(Debug)]
pub(crate) enum Home {
    /// In this process.
    Inside(Server),
    /// In the harness's; this port leads there.
    Outside(Port),
}

/// A ledger entry is about 200 bytes of JSON; a frame holds 4 MiB.
const ENTRIES_PER_RECORD: usize = 4096;

impl Home {
    /// Does something to a controller.
    ///
    /// # Errors
    /// The harness cannot be reached, or refuses.
    pub(crate) fn act(&self, action: Action) -> anyhow::Result<()> {
        match self {
            Self::Inside(server) => {
                server.with_air(|air| air.act(action));
                Ok(())
            }
            Self::Outside(port) => done(port, Ask::Act { action }),
        }
    }

    /// Has something go wrong on a bus.
    ///
    /// # Errors
    /// The controllers are on no bus.
    pub(crate) fn add_usb_fault(&self, fault: UsbFault) -> anyhow::Result<()> {
        match self {
            Self::Inside(_) => bail!("the controllers are not on USB"),
            Self::Outside(port) => done(port, Ask::UsbFault { fault }),
        }
    }

    /// How far everything is.
    ///
    /// # Errors
    /// The harness cannot be reached.
    pub(crate) fn look(&self) -> anyhow::Result<Sight> {
        match self {
            Self::Inside(server) => Ok(server.with_air(|air| {
                let ledger = air.ledger();
                let counts = air.ids().map(|id| PacketCounts::of(ledger.of(id)));
                Sight {
                    now_ns: i64::try_from(air.now().as_nanos()).unwrap_or(i64::MAX),
                    crossed: ledger.entries().len(),
                    counts: counts.collect(),
                    voice_ready: Vec::new(),
                }
            })),
            Self::Outside(port) => match port.ask(Ask::Look)? {
                Answer::Sight(sight) => Ok(sight),
                other => bail!("the harness was asked how far everything is, and says {other:?}"),
            },
        }
    }

    /// Has the ledgers of these devices filed as they are now.
    ///
    /// # Errors
    /// The harness cannot be reached.
    pub(crate) fn report(&self, places: &[Place], port: &Port) -> anyhow::Result<()> {
        let server = match self {
            Self::Outside(port) => {
                let places = places.to_vec();
                return done(port, Ask::Report { places });
            }
            Self::Inside(server) => server,
        };
        for Place { controller, hci } in places {
            let id = ControllerId::from_index(*controller);
            let entries: Vec<Entry> = server.with_air(|air| air.ledger().of(id).cloned().collect());
            for entries in entries.chunks(ENTRIES_PER_RECORD) {
                port.send(&AgentRecord::Ledger {
                    hci: *hci,
                    entries: entries.to_vec(),
                })?;
            }
        }
        Ok(())
    }

    /// Waits until the kernel polls a controller on USB for voice, or not any more.
    ///
    /// # Errors
    /// It goes on as it does for longer than the patience.
    pub(crate) fn await_voice(&self, number: usize, wanted: bool) -> anyhow::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(30);
        const PAUSE: Duration = Duration::from_millis(20);
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < deadline {
            if self.look()?.voice_ready.get(number) == Some(&wanted) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        let not = if wanted { " not" } else { "" };
        bail!("the kernel does{not} poll controller {number} for voice")
    }
}

/// Has the harness do something.
///
/// # Errors
/// It cannot be reached, or refuses.
pub(crate) fn done(port: &Port, ask: Ask) -> anyhow::Result<()> {
    match port.ask(ask).context("the harness does not answer")? {
        Answer::Done => Ok(()),
        Answer::Refused { error } => bail!("the harness refuses: {error}"),
        other @ Answer::Sight(_) => bail!("the harness answers {other:?}"),
    }
}
