//! Roles, users and identities.

use crate::ast::{Access, AlterRole, CreateRole, RoleOptions, StatementKind};
use crate::keyword::Keyword;
use crate::lexer::Kind;
use crate::parser::{Parsed, Parser};

impl Parser<'_> {
    pub(super) fn create_role(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_not_exists = self.if_not_exists()?;
        let name = self.role()?;
        let mut options =
            RoleOptions { login: Some(false), superuser: Some(false), ..RoleOptions::default() };
        self.role_options(&mut options)?;
        Ok(StatementKind::CreateRole(CreateRole { name, if_not_exists, options }))
    }

    pub(super) fn alter_role(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_exists = self.if_exists()?;
        let name = self.role()?;
        let mut options = RoleOptions::default();
        self.role_options(&mut options)?;
        Ok(StatementKind::AlterRole(AlterRole { name, if_exists, options }))
    }

    pub(super) fn create_user(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_not_exists = self.if_not_exists()?;
        let name = self.user()?;
        let mut options =
            RoleOptions { login: Some(true), superuser: Some(false), ..RoleOptions::default() };
        self.user_options(&mut options)?;
        Ok(StatementKind::CreateRole(CreateRole { name, if_not_exists, options }))
    }

    pub(super) fn alter_user(&mut self) -> Parsed<StatementKind> {
        self.advance();
        self.advance();
        let if_exists = self.if_exists()?;
        let name = self.user()?;
        let mut options = RoleOptions::default();
        self.user_options(&mut options)?;
        Ok(StatementKind::AlterRole(AlterRole { name, if_exists, options }))
    }

    /// A role's name; a string is one too.
    pub(super) fn role(&mut self) -> Parsed<String> {
        match self.kind() {
            Kind::String | Kind::DollarString => self.take_string(),
            _ => self.name_of("role names"),
        }
    }

    pub(super) fn user(&mut self) -> Parsed<String> {
        match self.kind() {
            Kind::QuotedName => self.refuse(
                "Quoted strings are are not supported for user names and USER is deprecated, please use ROLE".to_owned(),
            ),
            Kind::String | Kind::DollarString => self.take_string(),
            Kind::Identifier => self.word(),
            _ => self.no_viable(),
        }
    }

    pub(super) fn identity(&mut self) -> Parsed<String> {
        match self.kind() {
            Kind::QuotedName => {
                self.refuse("Quoted strings are are not supported for identity".to_owned())
            }
            Kind::String | Kind::DollarString => self.take_string(),
            Kind::Identifier => self.word(),
            _ => self.no_viable(),
        }
    }

    /// A word in the letter case it is written in: users and identities keep it.
    fn word(&mut self) -> Parsed<String> {
        let word = self.raw(0).to_owned();
        self.advance();
        Ok(word)
    }

    fn role_options(&mut self, options: &mut RoleOptions) -> Parsed<()> {
        if !self.accept(Keyword::With) {
            return Ok(());
        }
        loop {
            self.role_option(options)?;
            if !self.accept(Keyword::And) {
                return self.refuse_two_passwords(options);
            }
        }
    }

    fn role_option(&mut self, options: &mut RoleOptions) -> Parsed<()> {
        let Kind::Keyword(keyword) = self.kind() else {
            return self.no_viable();
        };
        match keyword {
            Keyword::Password => {
                self.advance();
                self.expect_sign(b'=')?;
                options.password = Some(self.take_string()?);
            }
            Keyword::Generated => {
                self.advance();
                self.expect(Keyword::Password)?;
                options.generated_password = true;
            }
            Keyword::Hashed => {
                self.advance();
                self.expect(Keyword::Password)?;
                self.expect_sign(b'=')?;
                options.hashed_password = Some(self.take_string()?);
            }
            Keyword::Options => {
                self.advance();
                self.expect_sign(b'=')?;
                options.options = Some(self.map(false)?);
            }
            Keyword::SuperUser => options.superuser = Some(self.boolean_option()?),
            Keyword::Login => options.login = Some(self.boolean_option()?),
            Keyword::Access => self.access(options)?,
            _ => return self.no_viable(),
        }
        Ok(())
    }

    fn boolean_option(&mut self) -> Parsed<bool> {
        self.advance();
        self.expect_sign(b'=')?;
        if self.kind() != Kind::Boolean {
            return Err(self.mismatched("BOOLEAN".into()));
        }
        let value = self.raw(0).eq_ignore_ascii_case("true");
        self.advance();
        Ok(value)
    }

    /// `ACCESS TO [ALL] DATACENTERS ..` and `ACCESS FROM [ALL] CIDRS ..`
    fn access(&mut self, options: &mut RoleOptions) -> Parsed<()> {
        self.advance();
        let to = self.accept(Keyword::To);
        if !to && !self.accept(Keyword::From) {
            return self.no_viable();
        }
        let all = self.accept(Keyword::All);
        self.expect(if to { Keyword::Datacenters } else { Keyword::Cidrs })?;
        let access = if all {
            Access::All
        } else {
            self.expect_sign(b'{')?;
            let names = self.list(Self::take_string)?;
            self.expect_sign(b'}')?;
            Access::Only(names)
        };
        *(if to { &mut options.datacenters } else { &mut options.cidrs }) = Some(access);
        Ok(())
    }

    /// `[WITH [HASHED] PASSWORD '..'] [SUPERUSER | NOSUPERUSER]`
    fn user_options(&mut self, options: &mut RoleOptions) -> Parsed<()> {
        if self.accept(Keyword::With) {
            if self.accept(Keyword::Generated) {
                self.expect(Keyword::Password)?;
                options.generated_password = true;
            } else if self.accept(Keyword::Hashed) {
                self.expect(Keyword::Password)?;
                options.hashed_password = Some(self.take_string()?);
            } else if self.accept(Keyword::Password) {
                options.password = Some(self.take_string()?);
            } else {
                return self.no_viable();
            }
        }
        if self.accept(Keyword::SuperUser) {
            options.superuser = Some(true);
        } else if self.accept(Keyword::NoSuperUser) {
            options.superuser = Some(false);
        }
        self.refuse_two_passwords(options)
    }

    fn refuse_two_passwords(&self, options: &RoleOptions) -> Parsed<()> {
        let given = [
            ("password", options.password.is_some()),
            ("hashed password", options.hashed_password.is_some()),
            ("generated password", options.generated_password),
        ];
        let mut given = given.iter().filter(|(_, given)| *given).map(|(name, _)| name);
        match (given.next(), given.next()) {
            (Some(first), Some(second)) => {
                self.refuse(format!("Options '{first}' and '{second}' are mutually exclusive"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn add_identity(&mut self) -> Parsed<StatementKind> {
        self.expect_all(&[Keyword::Add, Keyword::Identity])?;
        let if_not_exists = self.if_not_exists()?;
        let identity = self.identity()?;
        self.expect_all(&[Keyword::To, Keyword::Role])?;
        Ok(StatementKind::AddIdentity { identity, role: self.identity()?, if_not_exists })
    }
}
