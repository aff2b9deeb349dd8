//! Black-box tests over a real socket.
