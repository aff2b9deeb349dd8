//! A client of CQL as its users have it: the unmodified Python driver, in a process of its own.
#![expect(
    clippy::indexing_slicing,
    reason = "what is missing in a JSON object is null when it is read"
)]

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Result, python};

/// One session of the driver. Ends when dropped.
pub struct PythonDriver {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A whole table as the driver gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverDump {
    /// Each row as text, cell by cell, with the times of writing.
    pub rows: Vec<Value>,
    /// When each cell expires, seconds since 1970; a second off is the same.
    pub expires: Vec<Vec<Option<i64>>>,
}

impl DriverDump {
    /// What is other than in `after`; `None` when every cell is the same.
    #[must_use]
    pub fn difference(&self, after: &Self) -> Option<String> {
        if self.rows.len() != after.rows.len() {
            return Some(format!("{} rows became {}", self.rows.len(), after.rows.len()));
        }
        let changed = self.rows.iter().zip(&after.rows).find(|(one, other)| one != other);
        if let Some((one, other)) = changed {
            let cells = |row: &Value| row.as_array().cloned().unwrap_or_default();
            let (one, other) = (cells(one), cells(other));
            let changed: Vec<_> =
                one.iter().zip(&other).filter(|(one, other)| one != other).collect();
            return Some(format!("in row {:?}, before and after: {changed:?}", one.get(..4)));
        }
        let cells = self.expires.iter().flatten().zip(after.expires.iter().flatten());
        let is_same = |one: &Option<i64>, other: &Option<i64>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(*other) <= 2,
            (one, other) => one == other,
        };
        let mut cells = cells.filter(|(one, other)| !is_same(one, other));
        cells.next().map(|(one, other)| format!("a cell expired at {one:?}, and now at {other:?}"))
    }
}

impl PythonDriver {
    /// Connects to a server.
    ///
    /// # Errors
    /// When the driver cannot be installed or started.
    pub fn start(address: SocketAddr) -> Result<Self> {
        let bin = python::environment("requirements.txt")?;
        let mut command = Command::new(bin.join("python"));
        command.arg(python::folder().join("cql.py"));
        command.args([address.ip().to_string(), address.port().to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output })
    }

    /// Asks for something; the inner error has code and text of what the server refused.
    fn ask(&mut self, request: &Value) -> Result<std::result::Result<Value, (i64, String)>> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.input.write_all(&line)?;
        self.input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| {
            format!("{request}: the driver ended or printed {answer:?}: {error}")
        })?;
        if let Some(ok) = answer.get_mut("ok") {
            return Ok(Ok(ok.take()));
        }
        let error = &answer["error"];
        let text = error["message"].as_str().unwrap_or_default().to_owned();
        Ok(Err((error["code"].as_i64().unwrap_or_default(), text)))
    }

    fn must(&mut self, request: &Value) -> Result<Value> {
        self.ask(request)?.map_err(|(code, text)| format!("{request}: 0x{code:04X} {text}").into())
    }

    /// The rows of a statement that must succeed, each an object by column.
    ///
    /// # Errors
    /// When it is refused.
    pub fn execute(&mut self, statement: &str) -> Result<Vec<Value>> {
        let rows = self.must(&json!({"do": "execute", "statement": statement}))?;
        Ok(rows.as_array().cloned().unwrap_or_default())
    }

    /// Code and text of a statement that must fail.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn error(&mut self, statement: &str) -> Result<(i64, String)> {
        match self.ask(&json!({"do": "execute", "statement": statement}))? {
            Ok(rows) => Err(format!("no error but {rows}: {statement}").into()),
            Err(refused) => Ok(refused),
        }
    }

    /// Makes a table with columns of all types, and options after `WITH CLUSTERING ORDER BY ...`.
    ///
    /// # Errors
    /// When it is refused.
    pub fn create_everything(&mut self, table: &str, options: &str) -> Result<()> {
        self.must(&json!({"do": "everything", "table": table, "with": options})).map(|_| ())
    }

    /// Writes rows of every kind to such a table, the same each time.
    ///
    /// # Errors
    /// When a write is refused.
    pub fn fill_everything(&mut self, table: &str, rows: u32) -> Result<()> {
        self.must(&json!({"do": "fill", "table": table, "rows": rows})).map(|_| ())
    }

    /// Reads all of such a table.
    ///
    /// # Errors
    /// When a read is refused.
    pub fn dump(&mut self, table: &str) -> Result<DriverDump> {
        let mut answer = self.must(&json!({"do": "dump", "table": table}))?;
        let rows = answer["rows"].as_array().cloned().ok_or("no rows")?;
        let expires = serde_json::from_value(answer["expires"].take())?;
        Ok(DriverDump { rows, expires })
    }

    /// The tables of a keyspace in the driver's metadata, which schema changes that the server pushes
    /// keep up to date.
    ///
    /// # Errors
    /// When the driver is gone.
    pub fn tables(&mut self, keyspace: &str) -> Result<Vec<String>> {
        let answer = self.must(&json!({"do": "metadata", "keyspace": keyspace}))?;
        Ok(serde_json::from_value(answer)?)
    }
}

impl Drop for PythonDriver {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {}
    }
}
