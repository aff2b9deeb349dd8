//! A time series of many devices is loaded through a driver while the KMS key is swapped and the server is
//! killed in the middle; every acknowledged row is found afterwards.
//!
//! `COFFER_TEST_ROWS` changes the number of rows (1,000,000).
#![expect(
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cql_tests::{Result, Server};
use indicatif::{ProgressBar, ProgressStyle};
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    statement::prepared::PreparedStatement,
};

const WRITERS: u64 = 64;
const ROWS_PER_DEVICE: u64 = 2000;

/// Rows acknowledged: writer w writes rows w, w + WRITERS, ... in order and counts them here.
struct Acknowledged(Vec<AtomicU64>);

struct Load {
    session: Session,
    insert: PreparedStatement,
    acknowledged: Arc<Acknowledged>,
    progress: ProgressBar,
    rows: u64,
}

fn rows() -> u64 {
    std::env::var("COFFER_TEST_ROWS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

fn key_of(row: u64) -> (String, i64) {
    (format!("device-{:05}", row / ROWS_PER_DEVICE), (row % ROWS_PER_DEVICE).cast_signed())
}

fn payload(row: u64) -> String {
    format!("reading {row} of a sensor that says much the same as ever")
}

async fn connect(server: &Server) -> Result<Session> {
    Ok(SessionBuilder::new().known_node_addr(server.address()).build().await?)
}

async fn write(load: &Load, writer: u64) {
    loop {
        let done = load.acknowledged.0[usize::try_from(writer).unwrap_or_default()]
            .load(Ordering::Relaxed);
        let row = done * WRITERS + writer;
        if row >= load.rows {
            return;
        }
        let (device, at) = key_of(row);
        #[expect(clippy::cast_precision_loss, reason = "a made-up reading")]
        let values = (device, at, row as f64 / 8.0, payload(row));
        // A failure means that the server is gone: the row is not acknowledged, and this writer ends.
        if load.session.execute_unpaged(&load.insert, values).await.is_err() {
            return;
        }
        load.acknowledged.0[usize::try_from(writer).unwrap_or_default()]
            .fetch_add(1, Ordering::Relaxed);
        load.progress.inc(1);
    }
}

/// Writes until all rows are there or the server is gone.
async fn write_all(
    server: &Server,
    acknowledged: &Arc<Acknowledged>,
    progress: &ProgressBar,
) -> Result<Arc<Load>> {
    let session = connect(server).await?;
    let insert = session
        .prepare("INSERT INTO fleet.readings (device, at, value, note) VALUES (?, ?, ?, ?)")
        .await?;
    let (acknowledged, progress) = (acknowledged.clone(), progress.clone());
    let load = Load { session, insert, acknowledged, progress, rows: rows() };
    Ok(Arc::new(load))
}

fn start_writers(load: &Arc<Load>) -> Vec<tokio::task::JoinHandle<()>> {
    (0..WRITERS)
        .map(|writer| {
            let load = load.clone();
            tokio::spawn(async move { write(&load, writer).await })
        })
        .collect()
}

/// Waits until `rows` rows are acknowledged.
async fn reach(progress: &ProgressBar, rows: u64) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while progress.position() < rows {
        tick.tick().await;
    }
}

async fn swap_key(server: &Server, session: &Session) -> Result<String> {
    let arn = server.kms(&["create-key"])?;
    let statement = format!(
        "ALTER TABLE fleet.readings WITH CUSTOM_PROPERTIES = {{'encryption_specification': \
         {{'encryption_type': 'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{arn}'}}}}"
    );
    session.query_unpaged(statement, &[]).await?;
    Ok(arn)
}

/// Reads every partition whole and checks that every acknowledged row is in it with its values.
async fn verify(server: &Server, acknowledged: &Acknowledged, rows: u64) -> Result<u64> {
    let session = connect(server).await?;
    let select =
        session.prepare("SELECT at, value, note FROM fleet.readings WHERE device = ?").await?;
    let mut found = 0;
    for device in 0..rows.div_ceil(ROWS_PER_DEVICE) {
        let (name, _) = key_of(device * ROWS_PER_DEVICE);
        let result = session.execute_unpaged(&select, (name,)).await?.into_rows_result()?;
        let mut here = vec![None; usize::try_from(ROWS_PER_DEVICE)?];
        for row in result.rows::<(i64, f64, String)>()? {
            let (at, value, note) = row?;
            here[usize::try_from(at)?] = Some((value, note));
        }
        for at in 0..ROWS_PER_DEVICE {
            let row = device * ROWS_PER_DEVICE + at;
            let done = acknowledged.0[usize::try_from(row % WRITERS)?].load(Ordering::Relaxed);
            if row / WRITERS >= done {
                continue;
            }
            let (value, note) = here[usize::try_from(at)?]
                .as_ref()
                .ok_or_else(|| format!("acknowledged row {row} is lost"))?;
            #[expect(clippy::cast_precision_loss, reason = "a made-up reading")]
            let expected = row as f64 / 8.0;
            assert_eq!(
                (*value, note.as_str()),
                (expected, payload(row).as_str()),
                "row {row} has other values"
            );
            found += 1;
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_row_survives_kill_and_key_swaps() -> Result<()> {
    let rows = rows();
    let mut server = Server::start()?;
    let first_key = server.kms(&["create-key", "--description", "the fleet's first key"])?;
    let session = connect(&server).await?;
    for statement in [
        "CREATE KEYSPACE fleet WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned(),
        format!(
            "CREATE TABLE fleet.readings (device text, at bigint, value double, note text, PRIMARY KEY (device, at)) \
             WITH CUSTOM_PROPERTIES = {{'encryption_specification': {{'encryption_type': \
             'CUSTOMER_MANAGED_KMS_KEY', 'kms_key_identifier': '{first_key}'}}}}"
        ),
    ] {
        session.query_unpaged(statement, &[]).await?;
    }
    let acknowledged = Arc::new(Acknowledged((0..WRITERS).map(|_| AtomicU64::new(0)).collect()));
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} left")?;
    let progress = ProgressBar::new(rows).with_style(style);

    // First half: a swap under load, then the old key is disabled at once; then the power goes.
    let load = write_all(&server, &acknowledged, &progress).await?;
    let writers = start_writers(&load);
    reach(&progress, rows / 4).await;
    let second_key = swap_key(&server, &session).await?;
    server.kms(&["disable-key", &first_key])?;
    reach(&progress, rows / 2).await;
    server.kill()?;
    for writer in writers {
        writer.await?;
    }
    let before = progress.position();
    assert!(before < rows, "all rows were written before the server was killed");
    server.restart()?;
    assert_eq!(
        verify(&server, &acknowledged, rows).await?,
        before,
        "rows acknowledged before the kill"
    );

    // Second half: another swap, a clean stop, and everything is there.
    let session = connect(&server).await?;
    let load = write_all(&server, &acknowledged, &progress).await?;
    let writers = start_writers(&load);
    reach(&progress, rows / 4 * 3).await;
    swap_key(&server, &session).await?;
    server.kms(&["schedule-key-deletion", &second_key])?;
    for writer in writers {
        writer.await?;
    }
    progress.finish();
    assert_eq!(progress.position(), rows, "a writer failed while the key was swapped");
    server.stop()?;
    server.restart()?;
    assert_eq!(verify(&server, &acknowledged, rows).await?, rows, "rows after the restart");
    Ok(())
}
