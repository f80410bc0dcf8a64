//! A scenario: scripted traffic as data. The harness writes it, the agent carries it out.

use crate::misbehavior::Misbehavior;
use crate::service::{DeviceAction, Feature, HciChannel, ProcessLink, Service, Traffic};
use controller::transport::usbredir::UsbFault;
use controller::{AckPolicy, Fault, Opcode, Profile};
use serde::{Deserialize, Serialize};

/// What happens in one run: the controllers of the guest, and the steps taken with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name in reports and on the command line, e.g. `l2cap-seqpacket`.
    pub name: String,
    /// One line on what it shows.
    pub about: String,
    /// The controllers, all on one air; the first becomes hci0.
    pub controllers: Vec<Profile>,
    /// How each of them reaches the guest's kernel, in the same order; those beyond the end through vhci. If one is on USB, all live
    /// in the harness's process.
    #[serde(default)]
    pub transports: Vec<Transport>,
    /// What the agent does, in order.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// How the n-th controller reaches the guest's kernel.
    #[must_use]
    pub fn transport(&self, number: usize) -> Transport {
        self.transports.get(number).copied().unwrap_or_default()
    }

    /// Do the controllers live in the harness's process?
    #[must_use]
    pub fn is_outside(&self) -> bool {
        let mut transports = (0..self.controllers.len()).map(|number| self.transport(number));
        transports.any(Transport::is_usb)
    }
}

/// How a controller reaches the guest's kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Through `/dev/vhci`.
    #[default]
    Vhci,
    /// As a USB dongle, through the guest's own drivers for host controller and dongle.
    Usb,
    /// The same, and the dongle says that it can wake its host, without which a kernel does not suspend it. (It cannot, behind QEMU: it
    /// has to be woken from the other side.)
    UsbSuspendable,
    /// Through `/dev/vhci`, but from BlueZ's btvirt, which lies among the pushed files: all controllers of the scenario or none. It keeps no
    /// ledger, and of a profile it heeds only whether there is BR/EDR.
    Btvirt,
}

impl Transport {
    /// Is there a USB dongle?
    #[must_use]
    pub const fn is_usb(self) -> bool {
        matches!(self, Self::Usb | Self::UsbSuspendable)
    }
}

/// One step. Sockets go by the names that earlier steps gave them, controllers by their place in
/// [`Scenario::controllers`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Bind a socket and listen.
    Listen {
        /// The new socket's name.
        socket: String,
        /// On which controller.
        controller: usize,
        /// What it offers.
        service: Service,
    },
    /// Connect a new socket, and accept at the far end.
    Connect {
        /// The connecting socket's name.
        socket: String,
        /// The controller that it is bound to.
        from: usize,
        /// The listening socket.
        to: String,
        /// Name of the socket that accept returns.
        accepted: String,
    },
    /// Set `SO_SNDBUF`.
    SendBuffer {
        /// The socket.
        socket: String,
        /// What is asked for, bytes. The kernel doubles it (Kernel: net/core/sock.c sk_setsockopt()).
        bytes: u32,
    },
    /// Write messages into sockets and read them from others, all of them at once, every byte
    /// checked.
    Transfer {
        /// Each with threads of its own.
        traffic: Vec<Traffic>,
    },
    /// Write without waiting until the socket's buffer is full (EAGAIN), then fail so often again.
    FillUntilFull {
        /// The socket.
        socket: String,
        /// Length of each message, bytes.
        bytes: usize,
        /// How many further writes must fail with EAGAIN.
        further: u32,
    },
    /// Read everything that [`Step::FillUntilFull`] wrote, every byte checked.
    Drain {
        /// The socket that was filled.
        from: String,
        /// The reading socket.
        to: String,
    },
    /// Look at the next message so often without taking it (MSG_PEEK); then it is still there.
    Peek {
        /// The socket.
        socket: String,
        /// How often.
        times: u32,
    },
    /// Write one message and leave it unread.
    Write {
        /// The socket.
        socket: String,
        /// Length of the message, bytes.
        bytes: usize,
    },
    /// Read one message of this length.
    Read {
        /// The socket.
        socket: String,
        /// Length of the message, bytes.
        bytes: usize,
    },
    /// Write once and expect this error.
    FailingWrite {
        /// The socket.
        socket: String,
        /// Length of the message, bytes.
        bytes: usize,
        /// The error number that write must fail with.
        errno: i32,
    },
    /// Read once and expect this error.
    FailingRead {
        /// The socket.
        socket: String,
        /// The error number that read must fail with.
        errno: i32,
    },
    /// Have the kernel stamp what a socket writes from now on: when each packet goes to the driver, and when it is completed. Without effect
    /// on kernels that cannot (before 6.15).
    StampWrites {
        /// The socket.
        socket: String,
    },
    /// Read the stamps of everything that was written since [`Step::StampWrites`].
    ReadStamps {
        /// The socket.
        socket: String,
        /// The controller that it is bound to.
        controller: usize,
        /// How many packets there must be.
        packets: usize,
    },
    /// Close a socket.
    Close {
        /// The socket.
        socket: String,
    },
    /// Wait until the far end's end is seen on this socket (poll says hang-up).
    AwaitHangUp {
        /// The socket.
        socket: String,
    },
    /// Wait until all that was written to a socket has gone to the driver.
    AwaitSent {
        /// The socket.
        socket: String,
    },
    /// Wait until nothing has crossed any controller's boundary for so long.
    Quiet {
        /// How long, milliseconds.
        milliseconds: u64,
    },
    /// Change when a controller gives buffers back; what is outstanding stays so.
    Acks {
        /// Which controller.
        controller: usize,
        /// From now on.
        policy: AckPolicy,
    },
    /// Have a controller give everything back that is outstanding.
    FlushAcks {
        /// Which controller.
        controller: usize,
    },
    /// Have a controller report so many packets of each of its links as completed that were never sent.
    AckExtra {
        /// Which controller.
        controller: usize,
        /// How many, for each link.
        packets: u16,
    },
    /// Have a controller misbehave from now on.
    Inject {
        /// How.
        fault: Fault,
    },
    /// Go wrong on purpose.
    Misbehave {
        /// How.
        how: Misbehavior,
    },
    /// Take a module out of the kernel and put it in again; the probes follow.
    ReloadModule {
        /// Its name.
        module: String,
        /// Nobody tells the probes.
        #[serde(default)]
        unseen: bool,
    },
    /// Have something go wrong on the bus of a controller on USB.
    UsbFault {
        /// What.
        fault: UsbFault,
    },
    /// Wait until the kernel does not poll a controller on USB for voice any more.
    AwaitNoVoice {
        /// Which controller.
        controller: usize,
    },
    /// Wait until the kernel of a controller on USB polls for voice: before that, what is written to a synchronous socket is lost.
    AwaitVoice {
        /// Which controller.
        controller: usize,
    },
    /// Have a controller report a hardware error: the kernel closes the device and opens it again.
    HardwareError {
        /// Which controller.
        controller: usize,
        /// The code that it reports.
        code: u8,
    },
    /// Have a controller send these bytes, whether they make sense or not.
    SendToHost {
        /// Which controller.
        controller: usize,
        /// H4 indicator and packet.
        packet: Vec<u8>,
    },
    /// Cut all links of a controller: both ends notice when the supervision timeout has passed.
    LoseLinks {
        /// Which controller.
        controller: usize,
    },
    /// Pull a controller out: its device goes.
    Unplug {
        /// Which controller.
        controller: usize,
    },
    /// Pull a controller out while a write sleeps because its socket's buffer is full.
    UnplugUnderWrite {
        /// Which controller.
        controller: usize,
        /// The socket, full by then.
        socket: String,
        /// Length of the message, bytes.
        bytes: usize,
        /// The error number that write must fail with.
        errno: i32,
    },
    /// Have the kernel suspend a controller on USB, and wait until it has.
    Suspend {
        /// Which controller.
        controller: usize,
    },
    /// Have the kernel resume a controller on USB, and keep it awake.
    Resume {
        /// Which controller.
        controller: usize,
    },
    /// Put a controller back in, with nothing remembered, and bring its device up.
    Plug {
        /// Which controller.
        controller: usize,
    },
    /// Have the kernel do something with a device (ioctl).
    Device {
        /// Which controller's.
        controller: usize,
        /// What.
        action: DeviceAction,
    },
    /// Have a device pair with Secure Simple Pairing, without asking anybody, through the management interface.
    Pairable {
        /// Which controller's.
        controller: usize,
    },
    /// Take only connections over encrypted links on a listening socket (`BT_SECURITY_MEDIUM`).
    DemandEncryption {
        /// The socket.
        socket: String,
    },
    /// Turn LE on through the management interface, and advertise so that others can connect.
    Advertise {
        /// Which controller.
        controller: usize,
    },
    /// Go on only if this kernel has it; else the scenario is not applicable, with what the kernel said.
    Require {
        /// What it takes.
        feature: Feature,
    },
    /// Have the kernel report when each message of a socket is sent and completed (`SO_TIMESTAMPING`).
    Timestamps {
        /// The socket.
        socket: String,
    },
    /// Read so many reports from a socket's error queue (`MSG_ERRQUEUE`).
    ReadErrorQueue {
        /// The socket.
        socket: String,
        /// How many.
        times: u32,
    },
    /// Read an empty error queue so often.
    EmptyErrorQueue {
        /// The socket.
        socket: String,
        /// How often.
        times: u32,
    },
    /// Open an HCI socket on a device.
    OpenHci {
        /// The new socket's name.
        socket: String,
        /// Which controller's device.
        controller: usize,
        /// Beside the kernel, or in its place.
        channel: HciChannel,
    },
    /// Send a command without parameters through an HCI socket, and read its Command Complete event, so often.
    HciCommands {
        /// The socket.
        socket: String,
        /// The command.
        opcode: Opcode,
        /// How often.
        times: u32,
    },
    /// Drive a device through a socket on its user channel: reset it, read how many buffers it has, connect to another device, send so many
    /// echo requests (L2CAP), each answered, and disconnect.
    DriveDevice {
        /// The socket.
        socket: String,
        /// The controller of the other device.
        peer: usize,
        /// How many.
        echoes: u32,
    },
    /// Send so many echo requests (L2CAP), each answered, through a raw HCI socket, on the one link that its device has.
    EchoBeside {
        /// The socket.
        socket: String,
        /// How many.
        echoes: u32,
    },
    /// Take a device over through an open socket on its user channel: reset it, read how many buffers it has, let others find it. A second time,
    /// its links go without a word.
    TakeOver {
        /// The socket.
        socket: String,
        /// Its device's controller.
        controller: usize,
    },
    /// Make a link between two devices that were taken over.
    Join {
        /// Whose process begins.
        from: String,
        /// Whose process accepts.
        to: String,
        /// Which link.
        link: ProcessLink,
    },
    /// Send packets on such a link, each of which arrives.
    SendOn {
        /// Who sends.
        from: String,
        /// Who gets them.
        to: String,
        /// On which link.
        link: ProcessLink,
        /// How many packets.
        packets: u32,
        /// Payload of each, bytes.
        bytes: u8,
    },
    /// End such a link.
    Part {
        /// Whose process ends it.
        from: String,
        /// Whose process is told.
        to: String,
        /// Which link.
        link: ProcessLink,
    },
    /// Wait until a process is told that such a link has ended.
    AwaitEnd {
        /// The process's socket.
        socket: String,
        /// Which link.
        link: ProcessLink,
    },
    /// Have calls wait and interrupt each with a signal.
    Interrupt {
        /// The socket.
        socket: String,
        /// Writes of so many bytes into a full buffer; without it, reads of what is empty.
        #[serde(default)]
        writes: Option<usize>,
        /// Would the calls give up some time? The kernel tells these from others.
        limited: bool,
        /// How often.
        times: u32,
    },
    /// Send a command without parameters through an HCI socket, whether it is answered or not.
    HciSend {
        /// The socket.
        socket: String,
        /// The command.
        opcode: Opcode,
    },
    /// Write a packet to a raw HCI socket so often, which the driver refuses each time.
    HciRefused {
        /// The socket.
        socket: String,
        /// H4 indicator and packet.
        packet: Vec<u8>,
        /// How often.
        times: u32,
    },
    /// Send packets for a device's driver itself through a socket on its user channel: some that are cut short, which the kernel refuses, then some
    /// that are answered. Kernels before 6.16 have none: the scenario is not applicable.
    DriverPackets {
        /// The socket, whose device was taken over.
        socket: String,
        /// How many are answered.
        answered: u32,
        /// How many are cut short.
        short: u32,
    },
    /// Crash the guest's kernel through sysrq.
    Panic,
    /// Stop answering: no further record, ever.
    Hang,
}
