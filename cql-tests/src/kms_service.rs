//! A KMS in a process of its own: `coffer kms serve`, or another program that speaks the protocol.
#![expect(
    clippy::indexing_slicing,
    reason = "what is missing in a JSON object is null when it is read"
)]

use std::{
    fs::File,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;

use serde_json::json;

use crate::{
    Boto, KeyScript, Proxy, Result, ServerBuilder, executable, poll::until, python, run_coffer,
};

const READY_WITHIN: Duration = Duration::from_secs(60);
/// The account of services that tests start, other than that of a server's embedded KMS.
pub const SERVICE_ACCOUNT: &str = "111122223333";
/// Their Region.
pub const SERVICE_REGION: &str = "eu-west-1";

/// A running KMS. Ends when dropped.
pub struct KmsService {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
    credentials: PathBuf,
    /// Whose certificates its clients must trust; without it no TLS is spoken.
    authority: Option<PathBuf>,
}

impl KmsService {
    /// `coffer kms serve` on a new directory and a free port, with these arguments more.
    ///
    /// # Errors
    /// When it prints no address in time.
    pub fn start<S: AsRef<str>>(arguments: &[S], environment: &[(&str, &str)]) -> Result<Self> {
        let directory = TempDir::new()?;
        let data = directory.path().join("data");
        let mut command = Command::new(executable()?);
        command.args(["kms", "serve", "--listen", "127.0.0.1:0"]);
        command.args(["--account", SERVICE_ACCOUNT, "--region", SERVICE_REGION, "--data-dir"]);
        command.arg(&data).args(arguments.iter().map(AsRef::as_ref));
        command.envs(environment.iter().copied());
        let log = directory.path().join("log");
        command.stderr(File::options().create(true).append(true).open(&log)?);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let (found, ready) = mpsc::channel();
        std::thread::Builder::new().name("kms-output".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                let words = line.split(|letter: char| letter.is_whitespace() || letter == '/');
                let address =
                    words.filter_map(|word| word.trim_end_matches(['.', ',']).parse().ok()).next();
                // After the first address nobody listens, but the pipe must be kept empty.
                if address.is_some_and(|address: SocketAddr| found.send(address).is_err()) {}
            }
        })?;
        let credentials = data.join("kms").join("credentials");
        match ready.recv_timeout(READY_WITHIN) {
            Ok(address) => Ok(Self { child, address, directory, credentials, authority: None }),
            Err(_) => {
                child.kill()?;
                child.wait()?;
                let text = std::fs::read_to_string(log)?;
                Err(format!("the KMS did not get ready: {text}").into())
            }
        }
    }

    /// As [`KmsService::start`], with TLS and a certificate for 127.0.0.1 that nobody else trusts.
    ///
    /// # Errors
    /// When no certificate can be made, or it does not start.
    pub fn with_tls() -> Result<Self> {
        let folder = TempDir::new()?;
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args(["-nodes", "-days", "30", "-subj", "/CN=kms", "-addext"]);
        openssl.args(["subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext"]);
        openssl.args(["basicConstraints=critical,CA:FALSE", "-keyout"]).arg(&key);
        python::run(openssl.arg("-out").arg(&certificate))?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut service = Self::start(
            &["--kms-tls-cert", &text(&certificate), "--kms-tls-key", &text(&key)],
            &[],
        )?;
        let kept = service.directory.path().join("cert.pem");
        std::fs::copy(&certificate, &kept)?;
        service.authority = Some(kept);
        Ok(service)
    }

    /// moto's server, from PyPI.
    ///
    /// # Errors
    /// When it cannot be installed or started.
    pub fn moto() -> Result<Self> {
        let bin = python::environment("kms-requirements.txt")?;
        let directory = TempDir::new()?;
        let credentials = directory.path().join("credentials");
        std::fs::write(
            &credentials,
            "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n",
        )?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::options().create(true).append(true).open(directory.path().join("log"))?;
        let mut command = Command::new(bin.join("moto_server"));
        command.env("MOTO_ACCOUNT_ID", SERVICE_ACCOUNT);
        command.args(["-H", "127.0.0.1", "-p", &address.port().to_string()]);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let service = Self { child, address, directory, credentials, authority: None };
        until(READY_WITHIN, "moto listens", || {
            Ok(TcpStream::connect(address).map(|_| ()).map_err(|error| error.to_string()))
        })?;
        Ok(service)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The data directory.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The credentials file of its account root.
    #[must_use]
    pub fn credentials(&self) -> &Path {
        &self.credentials
    }

    /// A client with the account root's rights.
    ///
    /// # Errors
    /// When boto3 cannot be started.
    pub fn boto(&self) -> Result<Boto> {
        self.client(&self.credentials, "default")
    }

    fn client(&self, credentials: &Path, profile: &str) -> Result<Boto> {
        let endpoint = format!("{}://{}", self.scheme(), self.address);
        let authority = self.authority.as_deref();
        Boto::start(&endpoint, SERVICE_REGION, credentials, profile, authority)
    }

    fn scheme(&self) -> &'static str {
        if self.authority.is_some() { "https" } else { "http" }
    }

    /// A client with the rights of a new user, whose ARN and credentials file come with it.
    ///
    /// # Errors
    /// When the user cannot be made.
    pub fn user(&self, name: &str) -> Result<(String, PathBuf, Boto)> {
        let directory = self.directory();
        let section = run_coffer(&["kms", "create-user", name, "--data-dir"], &directory)?;
        let file = self.directory.path().join(format!("{name}.credentials"));
        std::fs::write(&file, &section)?;
        let profile = section.split(['[', ']']).nth(1).ok_or("no section")?.to_owned();
        let arn = section
            .split_whitespace()
            .find(|word| word.starts_with("arn:"))
            .ok_or("no ARN")?
            .to_owned();
        let boto = self.client(&file, &profile)?;
        Ok((arn, file, boto))
    }

    /// `[[kms_provider]]` for a server's configuration file, with this address as the KMS's.
    #[must_use]
    pub fn provider(&self, host: &str, principal: &str) -> String {
        let scheme = self.scheme();
        let authority = self
            .authority
            .as_ref()
            .map_or_else(String::new, |path| format!("ca_file = \"{}\"\n", path.display()));
        format!(
            "[[kms_provider]]\nkind = \"aws\"\nregion = \"{SERVICE_REGION}\"\n\
             account = \"{SERVICE_ACCOUNT}\"\nendpoint = \"{scheme}://{host}\"\n\
             principal_arn = \"{principal}\"\n{authority}"
        )
    }
}

impl Drop for KmsService {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {}
    }
}

/// A KMS in a process of its own behind a proxy, as a server's provider of kind `aws`.
pub struct ProxiedKms {
    /// What stands between the server and the KMS.
    pub proxy: Proxy,
    /// The KMS's administrator, past the proxy.
    pub boto: Boto,
    /// The KMS.
    pub service: KmsService,
}

impl ProxiedKms {
    /// Puts a proxy before a KMS; before one that speaks TLS it passes bytes.
    ///
    /// # Errors
    /// When proxy or boto3 cannot be started.
    pub fn of(service: KmsService) -> Result<Self> {
        let proxy = match service.authority {
            Some(_) => Proxy::of_bytes(service.address())?,
            None => Proxy::start(service.address())?,
        };
        let boto = service.boto()?;
        Ok(Self { proxy, boto, service })
    }

    /// Makes a key; gives its ARN.
    ///
    /// # Errors
    /// When the KMS refuses.
    pub fn create_key(&mut self) -> Result<String> {
        let answer = self.boto.call("CreateKey", json!({"KeyUsage": "ENCRYPT_DECRYPT"}))?;
        Ok(answer["KeyMetadata"]["Arn"].as_str().ok_or("no ARN")?.to_owned())
    }

    /// A server that reaches this KMS as `host`, with the proxy's port and the account root's rights.
    ///
    /// # Errors
    /// When its configuration file cannot be written.
    pub fn server(&self, script: &KeyScript, host: &str) -> Result<ServerBuilder> {
        let host = format!("{host}:{}", self.proxy.address().port());
        let root = format!("arn:aws:iam::{SERVICE_ACCOUNT}:root");
        let config = script.folder().join("coffer.toml");
        std::fs::write(&config, self.service.provider(&host, &root))?;
        let credentials = self.service.credentials().to_string_lossy().into_owned();
        let server = script.server().environment("AWS_SHARED_CREDENTIALS_FILE", &credentials);
        let server = server.environment("AWS_EC2_METADATA_DISABLED", "true");
        Ok(server.arguments(&["--config", &config.to_string_lossy()]))
    }
}
