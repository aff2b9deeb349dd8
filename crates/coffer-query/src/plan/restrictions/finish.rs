//! Collected relations to a plan, and the rules of what may be restricted together.

use coffer_model::{Column, ColumnKind, TableSchema};

use super::{
    Bound, Choice, ClusteringRestriction, Collector, Filter, OnColumn, OnColumns,
    PartitionRestriction, REQUIRES_FILTERING, Restrictions, StatementType, TupleTerm,
};
use crate::error::{Error, Result};
use crate::plan::term::Term;

impl Collector<'_, '_> {
    fn take(&mut self, column: &Column) -> OnColumn {
        match self.columns.iter().position(|(known, _)| known.id == column.id) {
            Some(place) => self.columns.swap_remove(place).1,
            None => OnColumn::default(),
        }
    }

    pub(super) fn finish(mut self) -> Result<Restrictions> {
        let table = self.context.table;
        self.columns.retain(|(_, entry)| entry.is_restricted());
        let restricts_rows = !self.multi.is_empty()
            || self.columns.iter().any(|(column, _)| {
                !matches!(column.kind, ColumnKind::PartitionKey { .. } | ColumnKind::Static)
            });
        let restricts_partition = self.has_token
            || self
                .columns
                .iter()
                .any(|(column, _)| matches!(column.kind, ColumnKind::PartitionKey { .. }));
        let key_in = self.columns.iter().any(|(column, entry)| {
            matches!(column.kind, ColumnKind::PartitionKey { .. }) && entry.among.is_some()
        });
        let restricts_clustering = !self.multi.is_empty()
            || self
                .columns
                .iter()
                .any(|(column, _)| matches!(column.kind, ColumnKind::Clustering { .. }));
        let mut filters = Vec::new();
        let (partition, partition_in) = self.finish_partition(table, &mut filters)?;
        let scan = matches!(partition, PartitionRestriction::Tokens { .. });
        if restricts_clustering
            && matches!(self.statement, StatementType::Select { selects_only_statics: true, .. })
        {
            return Err(Error::invalid(
                "Cannot restrict clustering columns when selecting only static columns",
            ));
        }
        let clustering = self.finish_clustering(table, &mut filters)?;
        self.finish_others(&mut filters)?;
        Ok(Restrictions {
            partition,
            clustering,
            filters,
            partition_in,
            key_in,
            restricts_partition,
            scan_filters: scan && restricts_clustering,
            restricts_rows,
        })
    }

    fn finish_partition(
        &mut self,
        table: &TableSchema,
        filters: &mut Vec<Filter>,
    ) -> Result<(PartitionRestriction, bool)> {
        let key = table.partition_key();
        let on: Vec<OnColumn> = key.iter().map(|column| self.take(column)).collect();
        if !self.statement.is_select() {
            self.check_modified_partition(&key, &on)?;
        }
        let choices: Option<Vec<Choice>> = on
            .iter()
            .map(|entry| if entry.contains.is_empty() { entry.choice() } else { None })
            .collect();
        if let (Some(choices), false) = (choices, self.has_token) {
            let is_in = choices.iter().any(|choice| !matches!(choice, Choice::One(_)));
            return Ok((PartitionRestriction::Keys(choices), is_in));
        }
        let restricted = on.iter().any(OnColumn::is_restricted);
        let whole = on.iter().all(|entry| entry.contains.is_empty() && entry.choice().is_some());
        if restricted && !whole {
            self.require_filtering()?;
        }
        for (column, entry) in key.iter().zip(on) {
            filters.extend(entry.into_filters(column));
        }
        let (lower, upper) = (self.token_lower.take(), self.token_upper.take());
        Ok((PartitionRestriction::Tokens { lower, upper }, false))
    }

    fn check_modified_partition(&self, key: &[&Column], on: &[OnColumn]) -> Result<()> {
        let name = self.statement.name();
        if self.has_token {
            return Err(Error::invalid(format!(
                "The token function cannot be used in WHERE clauses for {name} statements"
            )));
        }
        let missing: Vec<&str> = key
            .iter()
            .zip(on)
            .filter(|(_, entry)| !entry.is_restricted())
            .map(|(column, _)| column.name.as_str())
            .collect();
        if !missing.is_empty() {
            return Err(Error::invalid(format!(
                "Some partition key parts are missing: {}",
                missing.join(", ")
            )));
        }
        if on.iter().any(OnColumn::has_slice) {
            return Err(Error::invalid(format!(
                "Only EQ and IN relation are supported on the partition key (unless you use the token() function) for {name} statements"
            )));
        }
        Ok(())
    }

    fn require_filtering(&self) -> Result<()> {
        match self.statement {
            StatementType::Select { allow_filtering: false, .. } => {
                Err(Error::invalid(REQUIRES_FILTERING))
            }
            _ => Ok(()),
        }
    }

    fn finish_clustering(
        &mut self,
        table: &TableSchema,
        filters: &mut Vec<Filter>,
    ) -> Result<Vec<ClusteringRestriction>> {
        let columns = table.clustering();
        let mut narrowing = Vec::new();
        let mut place = 0;
        let mut ended: Option<(&str, bool)> = None;
        while let Some(column) = columns.get(place) {
            if let Some(found) = self.multi.iter().position(|relation| relation.first() == place) {
                self.check_preceding(column, ended)?;
                let relation = self.multi.swap_remove(found);
                place += relation.count();
                match relation {
                    OnColumns::Choice { values, count, .. } => {
                        narrowing.push(ClusteringRestriction::Columns(values, count));
                    }
                    OnColumns::Slice { lower, upper, .. } => {
                        self.check_slice_allowed()?;
                        ended = Some((&column.name, true));
                        narrowing.push(ClusteringRestriction::Slice { lower, upper });
                    }
                }
                continue;
            }
            place += 1;
            let entry = self.take(column);
            if !entry.is_restricted() {
                ended = ended.or(Some((&column.name, false)));
                continue;
            }
            if ended.is_some() || !entry.contains.is_empty() {
                self.check_preceding(column, ended)?;
                self.require_filtering()?;
                ended = ended.or(Some((&column.name, true)));
                filters.extend(entry.into_filters(column));
                continue;
            }
            if let Some(choice) = entry.choice() {
                narrowing.push(ClusteringRestriction::Column(choice));
                continue;
            }
            self.check_slice_allowed()?;
            ended = Some((&column.name, true));
            let bound = |side: Option<(Term, bool)>| {
                side.map(|(term, inclusive)| Bound {
                    value: TupleTerm::Terms(vec![term]),
                    inclusive,
                })
            };
            let (lower, upper) = (bound(entry.lower), bound(entry.upper));
            narrowing.push(ClusteringRestriction::Slice { lower, upper });
        }
        Ok(narrowing)
    }

    fn check_slice_allowed(&self) -> Result<()> {
        if self.statement == StatementType::Update {
            return Err(Error::invalid(
                "Slice restrictions are not supported on the clustering columns in UPDATE statements",
            ));
        }
        Ok(())
    }

    fn check_preceding(&self, column: &Column, ended: Option<(&str, bool)>) -> Result<()> {
        let Some((preceding, by_slice)) = ended else { return Ok(()) };
        let name = &column.name;
        let allowed = matches!(self.statement, StatementType::Select { allow_filtering: true, .. });
        if allowed && self.multi.is_empty() {
            return Ok(());
        }
        if self.statement == StatementType::Update {
            return Err(Error::invalid(format!("Some clustering keys are missing: {preceding}")));
        }
        Err(Error::invalid(if by_slice {
            format!(
                "Clustering column \"{name}\" cannot be restricted (preceding column \"{preceding}\" is restricted by a non-EQ relation)"
            )
        } else {
            format!(
                "PRIMARY KEY column \"{name}\" cannot be restricted as preceding column \"{preceding}\" is not restricted"
            )
        }))
    }

    fn finish_others(&mut self, filters: &mut Vec<Filter>) -> Result<()> {
        let others = std::mem::take(&mut self.columns);
        if others.is_empty() {
            return Ok(());
        }
        if !self.statement.is_select() {
            let names: Vec<&str> = others.iter().map(|(column, _)| column.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "Non PRIMARY KEY columns found in where clause: {} ",
                names.join(", ")
            )));
        }
        self.require_filtering()?;
        for (column, entry) in others {
            filters.extend(entry.into_filters(&column));
        }
        Ok(())
    }
}
