//! What happens to keys is told by a webhook, by mail and by a command: each event at least once by each,
//! with one id and one incident, also when receivers fail and the server is killed.
#![expect(
    clippy::indexing_slicing,
    reason = "what is missing in a JSON object is null when it is read"
)]

use std::{collections::BTreeMap, fs, time::Duration};

use cql_tests::{Client, KeyScript, Result, Server, Sinks, key_status::texts, poll, with_key};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);

/// A server in which each table's creation is refused by the KMS when it has begun, and whom it tells.
struct World {
    server: Server,
    sinks: Sinks,
    key: String,
    _script: KeyScript,
}

impl World {
    fn start() -> Result<Self> {
        let sinks = Sinks::start()?;
        let arguments = sinks.arguments()?;
        Self::with(sinks, &arguments)
    }

    /// As [`World::start`], but nothing is refused.
    fn without_faults(more: &[&str]) -> Result<Self> {
        let sinks = Sinks::start()?;
        let mut arguments = sinks.arguments()?;
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Self::of(sinks, &arguments, KeyScript::new()?)
    }

    fn with(sinks: Sinks, arguments: &[String]) -> Result<Self> {
        let script = KeyScript::new()?;
        script.set_faults(&json!([{
            "operation": "GenerateDataKey", "key": "*", "fault": "error",
            "error": "DisabledException", "count": null,
        }]))?;
        Self::of(sinks, arguments, script)
    }

    fn of(sinks: Sinks, arguments: &[String], script: KeyScript) -> Result<Self> {
        let server = script.server().arguments(arguments).start()?;
        let mut client = Client::connect(server.address())?;
        client
            .execute("CREATE KEYSPACE ks WITH replication = {'class': 'SingleRegionStrategy'}")?;
        let key = server.kms(&["create-key"])?;
        Ok(Self { server, sinks, key, _script: script })
    }

    /// An event: a table that is not created.
    fn create(&self, table: &str) -> Result<()> {
        let mut client = Client::connect(self.server.address())?;
        let cql = format!("CREATE TABLE ks.{table} (a int PRIMARY KEY) {}", with_key(&self.key));
        let (code, text) = client.error(&cql)?;
        assert_eq!(code, 0x2200, "{text}");
        Ok(())
    }

    /// Rows of `system_coffer.events`, in their order, the tables' names being in it.
    fn events(&self) -> Result<Vec<BTreeMap<String, String>>> {
        let mut client = Client::connect(self.server.address())?;
        let mut all = texts(&mut client, "SELECT * FROM system_coffer.events")?;
        all.sort_by(|one, other| one["at"].cmp(&other["at"]));
        Ok(all)
    }

    /// Waits until the event of this table is pending for exactly these channels.
    fn until_pending(&self, table: &str, channels: &str) -> Result<BTreeMap<String, String>> {
        poll::until(WITHIN, &format!("pending {channels}"), || {
            let event = self.events()?.into_iter().find(|event| event["table_name"] == table);
            let event = event.ok_or("no such event")?;
            Ok(if event["pending"] == channels { Ok(event) } else { Err(format!("{event:?}")) })
        })
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn every_channel_tells_the_same_event_with_one_incident() -> Result<()> {
    let mut world = World::start()?;
    world.create("t")?;
    let posts = world.sinks.wait_for("posts", 1, Sinks::posts)?;
    let mails = world.sinks.wait_for("mails", 2, Sinks::mails)?;
    let commands = world.sinks.wait_for("commands", 1, Sinks::commands)?;
    let event = world.until_pending("t", "{}")?;

    let document = &posts[0]["body"];
    assert_eq!(document["kind"], "create_failed");
    assert_eq!((text(&document["keyspace"]), text(&document["table"])), ("ks", "t"));
    assert_eq!(text(&document["key_arn"]), world.key);
    assert!(text(&document["detail"]).contains("DisabledException"), "{document}");
    assert!(
        !text(&document["what_to_do"]).is_empty() && !text(&document["what_happens"]).is_empty()
    );
    assert_eq!(&commands[0], document);
    assert_eq!(event["kind"], "create_failed");
    assert_eq!(event["incident"], text(&document["incident"]));
    assert_eq!(event["id"], text(&document["id"]));
    assert_eq!(event["key_arn"], world.key);
    for channel in ["command", "smtp", "webhook"] {
        assert!(event["delivered"].contains(channel), "{event:?}");
    }
    let day = event["at"].get(..10).ok_or("no time")?;
    assert_eq!(event["day"], day);

    assert_eq!(posts[0]["genuine"], true, "{}", posts[0]);
    assert_eq!(posts[0]["headers"]["coffer-incident"], document["incident"]);
    assert_eq!(posts[0]["headers"]["content-type"], "application/json");

    let mut recipients: Vec<&str> = mails.iter().map(|mail| text(&mail["to"][0])).collect();
    recipients.sort_unstable();
    assert_eq!(recipients, ["dba@example.com", "ops@example.com"]);
    for mail in &mails {
        assert_eq!((&mail["tls"], &mail["authenticated"]), (&json!(true), &json!(true)));
        assert_eq!(mail["headers"]["coffer-incident"], document["incident"]);
        assert_eq!(
            text(&mail["headers"]["message-id"]),
            format!("<{}@example.com>", text(&document["id"]))
        );
        assert_eq!(text(&mail["headers"]["subject"]), "[Coffer warning] ks.t: create failed");
        for wanted in [
            "ks.t",
            &world.key,
            "DisabledException",
            "What happens:",
            "What to do:",
            &event["incident"],
        ] {
            assert!(text(&mail["text"]).contains(wanted), "{wanted} is not in {mail}");
        }
    }

    // what was delivered is not told again after a start, and what follows is another event
    world.server.stop()?;
    world.server.restart()?;
    world.create("u")?;
    let posts = world.sinks.wait_for("posts", 2, Sinks::posts)?;
    world.sinks.wait_for("mails", 4, Sinks::mails)?;
    world.sinks.wait_for("commands", 2, Sinks::commands)?;
    assert_eq!(posts[1]["body"]["table"], "u");
    assert_ne!(posts[1]["body"]["incident"], posts[0]["body"]["incident"]);
    Ok(())
}

#[test]
fn a_disabled_key_is_told_once_and_so_is_its_return() -> Result<()> {
    let world = World::without_faults(&["--key-probe-seconds", "1"])?;
    let mut client = Client::connect(world.server.address())?;
    let cql = format!("CREATE TABLE ks.t (a int PRIMARY KEY) {}", with_key(&world.key));
    client.execute(&cql)?;
    client.execute("INSERT INTO ks.t (a) VALUES (1)")?;
    world.server.kms(&["disable-key", &world.key])?;
    let lost = &world.sinks.wait_for("posts", 1, Sinks::posts)?[0]["body"];
    let mails = world.sinks.wait_for("mails", 2, Sinks::mails)?;
    let commands = world.sinks.wait_for("commands", 1, Sinks::commands)?;
    assert_eq!((text(&lost["kind"]), text(&lost["severity"])), ("key_lost", "critical"));
    assert_eq!((text(&lost["keyspace"]), text(&lost["table"])), ("ks", "t"));
    assert_eq!(text(&lost["key_arn"]), world.key);
    assert!(text(&lost["since"]) < text(&lost["deadline"]), "{lost}");
    assert!(text(&lost["detail"]).contains("DisabledException"), "{lost}");
    assert_eq!(&commands[0], lost);
    for mail in &mails {
        assert_eq!(mail["headers"]["coffer-incident"], lost["incident"]);
        let subject = text(&mail["headers"]["subject"]).to_owned();
        assert!(subject.contains("ks.t: key lost, deadline 20"), "{subject}");
        for wanted in ["does not have access", "RESTORE TABLE", &world.key, "DisabledException"] {
            assert!(text(&mail["text"]).contains(wanted), "{wanted} is not in {mail}");
        }
    }
    let event = world.until_pending("t", "{}")?;
    assert_eq!(event["incident"], text(&lost["incident"]));

    // and no second time before something else happens
    world.server.kms(&["enable-key", &world.key])?;
    let posts = world.sinks.wait_for("posts", 2, Sinks::posts)?;
    assert_eq!(posts[1]["body"]["kind"], "recovered");
    let commands = world.sinks.wait_for("commands", 2, Sinks::commands)?;
    assert_eq!(commands[1], posts[1]["body"]);
    client.execute("INSERT INTO ks.t (a) VALUES (2)")?;
    Ok(())
}

#[test]
fn a_webhook_that_fails_three_times_gets_the_same_event_again() -> Result<()> {
    let world = World::start()?;
    world.sinks.script(&[500, 503, 429], 200, &[])?;
    world.create("t")?;
    world.create("u")?;
    let posts = world.sinks.wait_for("posts", 5, Sinks::posts)?;
    let told: Vec<_> =
        posts.iter().map(|post| (post["status"].as_u64(), text(&post["body"]["table"]))).collect();
    let status = |status| Some(status);
    let order = [(500, "t"), (503, "t"), (429, "t"), (200, "t"), (200, "u")];
    assert_eq!(told, order.map(|(code, table)| (status(code), table)));
    for post in &posts[..4] {
        assert_eq!(post["body"]["id"], posts[0]["body"]["id"]);
        assert_eq!(post["body"]["incident"], posts[0]["body"]["incident"]);
        assert_eq!(post["genuine"], true);
    }
    world.until_pending("u", "{}")?;
    let log = world.server.log()?;
    assert_eq!(log.matches("a notification is not delivered").count(), 1, "once for each change");
    assert_eq!(log.matches("notifications are delivered again").count(), 1);
    Ok(())
}

#[test]
fn what_is_pending_when_the_server_is_killed_is_told_after_the_next_start() -> Result<()> {
    let mut world = World::start()?;
    world.sinks.script(&[], 500, &[])?;
    world.create("t")?;
    let event = world.until_pending("t", "{'webhook'}")?;
    world.server.kill()?;
    world.sinks.script(&[], 204, &[])?;
    world.server.restart()?;
    let documents = world.sinks.wait_for("documents", 1, Sinks::documents)?;
    assert_eq!(text(&documents[0]["id"]), event["id"]);
    assert_eq!(text(&documents[0]["incident"]), event["incident"]);
    let after = world.until_pending("t", "{}")?;
    assert_eq!(after["id"], event["id"]);
    // the others had it before
    assert_eq!((world.sinks.mails()?.len(), world.sinks.commands()?.len()), (2, 1));
    Ok(())
}

#[test]
fn a_refused_message_and_a_slow_channel_hold_nothing_up() -> Result<()> {
    let sinks = Sinks::start()?;
    let arguments = sinks.arguments_with("sleep 600")?;
    let mut world = World::with(sinks, &arguments)?;
    world.sinks.script(&[400], 204, &["dba@example.com"])?;
    world.create("t")?;
    world.create("u")?;
    // the first was refused: the second is told, the first later
    let posts = world.sinks.wait_for("posts", 3, Sinks::posts)?;
    let tables: Vec<&str> = posts.iter().map(|post| text(&post["body"]["table"])).collect();
    assert_eq!(tables, ["t", "u", "t"]);
    // one mailbox is gone: the other got each once
    let mails = world.sinks.wait_for("mails", 2, Sinks::mails)?;
    assert!(mails.iter().all(|mail| mail["to"] == json!(["ops@example.com"])), "{mails:?}");
    assert_ne!(mails[0]["headers"]["coffer-event"], mails[1]["headers"]["coffer-event"]);
    world.until_pending("u", "{'command', 'smtp'}")?;
    world.server.stop()
}

#[test]
fn a_webhook_gets_events_as_eventbridge_has_them_when_it_is_to() -> Result<()> {
    let sinks = Sinks::start()?;
    let arguments = sinks.arguments()?;
    let config = fs::read_to_string(&arguments[1])?;
    let webhook = "[notify.webhook]\n";
    fs::write(
        &arguments[1],
        config.replace(webhook, &format!("{webhook}format = \"eventbridge\"\n")),
    )?;
    let world = World::with(sinks, &arguments)?;
    world.create("t")?;
    let posts = world.sinks.wait_for("posts", 1, Sinks::posts)?;
    let commands = world.sinks.wait_for("commands", 1, Sinks::commands)?;
    let (event, document) = (&posts[0]["body"], &commands[0]);
    assert_eq!(posts[0]["genuine"], true);
    assert_eq!(&event["detail"], document);
    assert_eq!(event["id"], document["id"]);
    let of_arn: Vec<&str> = world.key.split(':').collect();
    for (field, wanted) in [
        ("version", "0"),
        ("source", "coffer"),
        ("detail-type", "Coffer Key Health"),
        ("region", of_arn[3]),
        ("account", of_arn[4]),
    ] {
        assert_eq!(text(&event[field]), wanted, "{event:#}");
    }
    assert_eq!(event["resources"], json!([world.key]));
    let is_seconds = |time: &str| time.len() == 20 && time.ends_with('Z');
    assert!(is_seconds(text(&event["time"])), "{event:#}");
    Ok(())
}

#[test]
fn a_redirect_is_not_followed() -> Result<()> {
    let world = World::start()?;
    world.sinks.script(&[], 307, &[])?;
    world.create("t")?;
    world.until_pending("t", "{'webhook'}")?;
    let posts = world.sinks.posts()?;
    assert!(posts.iter().all(|post| post["path"] == "/hook"), "{posts:?}");
    Ok(())
}

#[test]
fn the_test_command_tells_which_channel_works() -> Result<()> {
    let sinks = Sinks::start()?;
    let arguments = sinks.arguments()?;
    let world = World::with(sinks, &arguments)?;
    let test = |wanted: i32| -> Result<String> {
        let output = world.server.coffer(&["notify", "test"])?;
        let text = String::from_utf8(output.stdout)?;
        assert_eq!(output.status.code(), Some(wanted), "{text}");
        Ok(text)
    };
    assert_eq!(test(0)?, "webhook test delivered\nsmtp test delivered\ncommand test delivered\n");
    assert_eq!(world.sinks.documents()?[0]["kind"], "test");
    assert_eq!(world.sinks.mails()?.len(), 2);
    world.sinks.script(&[], 404, &[])?;
    let text = test(2)?;
    assert!(text.contains("webhook test failed: the receiver answered 404"), "{text}");
    assert!(text.contains("smtp test delivered"), "{text}");
    // a test is no event
    assert!(world.events()?.is_empty());
    Ok(())
}

#[test]
fn nothing_is_mailed_without_starttls() -> Result<()> {
    let sinks = Sinks::without_starttls()?;
    let arguments = sinks.arguments()?;
    let world = World::with(sinks, &arguments)?;
    let output = world.server.coffer(&["notify", "test"])?;
    let text = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("smtp test failed") && text.contains("STARTTLS"), "{text}");
    assert!(world.sinks.mails()?.is_empty());
    Ok(())
}

#[test]
fn a_server_without_channels_says_so() -> Result<()> {
    let server = Server::start()?;
    let output = server.coffer(&["notify", "test"])?;
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr)?;
    assert!(text.contains("no channel is configured"), "{text}");
    Ok(())
}
