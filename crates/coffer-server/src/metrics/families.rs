//! Families of metrics in the text format.

use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::LatencySnapshot;

/// Names and values of the labels of one member.
pub(super) type Labels = Vec<(&'static str, String)>;
/// What an encoder answers.
pub(super) type Encoded = Result<(), Error>;

/// Writes families.
#[derive(Debug)]
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    /// Numbers that rise and fall; nothing is written when there are none.
    pub(super) fn gauges(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Encoded {
        let mut members = members.into_iter().peekable();
        if members.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in members {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// Numbers that only rise; the format adds `_total` to the name.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Encoded {
        let mut members = members.into_iter().peekable();
        if members.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in members {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
            } else {
                let mut member = family.encode_family(&labels)?;
                member.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    /// Latencies.
    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = (Labels, LatencySnapshot)>,
    ) -> Encoded {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, latencies) in members {
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                latencies.seconds,
                latencies.count,
                &latencies.buckets,
                None,
            )?;
        }
        Ok(())
    }
}
