//! Key health: what is known of one table's key, and what is to be done about it. Pure functions of time and observations.
#![forbid(unsafe_code)]
