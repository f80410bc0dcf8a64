//! One thread between an air and its ports.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::port::{Port, Received};
use super::sys;
use crate::air::Air;
use crate::types::ControllerId;

/// Why a server could not be started, or what ended it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The wake-up socket or the thread could not be made.
    #[error("failed to start serving controllers")]
    Start(#[source] io::Error),
    /// Waiting for packets failed.
    #[error("failed to wait for packets")]
    Wait(#[source] io::Error),
    /// The serving thread panicked.
    #[error("the thread that serves controllers panicked")]
    Panicked,
}

/// What a port has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packets that the host refused, being down. The ledger has them as crossed.
    pub refused: u64,
    /// Whether the port is closed: the host is gone, or the device failed.
    pub closed: bool,
}

#[derive(Debug)]
struct Shared {
    air: Air,
    stats: Vec<Stats>,
    /// Ports that are to be put in (or out, if there is none), by number.
    changes: Vec<Change>,
    /// The thread makes some at this moment.
    changing: bool,
    stop: bool,
}

type Change = (usize, Option<Box<dyn Port>>);

#[derive(Debug)]
struct Worker {
    shared: Arc<Mutex<Shared>>,
    changed: Arc<Condvar>,
    ports: Vec<Option<Box<dyn Port>>>,
    wake: UnixStream,
    start: Instant,
}

/// A thread that serves controllers. Dropping it stops it, which closes the ports.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Mutex<Shared>>,
    /// Told when changes have been made, and when the thread ends.
    changed: Arc<Condvar>,
    wake: UnixStream,
    start: Instant,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

/// Packets taken from one port before the others have their turn.
const BURST: usize = 64;

impl Server {
    /// Serves the controllers of `air`, the first through the first port and so on; those without a port are out until they are plugged in.
    /// The air's clock becomes the time since this call.
    ///
    /// # Errors
    /// [`ServeError::Start`].
    pub fn start(air: Air, ports: Vec<Box<dyn Port>>) -> Result<Self, ServeError> {
        let (wake, woken) = UnixStream::pair().map_err(ServeError::Start)?;
        wake.set_nonblocking(true).map_err(ServeError::Start)?;
        woken.set_nonblocking(true).map_err(ServeError::Start)?;
        let places = air.ids().count().max(ports.len());
        let mut ports: Vec<Option<Box<dyn Port>>> = ports.into_iter().map(Some).collect();
        ports.resize_with(places, || None);
        let of_port = |port: &Option<_>| Stats {
            closed: port.is_none(),
            ..Stats::default()
        };
        let stats = ports.iter().map(of_port).collect();
        let shared = Arc::new(Mutex::new(Shared {
            air,
            stats,
            changes: Vec::new(),
            changing: false,
            stop: false,
        }));
        let changed = Arc::new(Condvar::new());
        let start = Instant::now();
        let worker = Worker {
            shared: Arc::clone(&shared),
            changed: Arc::clone(&changed),
            ports,
            wake: woken,
            start,
        };
        let thread = std::thread::Builder::new().name("controllers".to_owned());
        let thread = thread
            .spawn(move || worker.run())
            .map_err(ServeError::Start)?;
        Ok(Self {
            shared,
            changed,
            wake,
            start,
            thread: Some(thread),
        })
    }

    /// Does something with the air, its clock set to now; packets that come of it go out after it.
    pub fn with_air<R>(&self, act: impl FnOnce(&mut Air) -> R) -> R {
        let mut shared = lock(&self.shared);
        shared.air.advance(self.start.elapsed());
        let result = act(&mut shared.air);
        drop(shared);
        self.wake();
        result
    }

    /// Has the thread look after its ports, because something about them has changed.
    pub fn nudge(&self) {
        self.wake();
    }

    /// Pulls a controller out and closes its port; back when that is done. See [`Air::unplug`].
    pub fn unplug(&self, id: ControllerId) {
        self.with_air(|air| air.unplug(id));
        self.change(id, None);
        // What came through the port between the two calls.
        self.with_air(|air| air.unplug(id));
    }

    /// Puts a controller that was pulled out behind a new port.
    pub fn plug(&self, id: ControllerId, port: Box<dyn Port>) {
        self.change(id, Some(port));
    }

    /// Has the thread exchange a port, and waits for it; not for a thread that has ended.
    fn change(&self, id: ControllerId, port: Option<Box<dyn Port>>) {
        let mut shared = lock(&self.shared);
        shared.changes.push((id.index(), port));
        self.wake();
        let waiting =
            |shared: &mut Shared| (shared.changing || !shared.changes.is_empty()) && !shared.stop;
        drop(self.changed.wait_while(shared, waiting));
    }

    /// What the ports have done, in their order.
    pub fn stats(&self) -> Vec<Stats> {
        lock(&self.shared).stats.clone()
    }

    /// Ends the thread, closes the ports, and gives back the air.
    ///
    /// # Errors
    /// What ended the thread before, if anything did.
    pub fn stop(mut self) -> Result<Air, ServeError> {
        self.join()?;
        Ok(std::mem::take(&mut lock(&self.shared).air))
    }

    fn join(&mut self) -> Result<(), ServeError> {
        lock(&self.shared).stop = true;
        self.wake();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(ServeError::Panicked),
            None => Ok(()),
        }
    }

    /// A full socket means that the thread is already due to wake, a closed one that it has ended: both are fine.
    fn wake(&self) {
        if let Err(error) = (&self.wake).write(&[1]) {
            tracing::trace!(%error, "wake-up not written");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            tracing::warn!(%error, "serving controllers ended badly");
        }
    }
}

/// A panic elsewhere while the lock was held leaves the air usable: it is plain data.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Worker {
    /// Serves until it is told to stop, or fails; either way nobody waits for it any more.
    fn run(mut self) -> Result<(), ServeError> {
        let result = self.serve();
        lock(&self.shared).stop = true;
        self.changed.notify_all();
        result
    }

    fn serve(&mut self) -> Result<(), ServeError> {
        let shared = Arc::clone(&self.shared);
        loop {
            self.make_changes(&shared);
            let timeout = {
                let mut shared = lock(&shared);
                shared.air.advance(self.start.elapsed());
                self.advance_ports(&mut shared);
                self.send_all(&mut shared);
                if shared.stop {
                    return Ok(());
                }
                let ports = self.ports.iter().flatten();
                let deadlines = ports.filter_map(|port| port.next_deadline());
                let deadline = deadlines.chain(shared.air.next_deadline()).min();
                deadline.map(|at| at.saturating_sub(self.start.elapsed()))
            };
            let ready = self.wait(timeout).map_err(ServeError::Wait)?;
            for port in ready {
                self.receive_some(&mut lock(&shared), port);
            }
        }
    }

    /// Lets the ports do what is due, and takes what they have for their controllers because of it.
    fn advance_ports(&mut self, shared: &mut Shared) {
        for number in 0..self.ports.len() {
            let Some(Some(port)) = self.ports.get_mut(number) else {
                continue;
            };
            let was_due = port.next_deadline();
            let now = self.start.elapsed();
            if let Err(error) = port.advance(now) {
                self.close(shared, number, Some(error));
            } else if was_due.is_some_and(|due| due <= now) {
                self.receive_some(shared, number);
            }
        }
    }

    /// Exchanges ports. Nobody is kept out of the air meanwhile: closing a port waits until its host has let go of the device.
    fn make_changes(&mut self, shared: &Mutex<Shared>) {
        let changes = {
            let mut shared = lock(shared);
            shared.changing = !shared.changes.is_empty();
            std::mem::take(&mut shared.changes)
        };
        if changes.is_empty() {
            return;
        }
        let mut stats = Vec::new();
        for (number, port) in changes {
            let closed = port.is_none();
            stats.push((number, Stats { refused: 0, closed }));
            if let Some(place) = self.ports.get_mut(number) {
                *place = port;
            }
        }
        let mut shared = lock(shared);
        shared.changing = false;
        for (number, new) in stats {
            if let Some(old) = shared.stats.get_mut(number) {
                *old = new;
            }
        }
        drop(shared);
        self.changed.notify_all();
    }

    /// The ports that have something to read.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<usize>> {
        let open = self.ports.iter().enumerate();
        let open = open.filter_map(|(at, port)| port.as_ref().map(|port| (at, port)));
        let (numbers, ports): (Vec<usize>, Vec<&Box<dyn Port>>) = open.unzip();
        let mut fds: Vec<_> = ports.iter().map(|port| port.as_fd()).collect();
        fds.push(self.wake.as_fd());
        let ready = sys::wait_readable(&fds, timeout)?;
        if ready.last() == Some(&true) {
            drain(&self.wake);
        }
        let ready = numbers.into_iter().zip(ready).filter(|(_, ready)| *ready);
        Ok(ready.map(|(number, _)| number).collect())
    }

    fn receive_some(&mut self, shared: &mut Shared, number: usize) {
        for _ in 0..BURST {
            let Some(Some(port)) = self.ports.get_mut(number) else {
                return;
            };
            match port.receive() {
                Ok(Received::Packet(packet)) => {
                    shared
                        .air
                        .from_host(ControllerId(number), packet, self.start.elapsed());
                    self.send_all(shared);
                }
                Ok(Received::Lost(packet)) => {
                    let now = self.start.elapsed();
                    shared.air.lost_from_host(ControllerId(number), packet, now);
                }
                Ok(Received::Nothing) => return,
                Ok(Received::Closed) => return self.close(shared, number, None),
                Err(error) => return self.close(shared, number, Some(error)),
            }
        }
    }

    /// Hands every packet that the air has for a host to its port.
    fn send_all(&mut self, shared: &mut Shared) {
        while let Some((id, packet)) = shared.air.to_host() {
            let number = id.index();
            let Some(Some(port)) = self.ports.get_mut(number) else {
                continue;
            };
            match port.send(&packet) {
                Ok(true) => {}
                Ok(false) => {
                    if let Some(stats) = shared.stats.get_mut(number) {
                        stats.refused += 1;
                    }
                    tracing::debug!(controller = number, "the host is down and refused a packet");
                }
                Err(error) => self.close(shared, number, Some(error)),
            }
        }
    }

    fn close(&mut self, shared: &mut Shared, number: usize, error: Option<io::Error>) {
        match error {
            Some(error) => tracing::warn!(controller = number, %error, "port failed"),
            None => tracing::info!(controller = number, "port closed by the host"),
        }
        if let Some(port) = self.ports.get_mut(number) {
            *port = None;
        }
        if let Some(stats) = shared.stats.get_mut(number) {
            stats.closed = true;
        }
    }
}

/// Takes all wake-ups that have piled up.
fn drain(mut wake: &UnixStream) {
    let mut bytes = [0; 64];
    while let Ok(1..) = wake.read(&mut bytes) {}
}
