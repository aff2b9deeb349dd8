//! The `coffer` binary: configuration, listener, connections, dispatch, shutdown.
