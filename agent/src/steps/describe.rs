//! Steps in words, for people who wait.

use evidence::{Step, Traffic};

/// A step in words.
pub(super) fn describe(step: &Step) -> String {
    match step {
        Step::Listen { socket, .. } => format!("{socket} listens"),
        Step::Connect { socket, to, .. } => format!("{socket} connects to {to}"),
        Step::SendBuffer { socket, bytes } => format!("{socket} asks for SO_SNDBUF {bytes}"),
        Step::Transfer { traffic } => {
            let one = |t: &Traffic| {
                format!(
                    "{} messages of {} bytes from {} to {}",
                    t.messages, t.bytes, t.from, t.to
                )
            };
            traffic.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Step::FillUntilFull { socket, bytes, .. } => {
            format!("fill {socket} with messages of {bytes} bytes")
        }
        Step::Drain { to, .. } => format!("drain through {to}"),
        Step::Peek { socket, times } => format!("{socket} peeks {times} times"),
        Step::Write { socket, bytes } => format!("{socket} writes {bytes} bytes"),
        Step::Read { socket, bytes } => format!("{socket} reads {bytes} bytes"),
        Step::FailingWrite {
            socket,
            bytes,
            errno,
        } => {
            format!("{socket} writes {bytes} bytes, to fail with errno {errno}")
        }
        Step::FailingRead { socket, errno } => {
            format!("{socket} reads, to fail with errno {errno}")
        }
        Step::StampWrites { socket } => format!("have writes of {socket} stamped"),
        Step::ReadStamps { socket, .. } => format!("read the stamps of {socket}"),
        Step::Close { socket } => format!("close {socket}"),
        Step::AwaitHangUp { socket } => format!("await the end of {socket}"),
        Step::AwaitSent { socket } => format!("await that {socket} has sent all"),
        Step::Quiet { milliseconds } => format!("await {milliseconds} ms without packets"),
        Step::Acks { controller, policy } => format!("controller {controller} acks {policy:?}"),
        Step::FlushAcks { controller } => format!("controller {controller} acks everything"),
        Step::AckExtra {
            controller,
            packets,
        } => format!("controller {controller} acks {packets} packets that were not sent"),
        Step::HciSend { socket, opcode } => format!("{socket} sends {opcode}"),
        Step::Inject { fault } => format!("inject {fault:?}"),
        Step::HardwareError { controller, code } => {
            format!("controller {controller} reports hardware error {code:#04x}")
        }
        Step::SendToHost { controller, packet } => {
            format!("controller {controller} sends {packet:02x?}")
        }
        Step::LoseLinks { controller } => format!("controller {controller} loses its links"),
        Step::Unplug { controller } => format!("pull out controller {controller}"),
        Step::UnplugUnderWrite {
            controller, socket, ..
        } => format!("pull out controller {controller} while {socket} writes"),
        Step::Suspend { controller } => format!("suspend controller {controller}"),
        Step::Resume { controller } => format!("resume controller {controller}"),
        Step::Plug { controller } => format!("put in controller {controller}"),
        Step::Device { controller, action } => {
            format!("the device of controller {controller}: {action:?}")
        }
        Step::Pairable { controller } => format!("controller {controller} becomes pairable"),
        Step::DemandEncryption { socket } => format!("{socket} demands encryption"),
        Step::Advertise { controller } => format!("controller {controller} advertises"),
        Step::Require { feature } => format!("look for {feature:?}"),
        Step::Timestamps { socket } => format!("{socket} asks for time stamps"),
        Step::ReadErrorQueue { socket, times } => {
            format!("{socket} reads {times} reports from its error queue")
        }
        Step::EmptyErrorQueue { socket, times } => {
            format!("{socket} reads its empty error queue {times} times")
        }
        Step::OpenHci {
            socket,
            controller,
            channel,
        } => format!("open {socket} on controller {controller}, {channel:?}"),
        Step::HciCommands {
            socket,
            opcode,
            times,
        } => format!("{socket} sends {opcode} {times} times"),
        Step::DriveDevice {
            socket,
            peer,
            echoes,
        } => format!("{socket} connects to controller {peer}, for {echoes} echoes"),
        Step::TakeOver { socket, .. } => format!("{socket} takes its device over"),
        Step::Join { from, to, link } => format!("{from} makes an {link:?} link to {to}"),
        Step::SendOn {
            from,
            to,
            link,
            packets,
            bytes,
        } => format!("{from} sends {packets} packets of {bytes} bytes to {to}, {link:?}"),
        Step::Part { from, to, link } => format!("{from} ends its {link:?} link to {to}"),
        Step::AwaitEnd { socket, link } => format!("{socket} awaits the end of its {link:?} link"),
        Step::EchoBeside { socket, echoes } => format!("{socket} asks for {echoes} echoes"),
        Step::Interrupt {
            socket,
            writes,
            limited,
            times,
        } => {
            let call = writes.map_or("reads", |_| "writes");
            let limit = if *limited { "a" } else { "no" };
            format!("interrupt {times} {call} of {socket} with {limit} time limit")
        }
        Step::HciRefused {
            socket,
            packet,
            times,
        } => format!("{socket} sends {packet:02x?} {times} times, which the driver refuses"),
        Step::DriverPackets {
            socket,
            answered,
            short,
        } => format!(
            "{socket} sends {answered} packets to the driver, and {short} that are cut short"
        ),
        Step::Misbehave { how } => format!("go wrong on purpose: {how:?}"),
        Step::ReloadModule { module, .. } => format!("reload module {module}"),
        Step::UsbFault { fault } => format!("have the bus fail: {fault:?}"),
        Step::AwaitVoice { controller } => format!("await voice on controller {controller}"),
        Step::AwaitNoVoice { controller } => {
            format!("await the end of voice on controller {controller}")
        }
        Step::Panic => "crash the kernel".to_owned(),
        Step::Hang => "stop answering".to_owned(),
    }
}
