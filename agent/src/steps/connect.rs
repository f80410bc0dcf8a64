//! Steps that make sockets: listen, connect, accept.

use super::Stage;
use crate::bluetooth::socket::Socket;
use anyhow::{Context as _, bail};
use controller::BdAddr;
use evidence::{Direction, Service};
use std::thread;

impl Stage<'_> {
    pub(super) fn listen(
        &mut self,
        name: &str,
        controller: usize,
        service: Service,
    ) -> anyhow::Result<()> {
        let device = self.controllers.address(controller)?;
        let socket = Socket::bound(service, device, true).context("failed to bind")?;
        socket.listen().context("failed to listen")?;
        self.services.insert(name.to_owned(), (device, service));
        self.sockets.insert(name.to_owned(), socket);
        Ok(())
    }

    /// connect(2) returns when both ends are connected; what accept(2) takes is queued by then.
    pub(super) fn connect(
        &mut self,
        name: &str,
        from: usize,
        to: &str,
        accepted: &str,
    ) -> anyhow::Result<()> {
        let own = self.controllers.address(from)?;
        let known = self.services.get(to);
        let (device, service) = *known.with_context(|| format!("{to} does not listen"))?;
        if service.is_le() {
            self.controllers.enable_le(from, self.calls)?;
        }
        let socket = Socket::bound(service, own, false).context("failed to bind")?;
        let listener = self.socket(to)?;
        let peer = if listener.is_deferred() {
            self.connect_deferred(&socket, device, listener)?
        } else {
            socket.connect(device).context("failed to connect")?;
            listener.accept().context("failed to accept")?
        };
        self.sockets.insert(name.to_owned(), socket);
        self.sockets.insert(accepted.to_owned(), peer);
        Ok(())
    }

    /// The far end accepts while this one still connects: its first read (of nothing) lets the connection be made.
    fn connect_deferred(
        &self,
        socket: &Socket,
        device: BdAddr,
        listener: &Socket,
    ) -> anyhow::Result<Socket> {
        let accept = || {
            listener.wait_readable().context("nobody connects")?;
            let peer = listener.accept().context("failed to accept")?;
            peer.set_up_deferred()
                .context("failed to say how voice travels")?;
            let result = peer.recv(&mut [0; 64]);
            self.calls
                .note(peer.protocol(), Direction::Read, result)
                .context("failed to let the connection be made")?;
            peer.wait_writable().context("it was not made")?;
            Ok(peer)
        };
        thread::scope(|scope| {
            let connecting = scope.spawn(|| socket.connect(device).context("failed to connect"));
            let accepted = accept();
            let Ok(connected) = connecting.join() else {
                bail!("a thread panicked");
            };
            connected.and(accepted)
        })
    }
}
