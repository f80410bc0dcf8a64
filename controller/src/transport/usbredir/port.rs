//! A dongle on a unix socket that QEMU's character device is connected to.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Dongle, DongleSettings, FromHost, UsbFault, UsbTransfers};
use crate::transport::listening::{Listening, is_temporary};
use crate::transport::port::{Port, Received};
use crate::transport::sys;

/// How long QEMU may leave a full socket unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 1 << 14;

/// One dongle, for one QEMU at a time.
#[derive(Debug)]
pub struct UsbPort {
    dongle: Arc<Mutex<Dongle>>,
    settings: DongleSettings,
    listening: Option<Listening>,
    host: Option<UnixStream>,
    /// The one host that there will ever be has gone.
    closed: bool,
    packet: Vec<u8>,
    /// The server's clock when it was last heard of, and when that was.
    clock: (Duration, Instant),
}

/// A dongle from the side: what a person would do with their hands.
#[derive(Debug, Clone)]
pub struct UsbControl(Arc<Mutex<Dongle>>);

/// A panic elsewhere while the lock was held leaves the dongle usable: it is plain data.
fn lock(dongle: &Mutex<Dongle>) -> MutexGuard<'_, Dongle> {
    dongle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UsbControl {
    /// Plugs the dongle in. The [`Server`](crate::transport::Server) must be woken after this, as after everything here.
    pub fn plug(&self) {
        lock(&self.0).plug();
    }

    /// Pulls the dongle out.
    pub fn unplug(&self) {
        lock(&self.0).unplug();
    }

    /// Has something go wrong on the bus.
    pub fn add_fault(&self, fault: UsbFault) {
        lock(&self.0).add_fault(fault);
    }

    /// Whether voice goes both ways.
    pub fn is_voice_ready(&self) -> bool {
        lock(&self.0).is_voice_ready()
    }

    /// What crossed the bus.
    pub fn transfers(&self) -> Vec<UsbTransfers> {
        lock(&self.0).transfers()
    }
}

impl UsbPort {
    /// Listens at a path where nobody does. When a QEMU goes, the next may come and finds a new dongle. The socket's file goes with
    /// the port.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(path: &Path, settings: DongleSettings) -> io::Result<Self> {
        Ok(Self::new(settings, Some(Listening::bind(path)?), None))
    }

    /// Takes a socket whose other end QEMU has.
    ///
    /// # Errors
    /// What the system says.
    pub fn connected(host: UnixStream, settings: DongleSettings) -> io::Result<Self> {
        host.set_nonblocking(true)?;
        Ok(Self::new(settings, None, Some(host)))
    }

    fn new(
        settings: DongleSettings,
        listening: Option<Listening>,
        host: Option<UnixStream>,
    ) -> Self {
        Self {
            dongle: Arc::new(Mutex::new(Dongle::new(settings))),
            settings,
            listening,
            host,
            closed: false,
            packet: Vec::new(),
            clock: (Duration::ZERO, Instant::now()),
        }
    }

    /// A hand on the dongle.
    pub fn control(&self) -> UsbControl {
        UsbControl(Arc::clone(&self.dongle))
    }

    fn accept(&mut self) -> io::Result<()> {
        let Some(listening) = &self.listening else {
            return Ok(());
        };
        if let Some(host) = listening.accept()? {
            *lock(&self.dongle) = Dongle::new(self.settings);
            self.host = Some(host);
        }
        Ok(())
    }

    /// Reads what is there. `false` if there is nothing, or QEMU has gone.
    fn fill(&mut self) -> bool {
        let now = self.now();
        let Some(host) = &mut self.host else {
            return false;
        };
        let mut chunk = [0; CHUNK_BYTES];
        let why = match host.read(&mut chunk) {
            Err(error) if is_temporary(&error) => return false,
            Err(error) => error.to_string(),
            Ok(0) => "QEMU has gone".to_owned(),
            Ok(read) => {
                let bytes = chunk.get(..read).unwrap_or_default();
                match lock(&self.dongle).from_host(bytes, now) {
                    Ok(()) => return true,
                    Err(error) => error.to_string(),
                }
            }
        };
        self.hang_up(&why);
        false
    }

    /// The time on the server's clock.
    fn now(&self) -> Duration {
        let (then, at) = self.clock;
        then + at.elapsed()
    }

    fn hang_up(&mut self, why: &str) {
        tracing::info!(why, "USB host disconnected");
        match self.listening {
            Some(_) => self.host = None,
            // The server waits on the socket until it has been told.
            None => self.closed = true,
        }
    }

    /// Writes what the dongle has to say.
    fn flush(&mut self) -> io::Result<()> {
        if self.host.is_none() {
            return Ok(());
        }
        let bytes = lock(&self.dongle).to_host();
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let Some(host) = self.host.as_mut().filter(|_| !self.closed) else {
                return Ok(());
            };
            match host.write(left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !sys::wait_writable(host.as_fd(), WRITE_TIMEOUT)? {
                        self.hang_up("it does not read");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.hang_up(&error.to_string()),
            }
        }
        Ok(())
    }
}

impl AsFd for UsbPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match (&self.host, &self.listening) {
            (Some(host), _) => host.as_fd(),
            (None, Some(listening)) => listening.as_fd(),
            (None, None) => unreachable!("without a listener the host's socket is kept"),
        }
    }
}

impl Port for UsbPort {
    fn receive(&mut self) -> io::Result<Received<'_>> {
        if self.host.is_none() {
            self.accept()?;
        }
        loop {
            self.flush()?;
            let next = lock(&self.dongle).to_controller();
            match next {
                Some(FromHost::Packet(packet)) => {
                    self.packet = packet;
                    return Ok(Received::Packet(&self.packet));
                }
                Some(FromHost::Lost(packet)) => {
                    self.packet = packet;
                    return Ok(Received::Lost(&self.packet));
                }
                None => {}
            }
            if !self.fill() {
                return Ok(match self.closed {
                    true => Received::Closed,
                    false => Received::Nothing,
                });
            }
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        let now = self.now();
        let taken = lock(&self.dongle).from_controller(packet, now);
        self.flush()?;
        Ok(taken)
    }

    fn next_deadline(&self) -> Option<Duration> {
        lock(&self.dongle).next_deadline()
    }

    fn advance(&mut self, now: Duration) -> io::Result<()> {
        self.clock = (now, Instant::now());
        lock(&self.dongle).advance(now);
        self.flush()
    }
}
