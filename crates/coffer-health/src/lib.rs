//! What is to be done about a table whose KMS key is lost, as a pure state machine: no clock, no disk,
//! no KMS. Every function is given the moment and what is known; what it returns is to be done.
//!
//! ```text
//!               refused                  refused N times              deadline, and refused anew
//!  accessible ----------> suspect ----------------------> inaccessible --------------------------+
//!      ^                     |                                 |                                  |
//!      |      usable         |              usable             |                                  v
//!      +---------------------+---------------------------------+<---- usable ---- snapshot: taken, verified
//!                                                                                                 |
//!                                                                                refused anew     v
//!                                                                                              dropped
//! ```
//!
//! Only a *definitive refusal* moves a table to the right, and only while it is given by whom gave the
//! last success. Every answer that shows the key to be usable takes it back to the left at once.
//! Anything else (no answer, throttling, Coffer's own credentials, a damaged blob, an answer nobody
//! knows) is an *outage*: it has a clock of its own, and only ever warns.
//!
//! All spans are measured in *age*: milliseconds that have passed for sure, as the caller keeps
//! them. So no jump of a clock shortens one.

#![forbid(unsafe_code)]

mod health;
mod policy;

pub use health::{
    Answer, Due, HealthEvent, Moment, Observation, Outage, Series, Snapshot, State, TableHealth,
};
pub use policy::{DAY_MILLIS, HOUR_MILLIS, Policy, PolicyError, delete_after, reminder_days};
