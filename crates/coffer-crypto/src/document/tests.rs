//! Tests of sealed documents.
