//! What is done for the keys of tables in the background, from time to time: worn and old table keys
//! are renewed, old segments rewritten, grants retired, and the intents of an earlier run cleaned up.

use std::collections::{HashMap, HashSet};

use coffer_keys::{KeyError, TableName};
use coffer_model::TableId;
use coffer_storage::{KeyChange, RetiringGrant, TableEntry};

use crate::database::Database;
use crate::error::Result;
use crate::execute::key_change::grant_names;
use crate::execute::restore::source_grant_name;

/// First pause after a failure; doubles with each.
const PAUSE_MILLIS_MIN: i64 = 5_000;
/// Longest pause after a failure.
const PAUSE_MILLIS_MAX: i64 = 600_000;
/// Most grants retired in one pass.
const GRANTS_PER_PASS_MAX: usize = 1_000;
/// Most table keys renewed, and most tables rewritten, in one pass.
const RENEWALS_PER_PASS_MAX: usize = 16;
const DAY_MILLIS: i64 = 24 * 3_600 * 1_000;

/// When to try again what failed.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    failed: HashMap<Subject, Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    /// Grants of this KMS key.
    Grants(String),
    /// The intent with this id.
    Change(u64),
    /// The table key or the segments of this table.
    Table(TableId),
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    pause_millis: i64,
    again_at_millis: i64,
}

impl Upkeep {
    fn is_due(&self, subject: &Subject, now: i64) -> bool {
        self.failed.get(subject).is_none_or(|failure| now >= failure.again_at_millis)
    }

    fn note(&mut self, subject: &Subject, succeeded: bool, now: i64) {
        if succeeded {
            self.failed.remove(subject);
            return;
        }
        let before = self.failed.get(subject).map_or(0, |failure| failure.pause_millis);
        let pause = before.saturating_mul(2).clamp(PAUSE_MILLIS_MIN, PAUSE_MILLIS_MAX);
        let failure = Failure { pause_millis: pause, again_at_millis: now.saturating_add(pause) };
        self.failed.insert(subject.clone(), failure);
    }
}

impl Database {
    /// One pass of the upkeep of keys. Call it from time to time, off the request path and not before
    /// the server has served for a moment: it asks the KMS. What fails is logged and tried again in a
    /// later pass, after a pause that grows. Writes the catalog, which blocks.
    pub async fn keep_up_keys(&self) {
        for table in self.keyring().worn() {
            self.renew_worn_key(TableId(table)).await;
        }
        self.settle_left_changes().await;
        self.retire_due_grants().await;
        self.renew_old_table_keys().await;
        self.rewrite_old_segments().await;
    }

    /// Until its limit the worn key serves, and reads need no new one.
    pub(crate) async fn renew_worn_key(&self, table: TableId) {
        let is_worn = |_: &TableEntry| self.keyring().is_worn(&table.0);
        match self.renew_table_key(table, is_worn).await {
            Ok(true) => tracing::info!(%table, "table key renewed: it wrapped enough"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%table, %error, "table key is not renewed, trying again"),
        }
    }

    /// The grants whose time has come are given back to the KMS.
    async fn retire_due_grants(&self) {
        let now = self.clock().key_wall_millis();
        let catalog = self.engine().catalog();
        let due = catalog.retiring_grants.iter().filter(|grant| grant.due_at_millis <= now);
        let mut done: HashSet<(String, String)> = HashSet::new();
        for grant in due.take(GRANTS_PER_PASS_MAX) {
            let subject = Subject::Grants(grant.key_arn.clone());
            if !self.is_due(&subject) {
                continue;
            }
            let table = TableName::new([0; 16], &grant.keyspace, &grant.table);
            let (arn, id) = (&grant.key_arn, &grant.grant_id);
            let retired = self.keyring().retire_grant(&table, arn, id).await;
            self.note(&subject, &retired);
            match retired {
                Ok(()) => drop(done.insert((arn.clone(), id.clone()))),
                Err(error) => {
                    tracing::warn!(%table, key = %arn, %error, "grant is not retired, trying again");
                }
            }
        }
        if done.is_empty() {
            return;
        }
        let is_done =
            |grant: &RetiringGrant| done.contains(&(grant.key_arn.clone(), grant.grant_id.clone()));
        let removed = self.engine().update_catalog(&mut |catalog| {
            let mut next = catalog.clone();
            next.retiring_grants.retain(|grant| !is_done(grant));
            Ok(next)
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "retired grants stay noted, they are retired again");
        }
    }

    /// Changes of keys that an earlier run, or one that lost an answer of the KMS, did not end.
    async fn settle_left_changes(&self) {
        let catalog = self.engine().catalog();
        for (id, change) in &catalog.key_changes {
            if self.key_queues().is_under_way(change.change_id) {
                continue;
            }
            let Some(_turn) = self.key_queues().try_enter(&change.keyspace, &change.name) else {
                continue;
            };
            let subject = Subject::Change(change.change_id);
            // a retry may have taken it over
            let catalog = self.engine().catalog();
            let is_left = catalog.key_changes.get(id).is_some_and(|now| now == change);
            if !is_left || !self.is_due(&subject) {
                continue;
            }
            let table = TableName::new(id.0, &change.keyspace, &change.name);
            let settled = self.settle_change(&table, change).await;
            self.note(&subject, &settled);
            if let Err(error) = settled {
                tracing::warn!(%table, %error, "a change of its key that was not ended is not \
                    cleaned up, trying again");
            }
        }
    }

    /// Ends a change that left off: its grants are found by their names and retired.
    ///
    /// # Errors
    /// When the KMS does not give them.
    pub(crate) async fn settle_change(&self, table: &TableName, change: &KeyChange) -> Result<()> {
        let names = grant_names(&self.engine().catalog(), table, change);
        let mut grants = match &change.target_arn {
            None => Vec::new(),
            Some(arn) => {
                let context = &change.encryption_context;
                let found = self.keyring().create_grants(table, arn, context, &names).await;
                match found {
                    Ok(grants) => grants,
                    // the key is gone, and its grants with it
                    Err(failed) if is_not_found(&failed.error) => failed.grants,
                    Err(failed) => return Err(failed.error.into()),
                }
            }
        };
        if let Some(arn) = &change.source_arn {
            let (context, name) = (&change.source_context, source_grant_name(&names));
            match self.keyring().source_grant(table, arn, context, &name).await {
                Ok(grant) => grants.push(grant),
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.remove_change(table, change, &grants);
        Ok(())
    }

    async fn renew_old_table_keys(&self) {
        let days = self.options().encryption.table_key_days_max;
        let Some(oldest) = self.oldest_allowed(days) else { return };
        let is_old = |entry: &TableEntry| entry.key.created_at_millis < oldest;
        let catalog = self.engine().catalog();
        let old = catalog.tables.iter().filter(|(_, entry)| is_old(entry));
        let due = old.map(|(id, _)| *id).filter(|id| self.is_due(&Subject::Table(*id)));
        for table in due.take(RENEWALS_PER_PASS_MAX) {
            let renewed = self.renew_table_key(table, is_old).await;
            self.note(&Subject::Table(table), &renewed);
            match renewed {
                Ok(true) => tracing::info!(%table, days, "table key renewed: it was old"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%table, %error, "old table key is not renewed, trying again");
                }
            }
        }
    }

    async fn rewrite_old_segments(&self) {
        let days = self.options().encryption.data_key_days_max;
        let Some(oldest) = self.oldest_allowed(days) else { return };
        let catalog = self.engine().catalog();
        let has_old = |entry: &TableEntry| {
            entry.segments.iter().any(|segment| segment.created_at_millis < oldest)
        };
        let old = catalog.tables.iter().filter(|(_, entry)| has_old(entry));
        let due = old.map(|(id, _)| *id).filter(|id| self.is_due(&Subject::Table(*id)));
        for table in due.take(RENEWALS_PER_PASS_MAX) {
            let rewritten = self.rewrite_segments(table, oldest).await;
            self.note(&Subject::Table(table), &rewritten);
            match rewritten {
                Ok(()) => {
                    tracing::info!(%table, days, "old segments rewritten with a new data key")
                }
                Err(error) => {
                    tracing::warn!(%table, %error, "old segments are not rewritten, trying again");
                }
            }
        }
    }

    async fn rewrite_segments(&self, table: TableId, oldest: i64) -> Result<()> {
        self.load_table_key(table).await?;
        self.open_table(table)?;
        Ok(self.engine().rewrite_segments_before(table, oldest)?)
    }

    /// What was made before this is too old; `None` when nothing is.
    fn oldest_allowed(&self, days: u32) -> Option<i64> {
        let age = i64::from(days) * DAY_MILLIS;
        (days > 0).then(|| self.clock().key_wall_millis().saturating_sub(age))
    }

    fn is_due(&self, subject: &Subject) -> bool {
        self.upkeep().lock().is_due(subject, self.clock().key_now_millis())
    }

    fn note<T, E>(&self, subject: &Subject, result: &Result<T, E>) {
        let now = self.clock().key_now_millis();
        self.upkeep().lock().note(subject, result.is_ok(), now);
    }
}

fn is_not_found(error: &KeyError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.error.name() == "NotFoundException")
}
