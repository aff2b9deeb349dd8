//! What all connections share.

mod page_memory;

use std::sync::Arc;

use coffer_query::Database;
use cql_types::timeuuid::TimeUuidGenerator;

use crate::authentication::Authenticator;
use crate::config::{Config, Limits};
use crate::error::{CommandError, Result};
use crate::events::Events;
use crate::in_flight::InFlight;
use crate::metrics::Metrics;
use crate::prepared_cache::PreparedCache;
use crate::scan_lane::ScanLane;
use crate::table_opening::TableOpenings;

pub(crate) use page_memory::{PageClaim, PageMemory};

/// What all connections share.
pub(crate) struct Server {
    pub(crate) database: Arc<Database>,
    pub(crate) limits: Limits,
    pub(crate) authenticator: Authenticator,
    pub(crate) prepared: PreparedCache,
    pub(crate) events: Events,
    pub(crate) scan_lane: ScanLane,
    pub(crate) openings: TableOpenings,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) page_memory: PageMemory,
    pub(crate) trace_ids: TimeUuidGenerator,
    pub(crate) metrics: Arc<Metrics>,
}

impl Server {
    pub(crate) fn new(
        database: Arc<Database>,
        authenticator: Authenticator,
        config: &Config,
    ) -> Result<Self> {
        let trace_ids = TimeUuidGenerator::new(coffer_crypto::random_array()?);
        let scan_lane = ScanLane::start(&database, config.scan_threads)
            .map_err(CommandError::io("start threads"))?;
        Ok(Self {
            scan_lane,
            database,
            authenticator,
            prepared: PreparedCache::new(config.limits.prepared_cache_bytes),
            events: Events::default(),
            openings: TableOpenings::default(),
            in_flight: Arc::default(),
            page_memory: PageMemory::new(&config.limits),
            trace_ids,
            metrics: Arc::default(),
            limits: config.limits.clone(),
        })
    }
}
