//! Controllers behind ports, served by a thread, with sockets in place of `/dev/vhci`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use common::addr;
use controller::transport::{H4Port, Port, Received, Server};
use controller::{AckPolicy, Air, Direction, PacketKind, Profile};

/// A port on one end of a datagram socket: one datagram a packet, as on vhci.
#[derive(Debug)]
struct SocketPort {
    socket: UnixDatagram,
    buffer: [u8; 2048],
    down: bool,
}

impl AsFd for SocketPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Port for SocketPort {
    fn receive(&mut self) -> io::Result<Received<'_>> {
        match self.socket.recv(&mut self.buffer) {
            Ok(0) => Ok(Received::Closed),
            Ok(length) => Ok(Received::Packet(&self.buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        if self.down {
            return Ok(false);
        }
        self.socket.send(packet).map(|_| true)
    }
}

/// What a test waits at most for anything.
const DEADLINE: Duration = Duration::from_secs(30);

fn port(down: bool) -> (UnixDatagram, Box<dyn Port>) {
    let (host, socket) = UnixDatagram::pair().unwrap();
    socket.set_nonblocking(true).unwrap();
    host.set_read_timeout(Some(DEADLINE)).unwrap();
    (
        host,
        Box::new(SocketPort {
            socket,
            buffer: [0; 2048],
            down,
        }),
    )
}

/// Two hosts, connected; B's acknowledgements and A's are at the policy's mercy.
fn connected(policy: AckPolicy) -> (Server, UnixDatagram, UnixDatagram) {
    let mut air = Air::new();
    for last in [1, 2] {
        air.add(Profile {
            ack: policy,
            supervision_timeout: Duration::from_millis(10),
            ..Profile::bredr(addr(last))
        });
    }
    let ((a, port_a), (b, port_b)) = (port(false), port(false));
    let server = Server::start(air, vec![port_a, port_b]).unwrap();
    b.send(&[1, 0x1a, 0x0c, 1, 2]).unwrap();
    receive(&b);
    let create = [
        &[1, 5, 4, 13],
        &addr(2).to_wire()[..],
        &[0x18, 0xcc, 2, 0, 0, 0, 1],
    ]
    .concat();
    a.send(&create).unwrap();
    receive(&b);
    b.send(&[&[1, 9, 4, 7], &addr(1).to_wire()[..], &[1]].concat())
        .unwrap();
    for host in [&a, &a, &b, &b] {
        receive(host);
    }
    (server, a, b)
}

fn receive(host: &UnixDatagram) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let length = host.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

/// Check that data goes from one port to the other, and that a flush from another thread wakes the server.
#[test]
fn server_carries_data_and_flushes_on_command() {
    let (server, a, b) = connected(AckPolicy::OnCommand);
    a.send(&[2, 1, 0, 3, 0, 7, 8, 9]).unwrap();
    assert_eq!(receive(&b), [2, 0x01, 0x21, 3, 0, 7, 8, 9]);
    let first = server.with_air(|air| air.ids().next()).unwrap();
    server.with_air(|air| air.flush_acks(first));
    assert_eq!(receive(&a), [4, 0x13, 5, 1, 1, 0, 1, 0]);
    let air = server.stop().unwrap();
    let sums = air
        .ledger()
        .totals(first, PacketKind::Acl, Direction::HostToController);
    assert_eq!((sums.packets, sums.payload_bytes), (1, 3));
}

/// Check that a delayed acknowledgement comes by itself, not before its time.
#[test]
fn server_keeps_deadlines_without_traffic() {
    let delay = Duration::from_millis(20);
    let (server, a, b) = connected(AckPolicy::After(delay));
    a.send(&[2, 1, 0, 1, 0, 7]).unwrap();
    receive(&b);
    assert_eq!(receive(&a), [4, 0x13, 5, 1, 1, 0, 1, 0]);
    let air = server.stop().unwrap();
    let ledger = air.ledger();
    let sent = ledger
        .entries()
        .iter()
        .find(|entry| entry.slots_after().is_some())
        .unwrap();
    let acked = ledger
        .entries()
        .iter()
        .find(|entry| !entry.completed().is_empty())
        .unwrap();
    assert!(acked.time >= sent.time + delay, "{sent:?} {acked:?}");
}

/// Check that packets that a host refuses are counted, and that a host that goes away closes its port only.
#[test]
fn server_counts_refusals_and_closed_ports() {
    let mut air = Air::new();
    let ids = [1, 2].map(|last| air.add(Profile::bredr(addr(last))));
    let ((a, port_a), (b, port_b)) = (port(true), port(false));
    let server = Server::start(air, vec![port_a, port_b]).unwrap();
    a.send(&[1, 3, 0x0c, 0]).unwrap();
    a.send(&[]).unwrap();
    while !server.stats()[0].closed {
        std::thread::yield_now();
    }
    b.send(&[1, 3, 0x0c, 0]).unwrap();
    assert_eq!(receive(&b), [4, 0x0e, 4, 1, 3, 0x0c, 0]);
    let stats = server.stats();
    assert_eq!((stats[0].refused, stats[0].closed), (1, true));
    assert_eq!((stats[1].refused, stats[1].closed), (0, false));
    let air = server.stop().unwrap();
    assert_eq!(air.ledger().commands(ids[0]).count(), 1);
    assert!(a.send(&[1]).is_err(), "the port is closed");
}

/// Check that a controller that is pulled out is gone for its host, that the peer of its link notices after the supervision timeout, and
/// that it is as new behind the next port.
#[test]
fn server_unplugs_and_plugs_in_again() {
    let (server, a, b) = connected(AckPolicy::Immediate);
    let ids: Vec<_> = server.with_air(|air| air.ids().collect());
    server.unplug(ids[1]);
    assert!(b.send(&[1]).is_err(), "the port is closed");
    assert_eq!(receive(&a), [4, 5, 4, 0, 1, 0, 8]);
    let (b, port_b) = port(false);
    server.plug(ids[1], port_b);
    // Read Scan Enable: it was on.
    b.send(&[1, 0x19, 0x0c, 0]).unwrap();
    assert_eq!(receive(&b), [4, 0x0e, 5, 1, 0x19, 0x0c, 0, 0]);
    assert!(!server.stats()[1].closed);
}

/// Check that a host on a stream gets its answers however its packets are cut, that one that sends nonsense is hung up on, and that the
/// next one is served; and that the socket's file goes at the end.
#[test]
fn h4_port_serves_one_host_after_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hci.sock");
    let mut air = Air::new();
    let id = air.add(Profile::dual_mode(addr(1)));
    let server = Server::start(air, vec![Box::new(H4Port::bind(&path).unwrap())]).unwrap();
    let connect = || {
        let host = UnixStream::connect(&path).unwrap();
        host.set_read_timeout(Some(DEADLINE)).unwrap();
        host
    };
    let mut host = connect();
    host.write_all(&[1, 3]).unwrap();
    host.write_all(&[0x0c, 0, 1, 0x1a, 0x0c]).unwrap();
    let mut answer = [0; 7];
    host.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [4, 0x0e, 4, 1, 3, 0x0c, 0]);
    host.write_all(&[1, 2, 0x99]).unwrap();
    host.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [4, 0x0e, 4, 1, 0x1a, 0x0c, 0]);
    assert_eq!(host.read(&mut answer).unwrap(), 0);
    let mut host = connect();
    host.write_all(&[1, 3, 0x0c, 0]).unwrap();
    host.read_exact(&mut answer).unwrap();
    let air = server.stop().unwrap();
    assert_eq!(air.ledger().commands(id).count(), 3);
    assert!(!path.exists());
}
