//! Scripts of CQL and the transcript of their answers.
//!
//! A script is a text of statements, each ending with `;` at the end of a line. It runs in a keyspace of
//! its own named after it. Lines that begin with `--` are comments, but for four:
//! `-- prepare` prepares the next statement instead, and shows its metadata;
//! `-- page N` gives the next statement a page size of N; `-- differs: REASON` says why the answer of the
//! statement before is not Cassandra's; `-- only coffer` says that the whole script has no peer.

use std::{fmt::Write as _, net::SocketAddr};

use cql_protocol::{Prepare, ReceivedBody, ReceivedColumn, ReceivedRows, Request, Text};
use cql_types::to_literal;

use crate::{Client, Result};

/// One statement of a script.
struct Step {
    statement: String,
    page_size: Option<i32>,
    prepares: bool,
    differs: Option<String>,
}

/// A parsed script.
pub struct Script {
    keyspace: String,
    only_coffer: bool,
    steps: Vec<Step>,
}

impl Script {
    /// Reads the text of a script.
    #[must_use]
    pub fn parse(name: &str, text: &str) -> Self {
        let mut script = Self { keyspace: name.to_owned(), only_coffer: false, steps: Vec::new() };
        let (mut statement, mut page_size, mut prepares) = (String::new(), None, false);
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("--").filter(|_| statement.is_empty()) {
                let comment = comment.trim();
                if let Some(size) = comment.strip_prefix("page ") {
                    page_size = size.parse().ok();
                } else if comment == "prepare" {
                    prepares = true;
                } else if let Some(reason) = comment.strip_prefix("differs:") {
                    if let Some(last) = script.steps.last_mut() {
                        last.differs = Some(reason.trim().to_owned());
                    }
                } else if comment == "only coffer" {
                    script.only_coffer = true;
                }
                continue;
            }
            if !statement.is_empty() {
                statement.push('\n');
            }
            statement.push_str(line);
            if line.trim_end().ends_with(';') {
                let text = statement.trim().trim_end_matches(';').to_owned();
                script.steps.push(Step {
                    statement: text,
                    page_size: page_size.take(),
                    prepares: std::mem::take(&mut prepares),
                    differs: None,
                });
                statement.clear();
            } else if statement.trim().is_empty() {
                statement.clear();
            }
        }
        script
    }

    /// Whether the script is about what only Coffer has.
    #[must_use]
    pub fn is_only_coffer(&self) -> bool {
        self.only_coffer
    }
}

/// What a server answered to each statement of a script.
pub struct Transcript {
    /// For each step: the statement, the answer as text, and why it may differ from Cassandra's.
    pub steps: Vec<(String, String, Option<String>)>,
}

impl Transcript {
    /// The text kept in `.expected` files.
    #[must_use]
    pub fn text(&self) -> String {
        self.steps
            .iter()
            .map(|(statement, answer, _)| format!("> {statement}\n{answer}\n"))
            .collect()
    }
}

/// Runs a script in a keyspace of its own, which is dropped afterwards.
///
/// # Errors
/// When the server is gone; errors of statements are part of the transcript.
pub fn run_script(address: SocketAddr, script: &Script) -> Result<Transcript> {
    let mut client = Client::connect(address)?;
    let keyspace = &script.keyspace;
    client.query(&format!("DROP KEYSPACE IF EXISTS {keyspace}"))?;
    client.execute(&format!(
        "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    ))?;
    client.execute(&format!("USE {keyspace}"))?;
    let mut steps = Vec::new();
    for step in &script.steps {
        let answer = answer(&mut client, step)?;
        steps.push((step.statement.clone(), answer, step.differs.clone()));
    }
    client.execute(&format!("DROP KEYSPACE {keyspace}"))?;
    Ok(Transcript { steps })
}

/// The answer as text, all pages of it.
fn answer(client: &mut Client, step: &Step) -> Result<String> {
    let mut text = String::new();
    let mut state = None;
    loop {
        let received = if step.prepares {
            client.request(&Request::Prepare(Prepare {
                statement: Text::from(step.statement.as_str()),
            }))?
        } else {
            client.page(&step.statement, step.page_size, state.take())?
        };
        for warning in &received.warnings {
            writeln!(text, "warning: {warning}")?;
        }
        match received.body {
            ReceivedBody::Void => writeln!(text, "ok")?,
            ReceivedBody::SetKeyspace(keyspace) => writeln!(text, "use {keyspace}")?,
            ReceivedBody::SchemaChange(change) => {
                writeln!(text, "{} {} {:?}", change.kind.name(), change.keyspace, change.target)?;
            }
            ReceivedBody::Error(error) => {
                writeln!(text, "error 0x{:04X}: {}", error.detail.code(), error.message)?;
            }
            ReceivedBody::Rows(rows) => {
                write_rows(&mut text, &rows)?;
                if rows.paging_state.is_some() {
                    writeln!(text, "-- more")?;
                    state = rows.paging_state;
                    continue;
                }
            }
            ReceivedBody::Prepared(prepared) => {
                let bind = columns(&prepared.bind);
                writeln!(text, "bind {bind}; key {:?}", prepared.partition_key_indexes)?;
                writeln!(text, "result {}", columns(&prepared.result))?;
            }
            other => writeln!(text, "{other:?}")?,
        }
        return Ok(text);
    }
}

/// The answer as text, its pages as one.
pub(crate) fn whole_answer(
    client: &mut Client,
    statement: &str,
    page_size: Option<i32>,
) -> Result<String> {
    let step = Step { statement: statement.to_owned(), page_size, prepares: false, differs: None };
    let text = answer(client, &step)?;
    if page_size.is_none() {
        return Ok(text);
    }
    let mut whole = String::new();
    let mut header = None;
    for line in text.lines() {
        let is_row = line.starts_with("  ");
        let is_count = line.starts_with('(') && line.ends_with(" rows)");
        if line == "-- more" || is_count || (!is_row && header.as_deref() == Some(line)) {
            continue;
        }
        if !is_row && !line.starts_with("warning") {
            header = Some(line.to_owned());
        }
        writeln!(whole, "{line}")?;
    }
    Ok(whole)
}

fn columns(columns: &[ReceivedColumn]) -> String {
    let columns: Vec<String> =
        columns.iter().map(|column| format!("{} {}", column.name, column.ty)).collect();
    columns.join(" | ")
}

fn write_rows(text: &mut String, rows: &ReceivedRows) -> Result<()> {
    writeln!(text, "{}", columns(&rows.columns))?;
    for row in &rows.rows {
        let cells: Vec<String> =
            row.iter()
                .zip(&rows.columns)
                .map(|(cell, column)| match cell {
                    // What no literal can be written of, a list with a null for one, shows as bytes.
                    Some(bytes) => to_literal(&column.ty, bytes)
                        .unwrap_or_else(|_| format!("bytes {bytes:02x?}")),
                    None => "null".to_owned(),
                })
                .collect();
        writeln!(text, "  {}", cells.join(" | "))?;
    }
    writeln!(text, "({} rows)", rows.rows.len())?;
    Ok(())
}
