//! The cursor over the lexemes that all rules share: what comes next, names, markers, and how a rule fails.

use std::borrow::Cow;

use crate::ast::{BindMarker, QualifiedName};
use crate::depth::MAXIMUM_DEPTH;
use crate::error::Failure;
use crate::keyword::{Class, Keyword};
use crate::lexer::{Kind, Lexeme};

/// What rules return. A failure is boxed: it is rare, and results stay small.
pub(crate) type Parsed<T> = Result<T, Box<Failure>>;

/// Reads lexemes one after the other.
pub(crate) struct Parser<'a> {
    text: &'a str,
    lexemes: &'a [Lexeme],
    position: usize,
    /// The last lexeme that Cassandra's parser would have looked at so far; its messages quote the text up to there.
    looked_at: usize,
    depth: u16,
    pub(crate) bind_markers: Vec<Option<String>>,
}

/// A place to return to.
pub(crate) struct Checkpoint {
    position: usize,
    depth: u16,
    bind_markers: usize,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str, lexemes: &'a [Lexeme]) -> Self {
        Self { text, lexemes, position: 0, looked_at: 0, depth: 0, bind_markers: Vec::new() }
    }

    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            position: self.position,
            depth: self.depth,
            bind_markers: self.bind_markers.len(),
        }
    }

    pub(crate) fn restore(&mut self, checkpoint: &Checkpoint) {
        self.position = checkpoint.position;
        self.depth = checkpoint.depth;
        self.bind_markers.truncate(checkpoint.bind_markers);
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// The kind of the lexeme `ahead` places from here; [`Kind::End`] past the end.
    pub(crate) fn peek(&self, ahead: usize) -> Kind {
        self.lexemes.get(self.position + ahead).map_or(Kind::End, |lexeme| lexeme.kind)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.peek(0)
    }

    pub(crate) fn advance(&mut self) {
        self.position = (self.position + 1).min(self.lexemes.len().saturating_sub(1));
    }

    /// Notes that Cassandra's parser looks one lexeme past the current one before it goes on.
    pub(crate) fn look_past(&mut self) {
        self.looked_at = self.looked_at.max(self.position + 1);
    }

    pub(crate) fn at_keyword(&self, keyword: Keyword) -> bool {
        self.kind() == Kind::Keyword(keyword)
    }

    pub(crate) fn at_sign(&self, sign: u8) -> bool {
        self.kind() == Kind::Sign(sign)
    }

    /// Takes the keyword if it is next.
    pub(crate) fn accept(&mut self, keyword: Keyword) -> bool {
        let found = self.at_keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    /// Takes the sign if it is next.
    pub(crate) fn accept_sign(&mut self, sign: u8) -> bool {
        let found = self.at_sign(sign);
        if found {
            self.advance();
        }
        found
    }

    pub(crate) fn expect(&mut self, keyword: Keyword) -> Parsed<()> {
        if self.accept(keyword) { Ok(()) } else { Err(self.mismatched_keyword(keyword)) }
    }

    pub(crate) fn expect_all(&mut self, keywords: &[Keyword]) -> Parsed<()> {
        keywords.iter().try_for_each(|&keyword| self.expect(keyword))
    }

    pub(crate) fn expect_sign(&mut self, sign: u8) -> Parsed<()> {
        if self.accept_sign(sign) {
            Ok(())
        } else {
            Err(self.mismatched(Cow::Owned(format!("'{}'", char::from(sign)))))
        }
    }

    /// `IF NOT EXISTS`
    pub(crate) fn if_not_exists(&mut self) -> Parsed<bool> {
        let found = self.accept(Keyword::If);
        if found {
            self.expect_all(&[Keyword::Not, Keyword::Exists])?;
        }
        Ok(found)
    }

    /// `IF EXISTS`
    pub(crate) fn if_exists(&mut self) -> Parsed<bool> {
        let found = self.accept(Keyword::If);
        if found {
            self.expect(Keyword::Exists)?;
        }
        Ok(found)
    }

    /// At least one item, separated by commas.
    pub(crate) fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.accept_sign(b',') {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Runs a rule one level deeper.
    pub(crate) fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.deepen(1)?;
        let result = rule(self)?;
        self.depth -= 1;
        Ok(result)
    }

    /// Counts levels of a chain, which its rule gives back with [`Self::rise`].
    pub(crate) fn deepen(&mut self, levels: u16) -> Parsed<()> {
        self.depth += levels;
        if self.depth > MAXIMUM_DEPTH {
            return Err(Box::new(Failure::TooDeep { at: self.position }));
        }
        Ok(())
    }

    pub(crate) fn rise(&mut self, levels: u16) {
        self.depth = self.depth.saturating_sub(levels);
    }

    // --- failures ---

    /// No rule fits the current lexeme.
    pub(crate) fn no_viable<T>(&self) -> Parsed<T> {
        self.no_viable_ahead(0)
    }

    /// No rule that begins here fits, which shows `ahead` places from here.
    pub(crate) fn no_viable_ahead<T>(&self, ahead: usize) -> Parsed<T> {
        Err(Box::new(Failure::NoViable { decision: self.position, at: self.position + ahead }))
    }

    /// No rule that began at `decision` fits, which shows here.
    pub(crate) fn no_viable_since<T>(&self, decision: usize) -> Parsed<T> {
        Err(Box::new(Failure::NoViable { decision, at: self.position }))
    }

    pub(crate) fn mismatched(&self, expecting: Cow<'static, str>) -> Box<Failure> {
        Box::new(Failure::Mismatched { at: self.position, expecting })
    }

    fn mismatched_keyword(&self, keyword: Keyword) -> Box<Failure> {
        let name = match keyword {
            Keyword::Table => "COLUMNFAMILY".to_owned(),
            other => other.text().to_ascii_uppercase(),
        };
        self.mismatched(Cow::Owned(format!("K_{name}")))
    }

    /// Fails with a message of its own.
    pub(crate) fn refuse<T>(&self, message: String) -> Parsed<T> {
        Err(Box::new(Failure::Message { at: self.position, message }))
    }

    // --- texts ---

    /// The text of the lexeme `ahead` places from here, as it is written.
    pub(crate) fn raw(&self, ahead: usize) -> &'a str {
        let Some(lexeme) = self.lexemes.get(self.position + ahead) else {
            return "";
        };
        self.text.get(lexeme.start as usize..lexeme.end as usize).unwrap_or_default()
    }

    /// The text from a lexeme on to the end of the one before the current.
    pub(crate) fn text_since(&self, position: usize) -> &'a str {
        let start = self.lexemes.get(position).map_or(0, |lexeme| lexeme.start);
        let end =
            self.lexemes.get(self.position.saturating_sub(1)).map_or(start, |lexeme| lexeme.end);
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    /// The unescaped text of the current string and moves on.
    pub(crate) fn take_string(&mut self) -> Parsed<String> {
        let kind = self.kind();
        if !matches!(kind, Kind::String | Kind::DollarString) {
            return Err(self.mismatched(Cow::Borrowed("STRING_LITERAL")));
        }
        let text = unquote(kind, self.raw(0)).into_owned();
        self.advance();
        Ok(text)
    }

    /// Whether the lexeme is a word with this text that is no keyword: the words that only Keyspaces knows.
    pub(crate) fn at_word(&self, ahead: usize, word: &str) -> bool {
        self.peek(ahead) == Kind::Identifier && self.raw(ahead).eq_ignore_ascii_case(word)
    }

    // --- names ---

    /// Whether the lexeme `ahead` can be a name.
    pub(crate) fn is_name(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            Kind::Identifier | Kind::QuotedName => true,
            Kind::Keyword(keyword) => keyword.class() != Class::Reserved,
            _ => false,
        }
    }

    /// A name: of a column, a field, a keyspace, a role, an alias.
    pub(crate) fn name(&mut self) -> Parsed<String> {
        if !self.is_name(0) {
            return self.no_viable();
        }
        Ok(self.take_name())
    }

    /// The current lexeme's text as a name, whatever it is.
    pub(crate) fn take_name(&mut self) -> String {
        let raw = self.raw(0);
        let name = match self.kind() {
            Kind::QuotedName => unquote(Kind::QuotedName, raw).into_owned(),
            _ => raw.to_ascii_lowercase(),
        };
        self.advance();
        name
    }

    /// A column's name where it is used; `""` is one here.
    pub(crate) fn column(&mut self) -> Parsed<String> {
        if self.kind() == Kind::EmptyQuotedName {
            self.advance();
            return Ok(String::new());
        }
        self.name()
    }

    /// A keyspace's name.
    pub(crate) fn keyspace(&mut self) -> Parsed<String> {
        self.name_of("keyspace names")
    }

    /// A name where a marker is refused in words.
    pub(crate) fn name_of(&mut self, what: &str) -> Parsed<String> {
        if self.kind() == Kind::QuestionMark {
            return self.refuse(format!("Bind variables cannot be used for {what}"));
        }
        self.name()
    }

    /// `[keyspace.]table`
    pub(crate) fn table(&mut self) -> Parsed<QualifiedName> {
        if self.peek(1) == Kind::Sign(b'.') {
            let keyspace = self.keyspace()?;
            self.advance();
            return Ok(QualifiedName {
                keyspace: Some(keyspace),
                name: self.name_of("table names")?,
            });
        }
        let decision = self.position;
        let name = self.name_of("table names")?;
        if !self.may_follow_table() {
            return self.no_viable_since(decision);
        }
        if matches!(self.kind(), Kind::Keyword(Keyword::As | Keyword::Set | Keyword::To)) {
            self.look_past();
        }
        Ok(QualifiedName { keyspace: None, name })
    }

    /// Cassandra's parser looks past a table's name and stops at once if no statement could go on so.
    fn may_follow_table(&self) -> bool {
        use Keyword::{
            Add, Allow, Alter, As, Drop, From, Group, Json, Like, Limit, NoRecursive, Of, Order,
            Per, Primary, Rename, Set, To, Using, Where, With,
        };
        matches!(
            self.kind(),
            Kind::End
                | Kind::Invalid
                | Kind::Sign(b'(' | b';')
                | Kind::Keyword(
                    Where
                        | Group
                        | Order
                        | Per
                        | Limit
                        | Allow
                        | Json
                        | Using
                        | Set
                        | As
                        | Primary
                        | With
                        | Alter
                        | Add
                        | Drop
                        | Rename
                        | To
                        | From
                        | Of
                        | NoRecursive
                        | Like
                )
        )
    }

    /// `?` or `:name`, if one is next.
    pub(crate) fn marker(&mut self) -> Parsed<Option<BindMarker>> {
        let name = match self.kind() {
            Kind::QuestionMark => {
                self.advance();
                None
            }
            Kind::Sign(b':') => {
                self.advance();
                Some(self.name()?)
            }
            _ => return Ok(None),
        };
        let Ok(index) = u16::try_from(self.bind_markers.len()) else {
            return self.refuse("Too many markers(?). markers are limited to 65535".to_owned());
        };
        self.bind_markers.push(name);
        Ok(Some(BindMarker { index }))
    }
}

/// A lexeme's text without its quotes.
pub(crate) fn unquote(kind: Kind, raw: &str) -> Cow<'_, str> {
    let inner = |quote: usize| raw.get(quote..raw.len().saturating_sub(quote)).unwrap_or_default();
    let doubled = |single: &str, double: &str| {
        let inner = inner(1);
        if inner.contains(double) {
            Cow::Owned(inner.replace(double, single))
        } else {
            Cow::Borrowed(inner)
        }
    };
    match kind {
        Kind::String => doubled("'", "''"),
        Kind::QuotedName => doubled("\"", "\"\""),
        Kind::DollarString => Cow::Borrowed(inner(2)),
        _ => Cow::Borrowed(raw),
    }
}
