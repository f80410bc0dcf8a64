//! Steps with devices and their controllers.

use super::{NotApplicable, Stage};
use crate::bluetooth::hci::{Management, ManagementError};
use crate::bluetooth::socket::Socket;
use anyhow::Context as _;
use controller::Action;
use evidence::{Feature, L2capMode, Service, Step};
use std::io;

impl Stage<'_> {
    pub(super) fn with_device(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::HardwareError { controller, code } => self
                .controllers
                .do_to(*controller, |id| Action::HardwareError(id, *code)),
            Step::SendToHost { controller, packet } => self
                .controllers
                .do_to(*controller, |id| Action::SendToHost(id, packet.clone())),
            Step::LoseLinks { controller } => {
                self.controllers.do_to(*controller, Action::LoseLinks)
            }
            Step::AckExtra {
                controller,
                packets,
            } => self
                .controllers
                .do_to(*controller, |id| Action::AckExtra(id, *packets)),
            Step::Unplug { controller } => self.controllers.unplug(*controller),
            Step::Plug { controller } => self.controllers.plug(*controller),
            Step::Device { controller, action } => self.controllers.act(*controller, *action),
            Step::Advertise { controller } => self.controllers.advertise(*controller, self.calls),
            Step::Require { feature } => self.require(*feature),
            _ => unreachable!("the other steps have nothing to do with devices"),
        }
    }

    /// The kernel answers, never its version.
    fn require(&self, feature: Feature) -> anyhow::Result<()> {
        match feature {
            Feature::IsoSockets => self.require_iso_sockets(),
            Feature::TxTimestamps => self.require_timestamps(),
        }
    }

    fn require_iso_sockets(&self) -> anyhow::Result<()> {
        let device = self.controllers.address(0)?;
        let iso = || Socket::bound(Service::Iso, device, false);
        let Err(error) = iso() else { return Ok(()) };
        let management = Management::open().context("failed to open the management interface")?;
        match management.enable_iso_sockets(self.calls) {
            Ok(()) => {
                iso().context("the experiment is on, and there are no ISO sockets")?;
                Ok(())
            }
            Err(refused @ ManagementError::Refused { .. }) => {
                let reason = format!("no ISO sockets: {error}; {refused}");
                Err(NotApplicable(reason).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn require_timestamps(&self) -> anyhow::Result<()> {
        let device = self.controllers.address(0)?;
        let service = Service::L2cap {
            psm: 0,
            mode: L2capMode::Basic,
            mtu: None,
        };
        let socket = Socket::bound(service, device, false).context("failed to bind")?;
        match socket.set_timestamps() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let reason = format!("no SOF_TIMESTAMPING_TX_COMPLETION: {error}");
                Err(NotApplicable(reason).into())
            }
            other => other.context("failed to set SO_TIMESTAMPING"),
        }
    }
}
