//! What `docs/OPERATING.md` tells an operator to do, done by it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use cql_tests::{
    Boto, Client, Result, Server, free_address,
    key_loss::{KeyClock, keyspace_with_other},
    key_status::{status, texts},
    poll::until,
    python::environment,
    with_key,
};
use serde_json::json;

const KINDS: [&str; 12] = [
    "key_lost",
    "reminder",
    "recovered",
    "unreachable",
    "reachable",
    "snapshot_taken",
    "snapshot_failed",
    "drop_blocked",
    "dropped",
    "restored",
    "purged",
    "create_failed",
];
const CONTROL: &str = "arn:aws:iam::000000000000:role/coffer";
const DATA: &str = "arn:aws:iam::000000000000:role/coffer-data";

fn runbooks() -> Result<String> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATING.md");
    let text = fs::read_to_string(document)?;
    let (_, runbooks) = text.split_once("\n## Runbooks\n").ok_or("no runbooks")?;
    Ok(runbooks.to_owned())
}

#[test]
fn each_kind_of_notification_has_a_runbook_that_says_how_to_see_the_end() -> Result<()> {
    let runbooks = runbooks()?;
    for kind in KINDS {
        let heading = format!("\n### {kind}\n");
        let (_, one) =
            runbooks.split_once(&heading).ok_or_else(|| format!("no runbook for {kind}"))?;
        let one = one.split("\n### ").next().unwrap_or_default();
        for part in ["**Means**", "**Do**"] {
            assert!(one.contains(part), "{kind} lacks {part}");
        }
    }
    Ok(())
}

/// A server with a table under a key of its embedded KMS, and the AWS CLI.
struct World {
    clock: KeyClock,
    server: Server,
    boto: Boto,
    key: String,
    endpoint: String,
}

impl World {
    fn start() -> Result<Self> {
        let clock = KeyClock::new()?;
        let address = free_address()?.to_string();
        let server = clock.script.server().arguments(&["--kms-listen", &address]).start()?;
        let endpoint = format!("http://{address}");
        let credentials = server.directory().join("kms/credentials");
        let boto = Boto::start(&endpoint, "us-east-1", &credentials, "default", None)?;
        let key = server.kms(&["create-key"])?;
        let mut client = keyspace_with_other(&server)?;
        client.execute(&format!(
            "CREATE TABLE ks.t (k int PRIMARY KEY, v text) {}",
            with_key(&key)
        ))?;
        client.execute("INSERT INTO ks.t (k, v) VALUES (1, 'x')")?;
        Ok(Self { clock, server, boto, key, endpoint })
    }

    /// A command as the document has it, with names in the places of its placeholders.
    fn shell(&self, command: &str) -> Result<Output> {
        let bin = environment("kms-requirements.txt")?;
        let command = command
            .replace("DATA_ROLE_ARN", DATA)
            .replace("ROLE_ARN", CONTROL)
            .replace("KEYSPACE", "ks")
            .replace("TABLE", "t")
            .replace("ACCOUNT", "000000000000")
            .replace("--key-id ARN", &format!("--key-id {}", self.key))
            .replace(
                "--data-dir DIR",
                &format!("--data-dir {}", self.server.directory().display()),
            );
        let path = std::env::var("PATH")?;
        let coffer = cql_tests::executable()?;
        let named = self.server.directory().with_extension("bin");
        fs::create_dir_all(&named)?;
        if !named.join("coffer").exists() {
            std::os::unix::fs::symlink(coffer, named.join("coffer"))?;
        }
        let output = Command::new("sh")
            .args(["-ec", &command])
            .env("PATH", format!("{}:{}:{path}", bin.display(), named.display()))
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_SHARED_CREDENTIALS_FILE", self.server.directory().join("kms/credentials"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()?;
        Ok(output)
    }

    fn run(&self, command: &str) -> Result<()> {
        let output = self.shell(command)?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Waits for the loss, does what the runbook says, and waits for the end of it.
    fn remedy(&mut self, count: usize, cause: &str, commands: &[&str]) -> Result<()> {
        let mut client = Client::connect(self.server.address())?;
        let lost = self.clock.wait_for_event(&mut client, "t", "key_lost", count)?;
        assert!(lost.detail.contains(cause), "{cause}: {lost:?}");
        let check = "coffer keys check KEYSPACE.TABLE --data-dir DIR";
        assert_eq!(self.shell(check)?.status.code(), Some(2), "the check finds {cause}");
        for command in commands {
            self.run(command)?;
        }
        self.run(check)?;
        self.clock.wait_for_event(&mut client, "t", "recovered", count)?;
        assert_eq!(status(&mut client, "t", "state")?, "ACCESSIBLE", "after {cause}");
        until(std::time::Duration::from_secs(30), "rows again", || {
            Ok(texts(&mut client, "SELECT v FROM ks.t").map_err(|error| error.to_string()))
        })?;
        Ok(())
    }
}

#[test]
fn what_the_runbook_of_a_lost_key_says_gives_it_back() -> Result<()> {
    let runbooks = runbooks()?;
    let quoted = |start: &str| -> Result<String> {
        let found = runbooks.split('`').find(|text| text.starts_with(start));
        Ok(found.ok_or_else(|| format!("no `{start}`"))?.to_owned())
    };
    let enable = quoted("aws kms enable-key")?;
    let cancel = quoted("aws kms cancel-key-deletion")?;
    let policy = quoted("coffer keys policy --role")?;
    let put = quoted("aws kms put-key-policy")?;
    let (_, grant) = runbooks
        .split_once(
            "
aws kms create-grant ",
        )
        .ok_or("no create-grant")?;
    let grant = grant
        .split(
            "
```",
        )
        .next()
        .unwrap_or_default();
    let grant = format!("aws kms create-grant {grant}");

    let mut world = World::start()?;
    let key = json!({"KeyId": world.key});
    world.boto.call("DisableKey", key.clone())?;
    world.remedy(1, "DisabledException", &[&enable])?;
    world.boto.call("ScheduleKeyDeletion", key)?;
    world.remedy(2, "KMSInvalidStateException", &[&cancel, &enable])?;

    let mut client = Client::connect(world.server.address())?;
    let data = status(&mut client, "t", "data_grant")?;
    world.boto.call("RevokeGrant", json!({"KeyId": world.key, "GrantId": data}))?;
    world.remedy(3, "AccessDeniedException", &[&grant])?;

    let nobody = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Resource": "*",
        "Principal": {"AWS": "arn:aws:iam::000000000000:root"},
        "Action": ["kms:PutKeyPolicy", "kms:GetKeyPolicy"]},
        {"Effect": "Deny", "Resource": "*", "Principal": {"AWS": DATA}, "Action": "kms:Decrypt"}]});
    world.boto.call(
        "PutKeyPolicy",
        json!({"KeyId": world.key, "PolicyName": "default", "Policy": nobody.to_string()}),
    )?;
    let file = world.server.directory().with_extension("policy.json");
    let file = file.display().to_string();
    let policy = policy
        .replace("[--data-role ROLE]", &format!("--data-role {DATA}"))
        .replace("--role ROLE", &format!("--role {CONTROL}"))
        .replace("policy.json", &file);
    let put = put.replace("policy.json", &file);
    world.remedy(4, "AccessDeniedException", &[&policy, &put])
}
