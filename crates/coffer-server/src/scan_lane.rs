//! Big reads: a few threads of low priority that give each read a slice of time in turn, so that
//! neither the connections nor the other reads wait for one of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use coffer_query::{Database, Error, Outcome, SelectExecution};
use crossbeam::channel::{Receiver, Sender, TryRecvError, unbounded};
use tokio::sync::oneshot;

/// Rows a read may look at before the next one has its turn.
const ROWS_PER_TURN: usize = 128;
/// Added to the nice value of the lane's threads: about a tenth of a connection thread's share.
const NICE: i32 = 10;

/// A read and where its answer goes.
struct ScanJob {
    execution: Box<SelectExecution>,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

/// The threads. The number of waiting reads is bounded by the requests in flight.
pub(crate) struct ScanLane {
    jobs: Option<Sender<ScanJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl ScanLane {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(crate) fn start(database: &Arc<Database>, threads: usize) -> std::io::Result<Self> {
        let (jobs, queue) = unbounded();
        let threads = (0..threads).map(|number| {
            let (database, queue) = (Arc::clone(database), queue.clone());
            std::thread::Builder::new()
                .name(format!("coffer-scan-{number}"))
                .spawn(move || run(&database, &queue))
        });
        Ok(Self { jobs: Some(jobs), threads: threads.collect::<Result<_, _>>()? })
    }

    /// Runs a read to its end. Dropping the future gives the read up.
    ///
    /// # Errors
    /// The read's; [`Error::Overloaded`] while the server stops.
    pub(crate) async fn read(&self, execution: Box<SelectExecution>) -> Result<Outcome, Error> {
        let stopping = || Error::Overloaded("the server is stopping".to_owned());
        let (answer, outcome) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(stopping)?;
        jobs.send(ScanJob { execution, answer }).map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())?
    }
}

impl Drop for ScanLane {
    /// Ends the threads after the turns they are in.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a scan thread panicked");
            }
        }
    }
}

fn run(database: &Database, queue: &Receiver<ScanJob>) {
    // on Linux the nice value belongs to the thread; where it cannot be set, time slices remain
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::warn!(%error, "cannot lower the priority of a scan thread");
    }
    let mut jobs: VecDeque<ScanJob> = VecDeque::new();
    loop {
        if jobs.is_empty() {
            match queue.recv() {
                Ok(job) => jobs.push_back(job),
                Err(_) => return,
            }
        }
        // one new read a turn: the other threads of the lane take the rest
        match queue.try_recv() {
            Ok(job) => jobs.push_back(job),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return,
        }
        let Some(mut job) = jobs.pop_front() else {
            continue;
        };
        if job.answer.is_closed() {
            continue;
        }
        match job.execution.step(database, ROWS_PER_TURN) {
            Ok(None) => jobs.push_back(job),
            // the client may have gone: then nobody is left to tell
            Ok(Some(outcome)) => drop(job.answer.send(Ok(outcome))),
            Err(error) => drop(job.answer.send(Err(error))),
        }
    }
}
