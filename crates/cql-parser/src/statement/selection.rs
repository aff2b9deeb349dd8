//! What a SELECT asks for.

use crate::ast::{ArithmeticOperator, Selectable, Selection, Selector, Term};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    /// JSON, DISTINCT and the selection. Both words are column names too: they are words of the clause only when the rest
    /// reads as a selection.
    pub(super) fn select_clause(&mut self) -> Parsed<(bool, bool, Selection)> {
        if self.at_keyword(Keyword::Json) {
            let start = self.checkpoint();
            self.advance();
            if let Ok((distinct, selection)) = self.distinct_clause() {
                return Ok((true, distinct, selection));
            }
            self.restore(&start);
        }
        let (distinct, selection) = self.distinct_clause()?;
        Ok((false, distinct, selection))
    }

    fn distinct_clause(&mut self) -> Parsed<(bool, Selection)> {
        if self.at_keyword(Keyword::Distinct) {
            let start = self.checkpoint();
            self.advance();
            if let Ok(selection) = self.selection() {
                return Ok((true, selection));
            }
            self.restore(&start);
        }
        Ok((false, self.selection()?))
    }

    /// `*` or selectors.
    pub(super) fn selection(&mut self) -> Parsed<Selection> {
        if self.accept_sign(b'*') {
            return Ok(Selection::All);
        }
        Ok(Selection::Selectors(self.list(Self::selector)?))
    }

    fn selector(&mut self) -> Parsed<Selector> {
        let selectable = self.selectable()?;
        let alias = if self.accept(Keyword::As) { Some(self.name()?) } else { None };
        Ok(Selector { selectable, alias })
    }

    /// An expression over a row.
    pub(super) fn selectable(&mut self) -> Parsed<Selectable> {
        let mut left = self.selectable_product()?;
        let mut levels = 0;
        loop {
            let operator = match self.kind() {
                Kind::Sign(b'+') => ArithmeticOperator::Add,
                Kind::Sign(b'-') => ArithmeticOperator::Subtract,
                _ => break,
            };
            levels += 1;
            self.deepen(1)?;
            self.advance();
            let right = self.selectable_product()?;
            left =
                Selectable::Arithmetic { operator, left: Box::new(left), right: Box::new(right) };
        }
        self.rise(levels);
        Ok(left)
    }

    fn selectable_product(&mut self) -> Parsed<Selectable> {
        let mut left = self.signed_selectable()?;
        let mut levels = 0;
        loop {
            let operator = match self.kind() {
                Kind::Sign(b'*') => ArithmeticOperator::Multiply,
                Kind::Sign(b'/') => ArithmeticOperator::Divide,
                Kind::Sign(b'%') => ArithmeticOperator::Modulo,
                _ => break,
            };
            levels += 1;
            self.deepen(1)?;
            self.advance();
            let right = self.signed_selectable()?;
            left =
                Selectable::Arithmetic { operator, left: Box::new(left), right: Box::new(right) };
        }
        self.rise(levels);
        Ok(left)
    }

    fn signed_selectable(&mut self) -> Parsed<Selectable> {
        if self.at_sign(b'-') {
            return self.nested(|parser| {
                parser.advance();
                Ok(Selectable::Negation(Box::new(parser.signed_selectable()?)))
            });
        }
        let receiver = self.simple_selectable()?;
        let selectable = self.modifiers(receiver)?;
        self.look_past();
        Ok(selectable)
    }

    /// `.field`, `[key]` and `[from..to]` after an expression. As in Cassandra's parser a bracket that does not read as one
    /// is left where it stands.
    fn modifiers(&mut self, mut receiver: Selectable) -> Parsed<Selectable> {
        let mut levels = 0;
        loop {
            let start = self.checkpoint();
            match self.kind() {
                Kind::Sign(b'.') => {
                    self.advance();
                    let field = self.name()?;
                    receiver = Selectable::Field { receiver: Box::new(receiver), field };
                }
                Kind::Sign(b'[') => match self.nested(Self::subscript) {
                    Ok(Subscript::Element(key)) => {
                        receiver = Selectable::Element { receiver: Box::new(receiver), key };
                    }
                    Ok(Subscript::Slice(from, to)) => {
                        receiver = Selectable::Slice { receiver: Box::new(receiver), from, to };
                    }
                    Err(failure) if failure.is_too_deep() => return Err(failure),
                    Err(_) => {
                        self.restore(&start);
                        break;
                    }
                },
                _ => break,
            }
            levels += 1;
            self.deepen(1)?;
        }
        self.rise(levels);
        Ok(receiver)
    }

    fn subscript(&mut self) -> Parsed<Subscript> {
        self.advance();
        let subscript = if self.kind() == Kind::Range {
            self.advance();
            Subscript::Slice(None, Some(self.term()?))
        } else {
            let key = self.term()?;
            if self.kind() == Kind::Range {
                self.advance();
                let to = if self.at_sign(b']') { None } else { Some(self.term()?) };
                Subscript::Slice(Some(key), to)
            } else {
                Subscript::Element(key)
            }
        };
        self.expect_sign(b']')?;
        Ok(subscript)
    }

    fn simple_selectable(&mut self) -> Parsed<Selectable> {
        if let Some(constant) = self.constant()? {
            return Ok(Selectable::Term(Term::Constant(constant)));
        }
        if let Some(marker) = self.marker()? {
            return Ok(Selectable::Term(Term::BindMarker(marker)));
        }
        match self.kind() {
            Kind::Keyword(Keyword::Null) => {
                self.advance();
                Ok(Selectable::Term(Term::Null))
            }
            Kind::Sign(b'(') if self.is_selected_type_hint() => self.nested(|parser| {
                parser.advance();
                let ty = parser.type_name()?;
                parser.expect_sign(b')')?;
                Ok(Selectable::TypeHint { ty, selectable: Box::new(parser.simple_selectable()?) })
            }),
            Kind::Sign(b'(') => self.nested(|parser| {
                parser.advance();
                let items = parser.list(Self::selectable)?;
                parser.expect_sign(b')')?;
                Ok(Selectable::Tuple(items))
            }),
            Kind::Sign(b'[') => self.nested(|parser| {
                parser.advance();
                let items = if parser.at_sign(b']') {
                    Vec::new()
                } else {
                    parser.list(Self::selectable)?
                };
                parser.expect_sign(b']')?;
                Ok(Selectable::List(items))
            }),
            Kind::Sign(b'{') => self.nested(Self::selected_braces),
            _ => self.column_or_function(),
        }
    }

    /// `(type) expression`: the closing parenthesis of a type is followed by what no selection goes on with.
    fn is_selected_type_hint(&self) -> bool {
        if !self.is_type_hint() {
            return false;
        }
        let mut ahead = 2;
        let mut open = 0_u32;
        loop {
            match self.peek(ahead) {
                Kind::Sign(b'<') => open += 1,
                Kind::Sign(b'>') => open = open.saturating_sub(1),
                Kind::Sign(b')') => break,
                Kind::Sign(b'.' | b',') | Kind::Integer | Kind::String | Kind::DollarString => {}
                Kind::Keyword(Keyword::Set) => {}
                _ if self.is_name(ahead) => {}
                _ => return false,
            }
            ahead += 1;
        }
        open == 0 && self.begins_after_type_hint(ahead + 1)
    }

    fn begins_after_type_hint(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            Kind::Sign(b'(' | b'[' | b'{' | b':') | Kind::QuestionMark => true,
            Kind::Keyword(Keyword::As) => self.peek(ahead + 1) == Kind::Sign(b'('),
            Kind::Keyword(Keyword::Null | Keyword::Token | Keyword::Nan | Keyword::Infinity) => {
                true
            }
            Kind::Sign(_) | Kind::Keyword(Keyword::From) | Kind::End | Kind::Invalid => false,
            Kind::Keyword(_) => self.is_name(ahead),
            Kind::Integer | Kind::NegativeNan | Kind::NegativeInfinity => true,
            _ => true,
        }
    }

    fn selected_braces(&mut self) -> Parsed<Selectable> {
        self.advance();
        if self.accept_sign(b'}') {
            return Ok(Selectable::Set(Vec::new()));
        }
        let first = self.selectable()?;
        let selectable = if self.accept_sign(b':') {
            let mut entries = vec![(first, self.selectable()?)];
            while self.accept_sign(b',') {
                let key = self.selectable()?;
                self.expect_sign(b':')?;
                entries.push((key, self.selectable()?));
            }
            Selectable::Map(entries)
        } else {
            let mut items = vec![first];
            while self.accept_sign(b',') {
                items.push(self.selectable()?);
            }
            Selectable::Set(items)
        };
        self.expect_sign(b'}')?;
        Ok(selectable)
    }

    fn column_or_function(&mut self) -> Parsed<Selectable> {
        if self.peek(1) == Kind::Sign(b'(') {
            return self.nested(Self::selected_call);
        }
        if self.is_name(0) && self.peek(1) == Kind::Sign(b'.') {
            if self.is_function_name(2) && self.peek(3) == Kind::Sign(b'(') {
                return self.nested(Self::selected_function);
            }
            if !self.is_name(2) {
                return self.no_viable_ahead(2);
            }
            return Ok(Selectable::Column(self.name()?));
        }
        if self.accept(Keyword::Token) {
            self.expect_sign(b'(')?;
        }
        let decision = self.position();
        let column = self.name()?;
        if !self.may_follow_column() {
            return self.no_viable_since(decision);
        }
        Ok(Selectable::Column(column))
    }

    fn may_follow_column(&self) -> bool {
        use Keyword::{Allow, As, From, Limit, Order, Per};
        matches!(
            self.kind(),
            Kind::End
                | Kind::Invalid
                | Kind::Sign(
                    b',' | b')'
                        | b']'
                        | b'}'
                        | b':'
                        | b';'
                        | b'.'
                        | b'['
                        | b'+'
                        | b'-'
                        | b'*'
                        | b'/'
                        | b'%'
                )
                | Kind::Keyword(From | As | Order | Per | Limit | Allow)
        )
    }

    fn selected_call(&mut self) -> Parsed<Selectable> {
        match self.kind() {
            Kind::Keyword(Keyword::Count) if self.peek(2) == Kind::Sign(b'*') => {
                (0..3).for_each(|_| self.advance());
                self.expect_sign(b')')?;
                Ok(Selectable::CountRows)
            }
            Kind::Keyword(Keyword::WriteTime) => {
                Ok(Selectable::WriteTime(Box::new(self.column_with_parts()?)))
            }
            Kind::Keyword(Keyword::MaxWriteTime) => {
                Ok(Selectable::MaxWriteTime(Box::new(self.column_with_parts()?)))
            }
            Kind::Keyword(Keyword::Ttl) => Ok(Selectable::Ttl(Box::new(self.column_with_parts()?))),
            Kind::Keyword(Keyword::Cast) => {
                self.advance();
                self.advance();
                let selectable = Box::new(self.selectable()?);
                self.expect(Keyword::As)?;
                let ty = self.native_type()?;
                self.expect_sign(b')')?;
                Ok(Selectable::Cast { selectable, ty })
            }
            _ if self.is_function_name(0) && !self.may_be_argument(2) => self.no_viable_ahead(2),
            _ => self.selected_function(),
        }
    }

    /// What `writetime(` and `ttl(` take.
    fn column_with_parts(&mut self) -> Parsed<Selectable> {
        self.advance();
        self.advance();
        let column = Selectable::Column(self.name()?);
        let column = self.modifiers(column)?;
        self.expect_sign(b')')?;
        Ok(column)
    }

    fn selected_function(&mut self) -> Parsed<Selectable> {
        if !self.is_function_name(0) && self.peek(1) != Kind::Sign(b'.') {
            return if self.is_name(0) { self.no_viable_ahead(1) } else { self.no_viable() };
        }
        let name = self.function_name()?;
        self.expect_sign(b'(')?;
        let arguments = if self.at_sign(b')') { Vec::new() } else { self.list(Self::selectable)? };
        self.expect_sign(b')')?;
        Ok(Selectable::Function { name, arguments })
    }
}

enum Subscript {
    Element(Term),
    Slice(Option<Term>, Option<Term>),
}
