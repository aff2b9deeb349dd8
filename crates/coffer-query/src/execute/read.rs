//! SELECT: reads, filters, projects and pages.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{CellRef, RowRef, Token};
use cql_types::BoundValue;

use super::interrupt::Interrupt;
use super::keys::{self, Slice};
use super::limits::{UNLIMITED, limit, token_range};
use super::row_view::{ClusteringValues, PartitionView, RowView, malformed, recycle};
use super::stream::{self, Item, KeyStream, MemorySelect, Stream};
use crate::aggregate::Accumulator;
use crate::bind::Evaluation;
use crate::database::{Database, Outcome, OutcomeKind, QueryParameters, Rows, Session, Step};
use crate::error::{Error, Result};
use crate::filter::BoundFilter;
use crate::paging::PagingState;
use crate::plan::restrictions::PartitionRestriction;
use crate::plan::select::SelectPlan;
use crate::table_source::TableSource;

/// Rows that are read before a SELECT gives way to others.
const INLINE_ROWS: usize = 256;
/// Bytes of a result after which it does so too: what has begun waits with them in memory.
const INLINE_BYTES: usize = 64 * 1024;
/// A page ends when it has this many bytes, whatever its rows.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Largest result of a client that does not page.
const UNPAGED_BYTES_MAX: usize = 64 * 1024 * 1024;
const CANNOT_PAGE: &str = "Cannot page queries with both ORDER BY and a IN restriction on the partition key; you must either remove the ORDER BY or the IN and sort client side, or disable paging for this query";

/// A SELECT while it runs.
pub struct SelectExecution {
    plan: Arc<SelectPlan>,
    values: Vec<BoundValue>,
    filters: Vec<BoundFilter>,
    /// Which rows of a scan are wanted; empty when all are. Other streams give only these.
    scan_slices: Vec<Slice>,
    stream: Stream,
    page_rows: Option<u32>,
    remaining: u32,
    per_partition: u32,
    partition_remaining: u32,
    partition: Option<PartitionView>,
    /// Whether the partition has shown a row, so that its statics do not stand alone.
    shown: bool,
    /// Whether the partition has shown a row since it was named last.
    has_rows: bool,
    position: Option<Position>,
    accumulators: Vec<Accumulator>,
    content: Vec<u8>,
    count: u32,
    /// Bytes of the ordering columns, and content, of rows that are still to be sorted.
    unsorted: Vec<(Vec<u8>, Vec<u8>)>,
    unsorted_bytes: usize,
}

/// Where the next page goes on: after a row, or after the whole partition.
struct Position {
    partition_key: Bytes,
    is_inside: bool,
    clustering: Vec<u8>,
}

impl std::fmt::Debug for SelectExecution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SelectExecution").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Executes a SELECT as far as it goes at once.
pub(crate) fn execute_select(
    database: &Database,
    plan: &Arc<SelectPlan>,
    values: &[BoundValue],
    parameters: &QueryParameters<'_>,
    session: &Session,
) -> Result<Step, Interrupt> {
    let evaluation = Evaluation { database, values };
    if plan.is_point && matches!(plan.table.source, TableSource::Stored) && plan.limit.is_none() {
        return execute_point(database, plan, &evaluation);
    }
    let mut execution = SelectExecution::start(&evaluation, plan, parameters, session)?;
    match execution.run(database, INLINE_ROWS, INLINE_BYTES)? {
        Some(outcome) => Ok(Step::Done(outcome)),
        None => Ok(Step::Continue(Box::new(execution))),
    }
}

/// At most one row, by its whole primary key.
fn execute_point(
    database: &Database,
    plan: &SelectPlan,
    evaluation: &Evaluation<'_>,
) -> Result<Step, Interrupt> {
    let PartitionRestriction::Keys(choices) = &plan.restrictions.partition else {
        return Err(Error::Server("a point read has no key".to_owned()).into());
    };
    let key = keys::partition_key(choices, &plan.partition_columns, evaluation)?;
    let mut clustering = Vec::with_capacity(32);
    for (restriction, column) in plan.restrictions.clustering.iter().zip(&plan.clustering_columns) {
        if let crate::plan::restrictions::ClusteringRestriction::Column(
            crate::plan::restrictions::Choice::One(term),
        ) = restriction
        {
            let value = keys::key_value(term, column, evaluation)?;
            keys::push_clustering(column, &value, &mut clustering)?;
        }
    }
    let filters = bind_filters(plan, evaluation)?;
    let (table, token, now) = (plan.table.schema.id, Token::of(&key), database.now_seconds());
    let row = database.engine().read_row(table, &key, token, &clustering, now)?;
    let mut content = Vec::new();
    let mut count = 0;
    if let Some(row) = row {
        let static_row = if plan.statics {
            database.engine().read_static_row(table, &key, token, now)?
        } else {
            None
        };
        let partition = PartitionView::new(key, plan.partition_columns.len(), static_row)?;
        let mut decoded = ClusteringValues::default();
        decoded.decode(&plan.clustering_columns, &clustering)?;
        let mut cells = Vec::with_capacity(plan.table.schema.columns.len());
        RowRef::parse_cells(&row, &mut cells).map_err(|error| malformed(&error))?;
        let static_cells = partition.static_cells()?;
        let view = RowView {
            partition: &partition,
            static_cells: &static_cells,
            clustering: &decoded,
            cells: &cells,
        };
        if accepts(&filters, &view)? {
            content.reserve(row.len() + 64);
            plan.selection.write(&view, evaluation, &mut content)?;
            count = 1;
        }
    }
    let metadata = Arc::clone(&plan.metadata);
    let rows = Rows { metadata, count, content: content.into(), paging_state: None };
    Ok(Step::Done(OutcomeKind::Rows(rows).into()))
}

fn bind_filters(plan: &SelectPlan, evaluation: &Evaluation<'_>) -> Result<Vec<BoundFilter>> {
    plan.restrictions.filters.iter().map(|filter| BoundFilter::bind(filter, evaluation)).collect()
}

fn accepts(filters: &[BoundFilter], row: &RowView<'_>) -> Result<bool> {
    for filter in filters {
        if !filter.accepts(row)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl SelectExecution {
    fn start(
        evaluation: &Evaluation<'_>,
        plan: &Arc<SelectPlan>,
        parameters: &QueryParameters<'_>,
        session: &Session,
    ) -> Result<SelectExecution, Interrupt> {
        let table = plan.table.schema.id;
        let limit_rows = limit(plan.limit.as_ref(), evaluation, "limit")?;
        let per_partition = if plan.distinct {
            1
        } else {
            limit(plan.per_partition_limit.as_ref(), evaluation, "per partition limit")?
        };
        let page_rows = page_rows(parameters, evaluation.database);
        let state = match parameters.paging_state {
            Some(bytes) => Some(PagingState::decode(bytes, table)?),
            None => None,
        };
        let slices =
            keys::slices(&plan.restrictions.clustering, &plan.clustering_columns, evaluation)?;
        let mut stream = open_stream(evaluation, plan, &slices, state.as_ref(), session)?;
        if plan.sorts && page_rows.is_some() && !slices.is_empty() {
            return Err(Error::invalid(CANNOT_PAGE).into());
        }
        let is_narrowed = !plan.restrictions.clustering.is_empty();
        let scan_slices =
            if is_narrowed && matches!(stream, Stream::Scan(_)) { slices } else { Vec::new() };
        if is_narrowed && scan_slices.is_empty() && matches!(stream, Stream::Scan(_)) {
            // An empty IN asks for no row at all.
            stream = Stream::default();
        }
        let inside = state.as_ref().is_some_and(|state| state.clustering.is_some());
        let execution = SelectExecution {
            plan: Arc::clone(plan),
            values: evaluation.values.to_vec(),
            filters: bind_filters(plan, evaluation)?,
            scan_slices,
            stream,
            page_rows,
            remaining: state.as_ref().map_or(limit_rows, |state| state.remaining.min(limit_rows)),
            per_partition,
            partition_remaining: state
                .as_ref()
                .filter(|_| inside)
                .map_or(per_partition, |state| state.partition_remaining.min(per_partition)),
            partition: match state {
                // The partition that the last page ended in is known already.
                Some(state) if inside => Some(PartitionView::new(
                    state.partition_key,
                    plan.partition_columns.len(),
                    None,
                )?),
                _ => None,
            },
            shown: inside,
            has_rows: false,
            position: None,
            accumulators: plan.selection.accumulators(),
            content: Vec::new(),
            count: 0,
            unsorted: Vec::new(),
            unsorted_bytes: 0,
        };
        Ok(execution)
    }

    /// Reads on for about `rows` rows. `None` while there is more to read.
    ///
    /// # Errors
    /// As [`Database::execute`].
    pub fn step(&mut self, database: &Database, rows: usize) -> Result<Option<Outcome>> {
        match self.run(database, rows, usize::MAX) {
            Ok(outcome) => Ok(outcome),
            Err(Interrupt::Error(error)) => Err(error),
            Err(Interrupt::NoRoom) => Err(Error::Overloaded("no room to read".to_owned())),
            Err(Interrupt::NeedsTable(table) | Interrupt::NeedsAuthorization(table, _)) => {
                Err(Error::KeyUnreachable(format!(
                    "the key of the table went away while it was read, table={table}"
                )))
            }
        }
    }

    /// Most bytes that the result may come to.
    #[must_use]
    pub fn result_bytes_max(&self) -> usize {
        match self.page_rows {
            _ if !self.accumulators.is_empty() => 0,
            Some(_) => PAGE_BYTES_MAX,
            None => UNPAGED_BYTES_MAX,
        }
    }

    fn run(
        &mut self,
        database: &Database,
        rows: usize,
        bytes: usize,
    ) -> Result<Option<Outcome>, Interrupt> {
        let plan = Arc::clone(&self.plan);
        let values = std::mem::take(&mut self.values);
        let mut stream = std::mem::take(&mut self.stream);
        let evaluation = Evaluation { database, values: &values };
        let mut scratch = Scratch::default();
        let mut outcome = None;
        for _ in 0..rows.max(1) {
            if self.remaining == 0 {
                outcome = Some(self.finish(&evaluation, false)?);
                break;
            }
            if self.is_page_full()? {
                outcome = Some(self.finish(&evaluation, true)?);
                break;
            }
            if self.content.len().max(self.unsorted_bytes) > bytes {
                break;
            }
            let Some(item) = stream.next(database)? else {
                self.end_partition(&plan, &evaluation)?;
                outcome = Some(self.finish(&evaluation, false)?);
                break;
            };
            match item {
                Item::Partition { key, static_row } => {
                    self.begin_partition(&plan, &evaluation, key, static_row)?;
                }
                Item::Pause => {}
                Item::Row if self.partition_remaining == 0 => stream.skip_partition(),
                Item::Row if !self.is_wanted(stream.row().0) => {}
                Item::Row => {
                    self.row(&plan, &evaluation, stream.row(), &mut scratch)?;
                    if self.partition_remaining == 0 {
                        stream.skip_partition();
                    }
                }
            }
        }
        self.values = values;
        self.stream = stream;
        Ok(outcome)
    }

    fn is_wanted(&self, clustering: &[u8]) -> bool {
        self.scan_slices.is_empty() || keys::is_inside(&self.scan_slices, clustering)
    }

    fn is_page_full(&self) -> Result<bool> {
        let is_aggregate = !self.accumulators.is_empty();
        match self.page_rows {
            _ if is_aggregate => Ok(false),
            Some(rows) => Ok(self.count >= rows || self.content.len() >= PAGE_BYTES_MAX),
            None if self.content.len().max(self.unsorted_bytes) > UNPAGED_BYTES_MAX => {
                Err(Error::invalid(format!(
                    "result is larger than {UNPAGED_BYTES_MAX} bytes; use paging"
                )))
            }
            None => Ok(false),
        }
    }

    fn begin_partition(
        &mut self,
        plan: &SelectPlan,
        evaluation: &Evaluation<'_>,
        key: Bytes,
        static_row: Option<Bytes>,
    ) -> Result<()> {
        // A scan that goes on inside a partition names it again.
        let continued = !self.has_rows
            && self.shown
            && self.partition.as_ref().is_some_and(|partition| partition.key == key);
        if !continued {
            self.end_partition(plan, evaluation)?;
            self.shown = false;
            self.partition_remaining = self.per_partition;
        }
        self.has_rows = false;
        self.partition = Some(PartitionView::new(key, plan.partition_columns.len(), static_row)?);
        Ok(())
    }

    /// A partition without rows shows as one row when it has statics.
    fn end_partition(&mut self, plan: &SelectPlan, evaluation: &Evaluation<'_>) -> Result<()> {
        if let Some(partition) = &self.partition {
            let partition_key = partition.key.clone();
            self.position =
                Some(Position { partition_key, is_inside: false, clustering: Vec::new() });
        }
        if self.shown || !plan.lone_statics || self.remaining == 0 {
            return Ok(());
        }
        let Some(partition) = self.partition.take() else { return Ok(()) };
        if partition.static_row.is_some() {
            let static_cells = partition.static_cells()?;
            let view = RowView {
                partition: &partition,
                static_cells: &static_cells,
                clustering: &ClusteringValues::default(),
                cells: &[],
            };
            self.emit(plan, evaluation, &view)?;
        }
        self.partition = Some(partition);
        self.shown = true;
        Ok(())
    }

    fn row(
        &mut self,
        plan: &SelectPlan,
        evaluation: &Evaluation<'_>,
        (clustering, row): (&[u8], &[u8]),
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Some(partition) = self.partition.take() else {
            return Err(Error::Server("a row came before its partition".to_owned()));
        };
        self.shown = true;
        scratch.clustering.decode(&plan.clustering_columns, clustering)?;
        let mut cells = recycle(std::mem::take(&mut scratch.cells));
        RowRef::parse_cells(row, &mut cells).map_err(|error| malformed(&error))?;
        let static_cells = partition.static_cells()?;
        let view = RowView {
            partition: &partition,
            static_cells: &static_cells,
            clustering: &scratch.clustering,
            cells: &cells,
        };
        self.emit(plan, evaluation, &view)?;
        scratch.cells = recycle(cells);
        drop(static_cells);
        self.note_position(&partition.key, clustering);
        self.partition = Some(partition);
        Ok(())
    }

    fn note_position(&mut self, partition_key: &Bytes, clustering: &[u8]) {
        self.has_rows = true;
        let is_inside = self.partition_remaining > 0;
        match &mut self.position {
            Some(position) if position.partition_key == partition_key => {
                position.is_inside = is_inside;
                position.clustering.clear();
                position.clustering.extend_from_slice(clustering);
            }
            _ => {
                let (partition_key, clustering) = (partition_key.clone(), clustering.to_vec());
                self.position = Some(Position { partition_key, is_inside, clustering });
            }
        }
    }

    /// A row that was read: filtered, then aggregated or written.
    fn emit(
        &mut self,
        plan: &SelectPlan,
        evaluation: &Evaluation<'_>,
        view: &RowView<'_>,
    ) -> Result<()> {
        if !accepts(&self.filters, view)? {
            return Ok(());
        }
        if !self.accumulators.is_empty() {
            return plan.selection.accumulate(view, evaluation, &mut self.accumulators);
        }
        if plan.sorts {
            let mut content = Vec::new();
            plan.selection.write(view, evaluation, &mut content)?;
            let mut order = Vec::new();
            for place in &plan.ordering {
                if let (Some(column), Some(value)) =
                    (plan.clustering_columns.get(*place), view.clustering.get(*place))
                {
                    keys::push_clustering(column, value, &mut order)?;
                }
            }
            self.unsorted_bytes += content.len() + order.len();
            self.unsorted.push((order, content));
            self.partition_remaining = less(self.partition_remaining);
            return Ok(());
        }
        plan.selection.write(view, evaluation, &mut self.content)?;
        if self.count == 0 {
            self.reserve_content();
        }
        self.count += 1;
        self.remaining = less(self.remaining);
        self.partition_remaining = less(self.partition_remaining);
        Ok(())
    }

    /// With a LIMIT, makes room for as many rows like the first as may come at once.
    fn reserve_content(&mut self) {
        if self.remaining == UNLIMITED {
            return;
        }
        let rows =
            self.remaining.min(self.page_rows.unwrap_or(UNLIMITED)).min(self.partition_remaining);
        let rows = usize::try_from(rows).unwrap_or(INLINE_ROWS).min(INLINE_ROWS);
        self.content.reserve(self.content.len().saturating_mul(rows).min(INLINE_BYTES));
    }

    fn finish(&mut self, evaluation: &Evaluation<'_>, more: bool) -> Result<Outcome> {
        let plan = Arc::clone(&self.plan);
        if !self.accumulators.is_empty() {
            plan.selection.write_aggregates(&self.accumulators, evaluation, &mut self.content)?;
            self.count = 1;
        }
        if plan.sorts {
            self.sort_rows(&plan);
        }
        let paging_state = self.position.take().filter(|_| more).map(|position| {
            let state = PagingState {
                remaining: self.remaining,
                partition_remaining: self.partition_remaining,
                partition_key: position.partition_key,
                clustering: position.is_inside.then(|| position.clustering.into()),
            };
            state.encode(plan.table.schema.id)
        });
        let rows = Rows {
            metadata: Arc::clone(&plan.metadata),
            count: self.count,
            content: std::mem::take(&mut self.content).into(),
            paging_state,
        };
        Ok(Outcome { kind: OutcomeKind::Rows(rows), warnings: plan.warnings.clone() })
    }

    /// The bytes sort as the columns are stored, so one comparison orders by all of them; rows that
    /// are equal stay in the order of their partitions.
    fn sort_rows(&mut self, plan: &SelectPlan) {
        self.unsorted.sort_by(|left, right| {
            let order = left.0.cmp(&right.0);
            if plan.reversed { order.reverse() } else { order }
        });
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        for (_, content) in self.unsorted.drain(..).take(limit) {
            self.content.extend_from_slice(&content);
            self.count += 1;
        }
    }
}

/// A limit after one more row.
fn less(limit: u32) -> u32 {
    if limit == UNLIMITED { limit } else { limit.saturating_sub(1) }
}

/// Buffers that one step uses for row after row.
#[derive(Default)]
struct Scratch {
    cells: Vec<CellRef<'static>>,
    clustering: ClusteringValues,
}

/// Rows of a page; `None` when the client does not page.
fn page_rows(parameters: &QueryParameters<'_>, database: &Database) -> Option<u32> {
    let asked = parameters.page_size.and_then(|rows| u32::try_from(rows).ok());
    let most = u32::try_from(database.options().page_rows_max).unwrap_or(u32::MAX).max(1);
    asked.filter(|rows| *rows > 0).map(|rows| rows.min(most))
}

fn open_stream(
    evaluation: &Evaluation<'_>,
    plan: &SelectPlan,
    slices: &[Slice],
    state: Option<&PagingState>,
    session: &Session,
) -> Result<Stream, Interrupt> {
    let (database, table) = (evaluation.database, plan.table.schema.id);
    let resume = state.map(|state| (&state.partition_key, state.clustering.as_ref()));
    let (keys, tokens) = match &plan.restrictions.partition {
        PartitionRestriction::Keys(choices) => {
            let keys = keys::partition_keys(choices, &plan.partition_columns, evaluation)?;
            (Some(keys), (Token::MIN, Token::MAX))
        }
        PartitionRestriction::Tokens { lower, upper } => {
            match token_range(lower.as_ref(), upper.as_ref(), evaluation)? {
                Some(tokens) => (None, tokens),
                None => return Ok(Stream::default()),
            }
        }
    };
    if let TableSource::Virtual(rows) = &plan.table.source {
        let select = MemorySelect { keys: keys.as_deref(), tokens, slices, resume };
        return Ok(stream::memory(database, session, rows.as_ref(), plan, &select)?);
    }
    let now = database.now_seconds();
    let Some(keys) = keys else {
        return stream::scan(database, table, tokens, resume, now);
    };
    let mut keys: VecDeque<Bytes> = keys.into();
    let mut inside = None;
    if let Some((key, clustering)) = resume {
        while keys.front().is_some_and(|front| front != key) {
            keys.pop_front();
        }
        match clustering {
            Some(clustering) => inside = Some(clustering.clone()),
            None => drop(keys.pop_front()),
        }
    }
    Ok(Stream::Keys(Box::new(KeyStream {
        table,
        keys,
        slices: slices.to_vec(),
        reversed: plan.reversed,
        statics: plan.statics,
        now,
        resume: inside,
        cursor: None,
    })))
}
