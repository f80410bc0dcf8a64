//! Where the scenario's controllers live: in this process, in the harness's, or in btvirt's.

use crate::foreign::Foreign;
use crate::inside::Inside;
use crate::port::Port;
use crate::relay;
use anyhow::{Context as _, bail};
use controller::transport::usbredir::UsbFault;
use controller::{Action, ControllerId, Opcode};
use evidence::{Answer, Ask, Place, Sight, Transport};
use std::time::Duration;

/// A way to reach the controllers.
#[derive(Debug)]
pub(crate) enum Home {
    /// In this process.
    Inside(Inside),
    /// In the harness's; this port leads there. How each reaches the kernel.
    Outside(Port, Vec<Transport>),
    /// In btvirt's: somebody else's controllers.
    Foreign(Foreign),
}

impl Home {
    /// Does something to a controller.
    ///
    /// # Errors
    /// The harness cannot be reached, or refuses.
    pub(crate) fn act(&self, action: Action) -> anyhow::Result<()> {
        match self {
            Self::Inside(inside) => {
                inside.act(action);
                Ok(())
            }
            Self::Foreign(foreign) => foreign.act(&action),
            Self::Outside(port, _) => done(port, Ask::Act { action }),
        }
    }

    /// Has something go wrong on a bus.
    ///
    /// # Errors
    /// The controllers are on no bus.
    pub(crate) fn add_usb_fault(&self, fault: UsbFault) -> anyhow::Result<()> {
        match self {
            Self::Inside(_) | Self::Foreign(_) => bail!("the controllers are not on USB"),
            Self::Outside(port, _) => done(port, Ask::UsbFault { fault }),
        }
    }

    /// How far everything is.
    ///
    /// # Errors
    /// The harness cannot be reached.
    pub(crate) fn look(&self) -> anyhow::Result<Sight> {
        match self {
            Self::Inside(inside) => Ok(inside.look()),
            Self::Foreign(foreign) => foreign.look(),
            Self::Outside(port, _) => match port.ask(Ask::Look)? {
                Answer::Sight(sight) => Ok(sight),
                other => bail!("the harness was asked how far everything is, and says {other:?}"),
            },
        }
    }

    /// Was this command given to a controller since it was plugged in?
    ///
    /// # Errors
    /// The controllers are not in this process.
    pub(crate) fn was_told(&self, id: ControllerId, opcode: Opcode) -> anyhow::Result<bool> {
        match self {
            Self::Inside(inside) => Ok(inside.was_told(id, opcode)),
            Self::Foreign(_) | Self::Outside(..) => {
                bail!("only controllers in the guest are asked what they were told")
            }
        }
    }

    /// Has the ledgers of these devices filed as they are now.
    ///
    /// # Errors
    /// The harness cannot be reached.
    pub(crate) fn report(&self, places: &[Place], port: &Port) -> anyhow::Result<()> {
        match self {
            Self::Inside(inside) => inside.report(places, port),
            Self::Foreign(_) => Ok(()),
            Self::Outside(port, _) => {
                let places = places.to_vec();
                done(port, Ask::Report { places })
            }
        }
    }

    /// Plugs a controller in; says which hciN it is, if that is known at once.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn plug(&mut self, controller: usize) -> anyhow::Result<Option<u16>> {
        match self {
            Self::Inside(inside) => inside.plug(controller).map(Some),
            Self::Foreign(foreign) => foreign.hci(controller).map(Some),
            Self::Outside(port, transports) => {
                done(port, Ask::Plug { controller })?;
                match transports.get(controller) {
                    Some(Transport::Vhci) => relay::start(controller).map(Some),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Pulls a controller out. Its device goes by and by.
    ///
    /// # Errors
    /// The harness cannot be reached, or refuses.
    pub(crate) fn unplug(&self, controller: usize) -> anyhow::Result<()> {
        match self {
            Self::Inside(inside) => {
                inside.unplug(controller);
                Ok(())
            }
            Self::Foreign(_) => bail!("btvirt's controllers cannot be pulled out"),
            Self::Outside(port, _) => done(port, Ask::Unplug { controller }),
        }
    }

    /// Do the controllers choose their addresses themselves, whatever their profiles say?
    pub(crate) const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign(_))
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
        other => bail!("the harness answers {other:?}"),
    }
}
