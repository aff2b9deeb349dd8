//! TLS of the CQL port: versions, client certificates, plain connections, certificates that change while
//! the server runs.
#![expect(clippy::disallowed_methods, reason = "polls end at a deadline in real time")]

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use cql_tests::{Client, Result, Server, ServerBuilder, exchange};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);
const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// An authority and the files of a server's certificate under it.
struct Files {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Files {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let files = Self { folder: TempDir::new()?, authority };
        fs::write(files.path("ca.pem"), files.authority.pem())?;
        files.write_server()?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate and its key, in PEM.
    fn issue(&self) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
        Ok((params.signed_by(&key, &self.authority)?.pem(), key.serialize_pem()))
    }

    /// A new certificate in the server's files.
    fn write_server(&self) -> Result<()> {
        let (cert, key) = self.issue()?;
        fs::write(self.path("cert.pem"), cert)?;
        fs::write(self.path("key.pem"), key)?;
        Ok(())
    }

    fn arguments(&self, more: &[&str]) -> Vec<String> {
        let file = |name: &str| self.path(name).display().to_string();
        let mut all = vec![
            "--tls-cert".to_owned(),
            file("cert.pem"),
            "--tls-key".to_owned(),
            file("key.pem"),
        ];
        all.extend(more.iter().map(|argument| (*argument).to_owned()));
        all
    }

    fn serve(&self, more: &[&str]) -> Result<Server> {
        ServerBuilder::default().arguments(&self.arguments(more)).start()
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes())?)?;
        Ok(roots)
    }
}

/// A client with TLS; `identity` is a certificate and its key in PEM.
fn connect(
    files: &Files,
    address: SocketAddr,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<(String, String)>,
) -> Result<(Client, Vec<u8>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_root_certificates(files.roots()?);
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((cert, key)) => config.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes())?],
            PrivateKeyDer::from_pem_slice(key.as_bytes())?,
        )?,
    };
    let name = ServerName::try_from("127.0.0.1")?;
    let mut session = ClientConnection::new(Arc::new(config), name)?;
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(WITHIN))?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    let shown =
        session.peer_certificates().and_then(|chain| chain.first()).ok_or("no certificate")?;
    let shown = shown.to_vec();
    Ok((Client::over(StreamOwned::new(session, socket))?, shown))
}

fn certificate(path: &Path) -> Result<Vec<u8>> {
    Ok(CertificateDer::from_pem_file(path)?.to_vec())
}

#[test]
fn large_and_small_requests_go_both_ways_in_either_version() -> Result<()> {
    let files = Files::new()?;
    let server = files.serve(&[])?;
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let (mut client, _) = connect(&files, server.address(), versions, None)?;
        client.execute(
            "CREATE KEYSPACE IF NOT EXISTS ks WITH replication = {'class': 'SingleRegionStrategy'}",
        )?;
        client.execute("CREATE TABLE IF NOT EXISTS ks.t (k int PRIMARY KEY, v text)")?;
        for k in 0..20 {
            let text = "x".repeat(200_000 + k);
            client.execute(&format!("INSERT INTO ks.t (k, v) VALUES ({k}, '{text}')"))?;
        }
        let rows = client.rows("SELECT * FROM ks.t")?;
        assert_eq!(rows.rows.len(), 20);
        let bytes: usize = rows
            .rows
            .iter()
            .flatten()
            .filter_map(|cell| cell.as_ref().map(|cell| cell.len()))
            .sum();
        assert_eq!(bytes, 20 * (200_000 + 4) + 190);
    }
    Ok(())
}

#[test]
fn a_plain_connection_is_refused_and_a_silent_one_is_closed() -> Result<()> {
    let files = Files::new()?;
    let server = files.serve(&["--startup-timeout-millis", "300", "--connections-max", "2"])?;
    assert!(Client::connect(server.address()).is_err(), "a plain connection was accepted");
    // Two that say nothing take all places, for the time of a handshake.
    let silent = [TcpStream::connect(server.address())?, TcpStream::connect(server.address())?];
    let until = Instant::now() + WITHIN;
    while connect(&files, server.address(), BOTH, None).is_err() {
        assert!(Instant::now() < until, "silent connections hold their places");
    }
    drop(silent);
    let answer = exchange(server.address(), b"GET / HTTP/1.1\r\n\r\n", WITHIN)?;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    Ok(())
}

#[test]
fn with_an_authority_clients_need_its_certificate() -> Result<()> {
    let files = Files::new()?;
    let authority = files.path("ca.pem").display().to_string();
    let server = files.serve(&["--tls-client-ca", &authority])?;
    for versions in [&[&TLS12][..], &[&TLS13]] {
        assert!(connect(&files, server.address(), versions, None).is_err(), "no certificate");
        let stranger = Files::new()?.issue()?;
        assert!(connect(&files, server.address(), versions, Some(stranger)).is_err(), "of another");
        let (mut client, _) = connect(&files, server.address(), versions, Some(files.issue()?))?;
        assert_eq!(client.rows("SELECT key FROM system.local")?.rows.len(), 1);
    }
    Ok(())
}

/// Polls until new connections are shown this certificate.
fn is_shown(files: &Files, server: &Server, wanted: &[u8]) -> Result<()> {
    let until = Instant::now() + WITHIN;
    loop {
        let (_, shown) = connect(files, server.address(), BOTH, None)?;
        if shown == wanted {
            return Ok(());
        }
        assert!(Instant::now() < until, "the old certificate is still shown");
    }
}

#[test]
fn changed_files_are_taken_over_without_a_restart_and_broken_ones_are_not() -> Result<()> {
    let files = Files::new()?;
    let server = files.serve(&[])?;
    let first = certificate(&files.path("cert.pem"))?;
    let (mut before, shown) = connect(&files, server.address(), BOTH, None)?;
    assert_eq!(shown, first);

    files.write_server()?;
    let second = certificate(&files.path("cert.pem"))?;
    assert_ne!(first, second);
    is_shown(&files, &server, &second)?;
    assert_eq!(before.rows("SELECT key FROM system.local")?.rows.len(), 1, "it stays connected");

    for broken in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let lines = server.log()?.lines().count();
        fs::write(files.path("cert.pem"), broken)?;
        let until = Instant::now() + WITHIN;
        while !server.log()?.lines().skip(lines).any(|line| line.contains("old ones stay")) {
            assert!(Instant::now() < until, "nothing was logged");
        }
        is_shown(&files, &server, &second)?;
    }
    files.write_server()?;
    is_shown(&files, &server, &certificate(&files.path("cert.pem"))?)?;

    let lines = server.log()?.lines().count();
    let pid = i32::try_from(server.pid()).ok().and_then(Pid::from_raw).ok_or("no process")?;
    kill_process(pid, Signal::HUP)?;
    let until = Instant::now() + WITHIN;
    while !server.log()?.lines().skip(lines).any(|line| line.contains("loaded again")) {
        assert!(Instant::now() < until, "SIGHUP did nothing");
    }
    Ok(())
}

#[test]
fn a_start_with_wrong_files_is_refused_by_name() -> Result<()> {
    let files = Files::new()?;
    let other = Files::new()?;
    fs::write(files.path("empty.pem"), "")?;
    let path = |files: &Files, name: &str| files.path(name).display().to_string();
    for (cert, key, wanted) in [
        (path(&files, "none.pem"), path(&files, "key.pem"), "none.pem"),
        (path(&files, "empty.pem"), path(&files, "key.pem"), "empty.pem"),
        (path(&files, "cert.pem"), path(&files, "empty.pem"), "empty.pem"),
        (path(&files, "cert.pem"), path(&other, "key.pem"), "cert.pem"),
    ] {
        let started =
            ServerBuilder::default().arguments(&["--tls-cert", &cert, "--tls-key", &key]).start();
        let error = started.err().ok_or("it started")?.to_string();
        assert!(error.contains(wanted) && error.contains("TLS"), "{error}");
    }
    Ok(())
}
