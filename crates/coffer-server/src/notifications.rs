//! Tells what happened to keys, by the channels that are configured.
//!
//! Each channel has a task of its own, so a slow one holds up no other. What a channel has still to
//! tell is in the catalog; it leaves it only after the channel delivered it. So each event is told
//! at least once, also when the server stops in between.

mod wording;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use coffer_health::DAY_MILLIS;
use coffer_notify::{Channel, Command, DeliveryError, SetupError, Smtp, Webhook, pause_millis};
use coffer_query::{Database, Event};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::admin::Report;
use crate::config::NotifyOptions;
use crate::error::{CommandError, Result};

/// Pause between two looks for what is to be told.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// Pause before a task that panicked is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Pause after the catalog could not be written.
const NOTE_PAUSE: Duration = Duration::from_secs(1);

/// One channel and its figures since the start.
#[derive(Debug)]
pub(crate) struct Line {
    channel: Channel,
    pub(crate) delivered: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Whether the last try failed.
    pub(crate) is_failing: AtomicBool,
}

impl Line {
    pub(crate) fn name(&self) -> &'static str {
        self.channel.name()
    }
}

/// The channels as configured.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Arc<Line>>);

impl Lines {
    /// Reads the files of the channels; connects to nothing.
    ///
    /// # Errors
    /// A setting that is wrong or a file that cannot be used, with the channel's name.
    pub(crate) fn new(options: &NotifyOptions) -> Result<Self> {
        let named = |name: &'static str| {
            move |error: SetupError| CommandError::Refused(format!("[notify.{name}] {error}"))
        };
        let webhook = options.webhook.as_ref().map(Webhook::new).transpose();
        let smtp = options.smtp.as_ref().map(Smtp::new).transpose();
        let command = options.command.as_ref().map(Command::new).transpose();
        let channels = [
            webhook.map_err(named("webhook"))?.map(Channel::Webhook),
            smtp.map_err(named("smtp"))?.map(|smtp| Channel::Smtp(Box::new(smtp))),
            command.map_err(named("command"))?.map(Channel::Command),
        ];
        let line = |channel| {
            Arc::new(Line {
                channel,
                delivered: AtomicU64::new(0),
                failures: AtomicU64::new(0),
                is_failing: AtomicBool::new(false),
            })
        };
        Ok(Self(channels.into_iter().flatten().map(line).collect()))
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|line| line.name().to_owned()).collect()
    }
}

/// All channels at work.
pub(crate) struct Notifications {
    database: Arc<Database>,
    lines: Lines,
    /// What was delivered and is not noted in the catalog yet.
    delivered: Mutex<Vec<(Uuid, String)>>,
    has_delivered: Notify,
}

/// What a channel knows of its tries.
#[derive(Debug, Default)]
struct Tries {
    /// Failures in a row.
    failures: u32,
    not_before: i64,
    /// Messages that were refused: how often, and when each is tried again.
    refused: HashMap<Uuid, (u32, i64)>,
    /// Delivered, and perhaps not noted in the catalog yet.
    done: HashSet<Uuid>,
}

impl Notifications {
    pub(crate) fn new(database: Arc<Database>, lines: Lines) -> Self {
        Self { database, lines, delivered: Mutex::default(), has_delivered: Notify::new() }
    }

    /// The channels, with their figures.
    pub(crate) fn lines(&self) -> &[Arc<Line>] {
        &self.lines.0
    }

    /// How much each channel has still to tell.
    pub(crate) fn pending(&self) -> BTreeMap<&'static str, u64> {
        let events = self.database.events();
        let count = |name: &str| events.iter().filter(|event| event.pending.contains(name)).count();
        self.lines().iter().map(|line| (line.name(), count(line.name()) as u64)).collect()
    }

    /// Tells and notes for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>) {
        if self.lines().is_empty() {
            return;
        }
        let notes = kept_up("notes of deliveries", || Arc::clone(&self).note_delivered());
        let lines = self
            .lines()
            .iter()
            .map(|line| kept_up(line.name(), || Arc::clone(&self).run_line(Arc::clone(line))));
        futures_util::future::join(notes, futures_util::future::join_all(lines)).await;
    }

    async fn run_line(self: Arc<Self>, line: Arc<Line>) {
        let mut tries = Tries::default();
        let mut seen = None;
        let mut pending = Vec::new();
        loop {
            let properties = Arc::clone(&self.database.engine().catalog().properties);
            if seen.as_ref().is_none_or(|seen| !Arc::ptr_eq(seen, &properties)) {
                pending = self.database.pending_events(line.name());
                let is_pending: HashSet<Uuid> = pending.iter().map(|event| event.id).collect();
                tries.done.retain(|id| is_pending.contains(id));
                tries.refused.retain(|id, _| is_pending.contains(id));
                seen = Some(properties);
            }
            for event in &pending {
                let now = self.database.clock().monotonic_millis();
                if now < tries.not_before {
                    break;
                }
                let waits = tries.refused.get(&event.id).is_some_and(|(_, until)| now < *until);
                if !waits && !tries.done.contains(&event.id) {
                    self.tell(&line, event, &mut tries).await;
                }
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn tell(&self, line: &Line, event: &Event, tries: &mut Tries) {
        let clock = self.database.clock();
        let options = self.database.options();
        let keep_days = options.key_health.snapshot_keep_millis / DAY_MILLIS;
        let message = wording::notification(event, &options.cluster_name, keep_days);
        let told = line.channel.deliver(&message, clock.now_millis() / 1000).await;
        let now = clock.monotonic_millis();
        match told {
            Ok(()) => {
                line.delivered.fetch_add(1, Ordering::Relaxed);
                if line.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(channel = line.name(), "notifications are delivered again");
                }
                tries.failures = 0;
                tries.refused.remove(&event.id);
                tries.done.insert(event.id);
                self.delivered.lock().push((event.id, line.name().to_owned()));
                self.has_delivered.notify_one();
            }
            Err(error) => {
                line.failures.fetch_add(1, Ordering::Relaxed);
                if !line.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        channel = line.name(), event = %event.id, kind = event.kind.as_str(),
                        %error, "a notification is not delivered, trying again"
                    );
                }
                tries.note(event, &error, now);
            }
        }
    }

    /// Notes what was delivered, as much as there is in one publication.
    async fn note_delivered(self: Arc<Self>) {
        loop {
            self.has_delivered.notified().await;
            let this = Arc::clone(&self);
            let noted = tokio::task::spawn_blocking(move || this.note_now()).await;
            if !noted.unwrap_or(false) {
                tokio::time::sleep(NOTE_PAUSE).await;
                self.has_delivered.notify_one();
            }
        }
    }

    /// Blocks. Whether there is nothing more to note.
    pub(crate) fn note_now(&self) -> bool {
        let deliveries = std::mem::take(&mut *self.delivered.lock());
        if deliveries.is_empty() {
            return true;
        }
        match self.database.events_delivered(&deliveries) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "delivered notifications are not noted, trying again");
                self.delivered.lock().extend(deliveries);
                false
            }
        }
    }

    /// Sends a test by each channel at once and says what happened.
    ///
    /// # Errors
    /// A text when no channel is configured.
    pub(crate) async fn test(&self) -> std::result::Result<Report, String> {
        if self.lines().is_empty() {
            return Err("no channel is configured: the configuration file has neither \
                        [notify.webhook], [notify.smtp] nor [notify.command]"
                .to_owned());
        }
        let cluster = &self.database.options().cluster_name;
        let now = self.database.clock().now_millis();
        let id = || Uuid::new_v4().to_string();
        let message = wording::test(id(), id(), now, cluster);
        let tests = self.lines().iter().map(|line| async {
            let told = line.channel.deliver(&message, now / 1000).await;
            (line.name(), told)
        });
        let results = futures_util::future::join_all(tests).await;
        let has_findings = results.iter().any(|(_, told)| told.is_err());
        let rows = results.into_iter().map(|(name, told)| {
            let outcome = if told.is_ok() { "delivered" } else { "failed" };
            let text = told.err().map(|error| error.to_string());
            json!({
                "target": name,
                "operation": "test",
                "outcome": outcome,
                "message": text,
                "event": message.id,
                "incident": message.incident,
            })
        });
        Ok(Report { rows: rows.collect(), has_findings })
    }
}

/// Runs what does not end by itself, and starts it again when it panics. It ends with this.
async fn kept_up<F>(name: &str, start: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut task = tokio::task::JoinSet::new();
        task.spawn(start());
        if let Some(Err(error)) = task.join_next().await {
            if !error.is_panic() {
                return;
            }
            tracing::error!(channel = name, "a task of notifications panicked, starting it again");
        }
        tokio::time::sleep(RESTART_PAUSE).await;
    }
}

impl Tries {
    fn note(&mut self, event: &Event, error: &DeliveryError, now: i64) {
        // without randomness all channels try at the same time, no worse
        let random = coffer_crypto::random_array().map_or(0, u64::from_le_bytes);
        if error.is_refused {
            let times = self.refused.get(&event.id).map_or(0, |(times, _)| *times);
            let times = times.saturating_add(1);
            let pause = pause_millis(times, true, random);
            self.refused.insert(event.id, (times, now.saturating_add(pause)));
        } else {
            self.failures = self.failures.saturating_add(1);
            let pause = pause_millis(self.failures, false, random);
            self.not_before = now.saturating_add(pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again() {
        let starts = Arc::new(AtomicUsize::new(0));
        let is_done = Arc::new(Notify::new());
        let running = kept_up("test", || {
            let (starts, is_done) = (Arc::clone(&starts), Arc::clone(&is_done));
            async move {
                if starts.fetch_add(1, Ordering::Relaxed) == 0 {
                    panic!("of the test");
                }
                is_done.notify_one();
                std::future::pending::<()>().await;
            }
        });
        tokio::select! {
            () = running => panic!("it ended"),
            () = is_done.notified() => {}
        }
        assert_eq!(starts.load(Ordering::Relaxed), 2);
    }
}
