//! Terms.

use crate::ast::{ArithmeticOperator, Constant, QualifiedName, Term};
use crate::keyword::{Class, Keyword};
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    /// Any term, and a look at whether a statement can go on after it.
    pub(crate) fn term(&mut self) -> Parsed<Term> {
        let term = self.sum()?;
        if !self.may_follow_term() {
            return self.no_viable();
        }
        self.look_past();
        Ok(term)
    }

    /// Whether any statement goes on like this after a term.
    pub(crate) fn may_follow_term(&self) -> bool {
        use Keyword::{
            Allow, And, Apply, Asc, Delete, Desc, Group, If, Insert, Limit, Order, Per, Primary,
            Update, Where, With,
        };
        matches!(
            self.kind(),
            Kind::End
                | Kind::Invalid
                | Kind::Range
                | Kind::Sign(b')' | b',' | b']' | b'}' | b':' | b';' | b'+')
                | Kind::Keyword(
                    And | Where
                        | Group
                        | Order
                        | Per
                        | Limit
                        | Allow
                        | If
                        | Primary
                        | Apply
                        | Insert
                        | Update
                        | Delete
                        | Asc
                        | Desc
                        | With
                )
        )
    }

    fn sum(&mut self) -> Parsed<Term> {
        let mut left = self.product()?;
        let mut levels = 0;
        loop {
            let operator = match self.kind() {
                // `value + column` ends an assignment: the column is no term
                Kind::Sign(b'+') if !self.column_ends_assignment() => ArithmeticOperator::Add,
                Kind::Sign(b'-') => ArithmeticOperator::Subtract,
                _ => break,
            };
            levels += 1;
            self.deepen(1)?;
            self.advance();
            let right = self.product()?;
            left = Term::Arithmetic { operator, left: Box::new(left), right: Box::new(right) };
        }
        self.rise(levels);
        Ok(left)
    }

    fn column_ends_assignment(&self) -> bool {
        (self.is_name(1) || self.peek(1) == Kind::EmptyQuotedName)
            && matches!(self.peek(2), Kind::Sign(b',') | Kind::Keyword(Keyword::Where))
    }

    fn product(&mut self) -> Parsed<Term> {
        let mut left = self.signed()?;
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
            let right = self.signed()?;
            left = Term::Arithmetic { operator, left: Box::new(left), right: Box::new(right) };
        }
        self.rise(levels);
        Ok(left)
    }

    fn signed(&mut self) -> Parsed<Term> {
        if self.accept_sign(b'-') {
            return Ok(Term::Negation(Box::new(self.simple_term()?)));
        }
        self.simple_term()
    }

    /// A term without operators.
    fn simple_term(&mut self) -> Parsed<Term> {
        if let Some(constant) = self.constant()? {
            return Ok(Term::Constant(constant));
        }
        if let Some(marker) = self.marker()? {
            return Ok(Term::BindMarker(marker));
        }
        match self.kind() {
            Kind::Keyword(Keyword::Null) => {
                self.advance();
                Ok(Term::Null)
            }
            Kind::Sign(b'[') => self.nested(|parser| {
                parser.advance();
                let items = if parser.at_sign(b']') || parser.kind() == Kind::End {
                    Vec::new()
                } else {
                    parser.list(Self::term)?
                };
                parser.expect_sign(b']')?;
                Ok(Term::List(items))
            }),
            Kind::Sign(b'{') => self.nested(Self::braces),
            Kind::Sign(b'(') => self.nested(Self::parentheses),
            Kind::Keyword(Keyword::Cast) if self.peek(1) == Kind::Sign(b'(') => {
                self.nested(Self::cast)
            }
            _ => self.function(),
        }
    }

    fn cast(&mut self) -> Parsed<Term> {
        self.advance();
        self.advance();
        let term = Box::new(self.simple_term()?);
        self.expect(Keyword::As)?;
        let ty = self.native_type()?;
        self.expect_sign(b')')?;
        Ok(Term::Cast { term, ty })
    }

    /// A set, a map or a user type value.
    fn braces(&mut self) -> Parsed<Term> {
        self.advance();
        if self.accept_sign(b'}') {
            return Ok(Term::Set(Vec::new()));
        }
        if self.is_name(0) && self.peek(1) == Kind::Sign(b':') {
            let fields = self.list(|parser| {
                let field = parser.name()?;
                parser.expect_sign(b':')?;
                Ok((field, parser.term()?))
            })?;
            self.expect_sign(b'}')?;
            return Ok(Term::UserType(fields));
        }
        if matches!(self.kind(), Kind::Identifier | Kind::QuotedName)
            && !matches!(self.peek(1), Kind::Sign(b'(' | b'.'))
        {
            let decision = self.position().saturating_sub(1);
            self.advance();
            return self.no_viable_since(decision);
        }
        let first = self.term()?;
        let term = if self.accept_sign(b':') {
            let mut entries = vec![(first, self.term()?)];
            while self.accept_sign(b',') {
                let key = self.term()?;
                self.expect_sign(b':')?;
                entries.push((key, self.term()?));
            }
            Term::Map(entries)
        } else {
            let mut items = vec![first];
            while self.accept_sign(b',') {
                items.push(self.term()?);
            }
            Term::Set(items)
        };
        self.expect_sign(b'}')?;
        Ok(term)
    }

    /// A tuple or a type hint.
    fn parentheses(&mut self) -> Parsed<Term> {
        if self.is_type_hint() {
            let decision = self.position();
            self.advance();
            if matches!(self.peek(1), Kind::End) {
                self.advance();
                return self.no_viable_since(decision);
            }
            let ty = self.type_name()?;
            self.expect_sign(b')')?;
            let term = Box::new(self.nested(Self::simple_term)?);
            return Ok(Term::TypeHint { ty, term });
        }
        self.tuple()
    }

    /// `(a, b)`
    pub(crate) fn tuple(&mut self) -> Parsed<Term> {
        self.expect_sign(b'(')?;
        let items = self.list(Self::term)?;
        self.expect_sign(b')')?;
        Ok(Term::Tuple(items))
    }

    /// Whether the parenthesis here holds a type, which no bare name in it could otherwise be.
    pub(crate) fn is_type_hint(&self) -> bool {
        match self.peek(1) {
            Kind::Keyword(Keyword::Set) => true,
            Kind::Keyword(Keyword::Cast) if self.peek(2) == Kind::Sign(b'(') => false,
            Kind::String | Kind::DollarString => {
                self.peek(2) == Kind::Sign(b')')
                    && matches!(
                        self.peek(3),
                        Kind::String
                            | Kind::DollarString
                            | Kind::Integer
                            | Kind::Float
                            | Kind::Hex
                            | Kind::Sign(b'[' | b'{')
                    )
            }
            _ if self.is_name(1) => match self.peek(2) {
                Kind::Sign(b'(') => false,
                Kind::Sign(b'.') => self.peek(4) != Kind::Sign(b'('),
                Kind::Sign(b')' | b'<') | Kind::End => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// `[keyspace.]f(a, b)`
    fn function(&mut self) -> Parsed<Term> {
        if self.is_name(0) && self.peek(1) == Kind::Sign(b'.') {
            if !self.is_function_name(2) {
                return self.no_viable_ahead(2);
            }
            if self.peek(3) != Kind::Sign(b'(') {
                return self.no_viable_ahead(3);
            }
        } else if !self.is_function_name(0) && !self.is_name(0) {
            return self.no_viable();
        } else if !self.is_function_name(0) || self.peek(1) != Kind::Sign(b'(') {
            return self.no_viable_ahead(1);
        } else if !self.may_be_argument(2) {
            return self.no_viable_ahead(2);
        }
        let name = self.function_name()?;
        self.nested(|parser| {
            parser.advance();
            let arguments =
                if parser.at_sign(b')') { Vec::new() } else { parser.list(Self::term)? };
            parser.expect_sign(b')')?;
            Ok(Term::Function { name, arguments })
        })
    }

    /// Whether a call can go on after its parenthesis; no word that is reserved begins a term, but for these.
    pub(crate) fn may_be_argument(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            Kind::Keyword(Keyword::Null | Keyword::Token | Keyword::Nan | Keyword::Infinity) => {
                true
            }
            Kind::Keyword(keyword) => keyword.class() != Class::Reserved,
            _ => true,
        }
    }

    /// Whether the lexeme `ahead` can name a function.
    pub(crate) fn is_function_name(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            Kind::Identifier
            | Kind::QuotedName
            | Kind::Keyword(Keyword::Token | Keyword::Count) => true,
            Kind::Keyword(keyword) => matches!(keyword.class(), Class::Free | Class::Type),
            _ => false,
        }
    }

    /// A function's name without a keyspace.
    pub(crate) fn simple_function_name(&mut self) -> Parsed<String> {
        if self.is_function_name(0) { Ok(self.take_name()) } else { self.no_viable() }
    }

    /// `[keyspace.]f`
    pub(crate) fn function_name(&mut self) -> Parsed<QualifiedName> {
        let keyspace = if self.is_name(0) && self.peek(1) == Kind::Sign(b'.') {
            let keyspace = self.name()?;
            self.advance();
            Some(keyspace)
        } else {
            None
        };
        Ok(QualifiedName { keyspace, name: self.simple_function_name()? })
    }

    /// A constant, if one is next.
    pub(crate) fn constant(&mut self) -> Parsed<Option<Constant>> {
        let raw = self.raw(0);
        let constant = match self.kind() {
            Kind::String | Kind::DollarString => {
                return Ok(Some(Constant::String(self.take_string()?)));
            }
            Kind::Integer => Constant::Integer(raw.to_owned()),
            Kind::Float => Constant::Float(raw.to_owned()),
            Kind::Boolean => Constant::Boolean(raw.eq_ignore_ascii_case("true")),
            Kind::Duration => Constant::Duration(raw.to_owned()),
            Kind::Uuid => Constant::Uuid(raw.to_owned()),
            Kind::Hex => Constant::Hex(raw.to_owned()),
            Kind::NegativeNan | Kind::Keyword(Keyword::Nan) => Constant::Float("NaN".to_owned()),
            Kind::Keyword(Keyword::Infinity) => Constant::Float("Infinity".to_owned()),
            Kind::NegativeInfinity => Constant::Float("-Infinity".to_owned()),
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(constant))
    }

    /// An integer or a marker.
    pub(crate) fn integer_or_marker(&mut self) -> Parsed<Term> {
        if self.kind() == Kind::Integer {
            let text = self.raw(0).to_owned();
            self.advance();
            return Ok(Term::Constant(Constant::Integer(text)));
        }
        match self.marker()? {
            Some(marker) => Ok(Term::BindMarker(marker)),
            None => self.no_viable(),
        }
    }
}
