//! Types.

use crate::ast::{NativeType, QualifiedName, TypeName};
use crate::keyword::{Class, Keyword};
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

/// Names that no user type may have.
const RESERVED_TYPE_NAMES: [&str; 7] =
    ["byte", "complex", "enum", "date", "interval", "macaddr", "bitstring"];

impl Parser<'_> {
    /// Any type.
    pub(crate) fn type_name(&mut self) -> Parsed<TypeName> {
        let ty = match (self.kind(), self.peek(1)) {
            (Kind::Keyword(keyword), Kind::Sign(b'<')) if is_parameterised(keyword) => {
                self.advance();
                self.advance();
                self.nested(|parser| parser.parameterised(keyword))?
            }
            (Kind::String | Kind::DollarString, _) => TypeName::Custom(self.take_string()?),
            (_, Kind::Sign(b'.')) => TypeName::UserType(self.user_type_name()?),
            _ => self.simple_type()?,
        };
        Ok(ty)
    }

    /// A type of one word, which Cassandra's parser reads with what follows it.
    fn simple_type(&mut self) -> Parsed<TypeName> {
        let decision = self.position();
        let native = match self.kind() {
            Kind::Keyword(Keyword::Set) => {
                self.advance();
                return Err(self.mismatched("'<'".into()));
            }
            Kind::Keyword(keyword) => native_type(keyword),
            _ => None,
        };
        let is_keyword = matches!(self.kind(), Kind::Keyword(_));
        let ty = match native {
            Some(native) => {
                self.advance();
                TypeName::Native(native)
            }
            None => TypeName::UserType(self.user_type_name()?),
        };
        if is_keyword {
            if !self.may_follow_type() {
                return self.no_viable_since(decision);
            }
            self.look_past();
        }
        Ok(ty)
    }

    fn may_follow_type(&self) -> bool {
        use Keyword::{FinalFunc, InitCond, Language, Masked, Primary, Static, Stype};
        matches!(
            self.kind(),
            Kind::End
                | Kind::Invalid
                | Kind::Sign(b',' | b')' | b'>' | b';')
                | Kind::Keyword(
                    Static | Masked | Primary | FinalFunc | InitCond | Language | Stype
                )
        )
    }

    fn parameterised(&mut self, keyword: Keyword) -> Parsed<TypeName> {
        let ty = match keyword {
            Keyword::Map => {
                let key = self.type_name()?;
                self.expect_sign(b',')?;
                TypeName::Map(Box::new(key), Box::new(self.type_name()?))
            }
            Keyword::List => TypeName::List(Box::new(self.type_name()?)),
            Keyword::Set => TypeName::Set(Box::new(self.type_name()?)),
            Keyword::Tuple => TypeName::Tuple(self.list(Self::type_name)?),
            Keyword::Vector => {
                let element = self.type_name()?;
                self.expect_sign(b',')?;
                if self.kind() != Kind::Integer {
                    return Err(self.mismatched("INTEGER".into()));
                }
                let dimension = self.raw(0).parse();
                let Ok(dimension) = dimension else {
                    return self.refuse(format!("Invalid vector dimension {}", self.raw(0)));
                };
                self.advance();
                TypeName::Vector(Box::new(element), dimension)
            }
            _ => TypeName::Frozen(Box::new(self.type_name()?)),
        };
        self.expect_sign(b'>')?;
        Ok(ty)
    }

    /// The target of CAST.
    pub(crate) fn native_type(&mut self) -> Parsed<NativeType> {
        match self.kind() {
            Kind::Keyword(keyword) if keyword.class() == Class::Type => {
                self.advance();
                native_type(keyword).map_or_else(|| self.no_viable(), Ok)
            }
            _ => self.no_viable(),
        }
    }

    /// `[keyspace.]type`
    pub(crate) fn user_type_name(&mut self) -> Parsed<QualifiedName> {
        let keyspace = if self.is_name(0) && self.peek(1) == Kind::Sign(b'.') {
            let keyspace = self.name()?;
            self.advance();
            Some(keyspace)
        } else {
            None
        };
        if let Kind::Keyword(keyword) = self.kind()
            && matches!(keyword.class(), Class::Type | Class::NoFunction)
            && keyword != Keyword::Key
        {
            if keyspace.is_some() {
                return self.no_viable();
            }
            self.advance();
            return Err(self.mismatched("'.'".into()));
        }
        let quoted = self.kind() == Kind::QuotedName;
        let name = self.name()?;
        if !quoted && RESERVED_TYPE_NAMES.contains(&name.as_str()) {
            return self.refuse(format!("Invalid (reserved) user type name {name}"));
        }
        Ok(QualifiedName { keyspace, name })
    }
}

fn is_parameterised(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::Map
            | Keyword::List
            | Keyword::Set
            | Keyword::Tuple
            | Keyword::Vector
            | Keyword::Frozen
    )
}

/// The native type that a keyword names.
pub(crate) fn native_type(keyword: Keyword) -> Option<NativeType> {
    Some(match keyword {
        Keyword::Ascii => NativeType::Ascii,
        Keyword::BigInt => NativeType::BigInt,
        Keyword::Blob => NativeType::Blob,
        Keyword::Boolean => NativeType::Boolean,
        Keyword::Counter => NativeType::Counter,
        Keyword::Date => NativeType::Date,
        Keyword::Decimal => NativeType::Decimal,
        Keyword::Double => NativeType::Double,
        Keyword::Duration => NativeType::Duration,
        Keyword::Float => NativeType::Float,
        Keyword::Inet => NativeType::Inet,
        Keyword::Int => NativeType::Int,
        Keyword::SmallInt => NativeType::SmallInt,
        Keyword::Text => NativeType::Text,
        Keyword::Time => NativeType::Time,
        Keyword::Timestamp => NativeType::Timestamp,
        Keyword::TimeUuid => NativeType::TimeUuid,
        Keyword::TinyInt => NativeType::TinyInt,
        Keyword::Uuid => NativeType::Uuid,
        Keyword::VarChar => NativeType::VarChar,
        Keyword::VarInt => NativeType::VarInt,
        _ => return None,
    })
}
