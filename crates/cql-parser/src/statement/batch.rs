//! BATCH.

use crate::ast::{Batch, BatchKind, Modification};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn batch(&mut self) -> Parsed<Batch> {
        self.expect(Keyword::Begin)?;
        let kind = if self.accept(Keyword::Unlogged) {
            BatchKind::Unlogged
        } else if self.accept(Keyword::Counter) {
            BatchKind::Counter
        } else {
            BatchKind::Logged
        };
        self.expect(Keyword::Batch)?;
        let using = self.using()?;
        let mut statements = Vec::new();
        loop {
            let statement = match self.kind() {
                Kind::Keyword(Keyword::Insert) => Modification::Insert(self.insert()?),
                Kind::Keyword(Keyword::Update) => Modification::Update(self.update()?),
                Kind::Keyword(Keyword::Delete) => Modification::Delete(self.delete()?),
                _ => break,
            };
            statements.push(statement);
            self.accept_sign(b';');
        }
        self.expect_all(&[Keyword::Apply, Keyword::Batch])?;
        Ok(Batch { kind, using, statements })
    }
}
