//! CQL text to a syntax tree.
//!
//! [`parse_statement`] takes one statement of CQL 3.4, with the forms that Amazon Keyspaces adds, and knows no schema:
//! whether a table exists, or a value fits its column, is for its caller to find out.
#![forbid(unsafe_code)]

pub mod ast;
mod depth;
mod error;
mod keyword;
mod lexer;
mod literal;
mod parser;
mod statement;
mod term;
mod type_name;
mod where_clause;

pub use ast::{Statement, StatementKind};
pub use depth::MAXIMUM_DEPTH;
pub use error::SyntaxError;
pub use keyword::quoted_name;
pub use statement::parse_statement;
