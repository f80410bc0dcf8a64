use std::fs;

use metrics::catalogue::SLOTS_FREE;
use metrics::text::parse;
use proptest::prelude::*;

use super::*;

struct One;

impl Source for One {
    fn scrape(&self) -> Result<Snapshot, String> {
        let mut snapshot = Snapshot::new();
        snapshot.set(&SLOTS_FREE, &[("hci", "hci0"), ("kind", "acl")], 7);
        Ok(snapshot)
    }
}

struct Broken;

impl Source for Broken {
    fn scrape(&self) -> Result<Snapshot, String> {
        Err("map gone".to_owned())
    }
}

fn server(limits: Limits, source: impl Source + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Server::start(listener, limits, Arc::new(source)).unwrap()
}

fn quick() -> Limits {
    Limits {
        time: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// Sends bytes and reads until the server hangs up.
fn ask(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // A server that has had enough may hang up before all was sent.
    let _sent = stream
        .write_all(request)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let _hung_up = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Check that each format comes with its type and reads back as what the source gave.
#[test]
fn metrics_come_in_the_format_that_was_asked_for() {
    let server = server(Limits::default(), One);
    for (accept, format) in [
        ("*/*", Format::Prometheus),
        ("application/openmetrics-text", Format::OpenMetrics),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n");
        let answer = ask(&server, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(format.content_type()), "{head}");
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len())),
            "{head}"
        );
        assert_eq!(parse(body).unwrap(), One.scrape().unwrap());
    }
}

/// Check that HEAD gets the head alone, and that each mistake has its status.
#[test]
fn other_requests_get_their_status() {
    let server = server(quick(), One);
    let head = ask(&server, b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let long = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 9000]].concat();
    for (request, status) in [
        (b"GET /x HTTP/1.1\r\n\r\n".as_slice(), "404"),
        (b"DELETE /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"\x16\x03\x01\xff\xfe\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        let answer = ask(&server, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{status}: {answer}"
        );
    }
}

/// Check that a source that fails is an error of the server, with its reason.
#[test]
fn broken_source_is_a_server_error() {
    let answer = ask(&server(quick(), Broken), b"GET /metrics HTTP/1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.ends_with("\r\n\r\nmap gone\n"));
}

/// Check that silent clients are hung up on after the time, that more than the limit are told to
/// come again, and that there is room again afterwards.
#[test]
fn silent_clients_are_bounded_in_number_and_time() {
    // Long enough for three connections and a fourth on any machine.
    let limits = Limits {
        connections: 3,
        time: Duration::from_secs(2),
        ..quick()
    };
    let server = server(limits, One);
    let silent: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    let busy = ask(&server, b"");
    assert!(busy.starts_with("HTTP/1.1 503 "), "{busy}");
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while !ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "no place was given back");
    }
}

/// Descriptors of this process that are sockets of the server's port.
fn sockets_of(port: u16) -> usize {
    let port = format!(":{port:04X} ");
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let open =
        |line: &&str| line.contains(&port) && !line.contains(" 06 ") && !line.contains(" 0A ");
    table.lines().filter(open).count()
}

/// Check that connections leave no descriptor behind, whatever they said.
#[test]
fn many_connections_leave_nothing_open() {
    let server = server(quick(), One);
    for i in 0..200 {
        let request: &[u8] = [b"GET /metrics HTTP/1.1\r\n\r\n".as_slice(), b"\0", b"GET"][i % 2];
        ask(&server, request);
    }
    let port = server.address().port();
    let deadline = Instant::now() + Duration::from_secs(10);
    while sockets_of(port) > 0 {
        assert!(
            Instant::now() < deadline,
            "{} sockets are left",
            sockets_of(port)
        );
        thread::sleep(PAUSE);
    }
    drop(server);
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Check that whatever is sent, the server answers or hangs up, and lives on.
    #[test]
    fn server_survives_arbitrary_requests(request in prop::collection::vec(any::<u8>(), 0..2000)) {
        let server = server(Limits::default(), One);
        ask(&server, &request);
        let answer = ask(&server, b"GET /metrics HTTP/1.1\r\n\r\n");
        prop_assert!(answer.starts_with("HTTP/1.1 200"));
    }
}
